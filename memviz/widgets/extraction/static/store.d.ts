/** What the extraction explorer keeps in the store, and what its study has beside. */

interface PassageLine { row: number; text: string; line: string; held: boolean; copies?: number; value: number | null }
interface PassageList { sort: string; find: string; of: number; matching: number; sorts: Choice[]; passages: PassageLine[] }
interface Tries { p: number; needed: (number | null)[] }
/** A passage as it is opened; chances are of `shown`, three tokens at each place. */
interface Passage {
  version: number; row: number; copies: number | null; held: boolean; prompt: string; own: string[]; length: number; edited: boolean;
  sample: number | null; temperature: number; topK: number | null; units: number;
  true: string[]; saidBefore: string[]; saidAfter: string[]; shown: string[][]; matchedBefore: number; matchedAfter: number;
  tries: { before: Tries | null; after: Tries | null }; sentence: string;
  rightBefore: Uint8Array; rightAfter: Uint8Array; rankBefore: Uint32Array; rankAfter: Uint32Array;
  chanceBefore: Float32Array; chanceAfter: Float32Array;
}
interface RecitedRow { before: number | null; after: number | null; low: number | null; high: number | null; counts?: number[]; of: number }
interface Recited {
  version: number; units: number; sentence: string; rows: { recited?: RecitedRow; held?: RecitedRow; perplexity?: RecitedRow };
  matchedBefore: Uint16Array; matchedAfter: Uint16Array;
}
interface Spread { mean: number | null; low: number | null; high: number | null }
interface RecitedNull {
  version: number; units: number; draws: number; of: number; words: string; row: number | null; whole?: number; matched?: number;
  figures: Record<string, Spread>; right?: Float32Array; chance?: Float32Array; first?: Float32Array;
}
interface PromptCurve { row: number; version: number; units: number; starts: number | null; wrongBefore: string[]; wrongAfter?: string[]; before: Float32Array; after: Float32Array; null: Float32Array }
interface RecitedLadder {
  row: number | null; columns: string[]; name: string; chance: number | null;
  rows: { name: string; weights: number; cells: (number | null)[]; recited: number | null; precision: number | null; recall: number | null }[];
}
interface Store { extraction?: { list: PassageList; passage: Passage; recited: Recited; nulls: RecitedNull; curve: PromptCurve; ladder: RecitedLadder } }
interface Study { prompt?: number; continuation?: number; trained?: number; heldOut?: number; writes?: boolean; wanted?: number[] }
