/** What the capacity playground keeps in the store. */

interface CapacityMethod { key: string; label: string; units: number }
/** The choices; they come with the state. */
interface CapacitySettings {
  values: { kind: string; n: number; features: number; first: number; second: number; method: string; precision: string; seed: number };
  ends: Record<string, [number, number]>; kinds: Choice[]; methods: CapacityMethod[];
}
/** Values at the points and along the line, before and after. */
interface CapacityFunction {
  built: number; version: number; sentence: string; units: number; null: number | null; off: number[]; right: [number, number];
  layer: string; ownerUnits: string[]; groupUnits: string[]; grouped: boolean;
  along: Float32Array; lineBefore: Float32Array; lineAfter: Float32Array; place: Float32Array; before: Float32Array; after: Float32Array;
  owner: Uint16Array; group: Uint16Array; sign: Uint8Array; moved: Uint8Array;
}
interface CapacityBeside {
  method: string; words: string; units: number | null; largest: number | null; float64: number | null; float32: number | null;
  train: number | null; test: number | null; covered: number | null; refused: string; drawn: boolean; side: number;
  window?: [number, number, number, number]; regions?: Uint8Array; at?: Float32Array; sign?: Uint8Array; radii?: Float32Array;
}
interface CapacityNeeded {
  points: number[]; lines: { method: string; label: string; units: number[] }[]; trained: { points: number; units: number; reached: boolean }[];
}
interface Store { capacity?: { fn: CapacityFunction; beside: Map<string, CapacityBeside>; needed: CapacityNeeded; shown: Set<number> | null; held: { units: string; points: Set<number> } | null; click: string } }
interface State { capacity?: CapacitySettings }
interface Study { built?: number }
