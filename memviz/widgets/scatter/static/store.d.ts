/** What the scatter keeps in the store: its axes by key, and the pictures of the opened unit. */

interface Store {
  scatter?: { x: string; y: string; unit: string };
  firing?: { unit: string; words: string; examples: Uint32Array; values: Float32Array };
}
