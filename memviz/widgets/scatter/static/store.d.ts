/** What the scatter keeps in the store: its axes by key, the pictures of the opened unit, and the brushed rows. */

interface Store {
  scatter?: { x: string; y: string; unit: string };
  firing?: { unit: string; words: string; examples: Uint32Array; values: Float32Array };
  brushed?: Set<number>;
}
