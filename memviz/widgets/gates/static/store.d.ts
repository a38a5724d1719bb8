/** What the gate map keeps in the store. A gate is named by its row in the circuit. */

/** A wire is read from a gate's row, from input bit `wire − 2³¹`, or from nothing. */
interface Circuit {
  layers: string[]; classes: number; votes: number; image: number[]; names: string[];
  number: Uint8Array; weight: Float32Array; live: Uint8Array; a: Uint32Array; b: Uint32Array; feature: Uint32Array; above: Float32Array;
  readers: Uint32Array; readersFrom: Uint32Array;
}
interface GateCard { row: number; version: number; shares: Record<string, number[]>; alone: Record<string, string> }
interface TracedBit { row: number | null; bit: number; words: string; reads: TracedBit[] }
interface GateTrace { index: number; version: number; row: number | null; votes_before: number[]; votes: number[]; said: number; tree: TracedBit | null; share: Float32Array; inputs: Uint8Array }
interface GateCurve { name: string; group: string; step: number[]; value: number[]; words: string; dashed: string; mark: string }
interface GateChart {
  title: string; small: string; note: string; lines: GateCurve[];
  level: { value: number; words: string } | null; gap: { step: number; high: number; low: number; words: string } | null;
}
interface Readout { truly?: string }
interface State { chosen?: number | null; settings?: Record<string, number[]> }
interface Store {
  circuit?: Circuit; gateCard?: GateCard; gateTrace?: GateTrace; gateCurves?: { charts: GateChart[]; words: string };
  gateAt?: number | null; gateShow?: string; gateAsked?: number;
}
