/** What the déjà vu explorer keeps in the store, and what its study has beside. */

interface Listed { sort: string; find: string; of: number; matching: number; sorts: Choice[]; pairs: { row: number; caption: string; value: number }[] }
interface Side { pictures: number[]; objects: number[][]; precision: number | null; recall: number | null }
interface Pair {
  version: number; row: number; caption: string; edited: boolean; cut: boolean; private: string[]; objects: number[]; named: number[];
  sides: Side[]; came: number[]; lost: boolean[]; k: number; top: number | null; units: number;
}
interface Gaps {
  version: number; sentence: string; units: number; of: number; pairs: number; held_out: number;
  figures: { name: string; before: number | null; after: number | null }[];
  beforeCurve: Float32Array; afterCurve: Float32Array; referenceCurve: Float32Array;
}
interface RandomGaps { version: number; units: number; draws: number; words: string; recall?: number; figures: { name: string; mean: number | null }[] }
interface Album { pairs: Map<number, Pair>; values: Record<string, Float64Array>; pictured: number; sentence: string; told: string; first: number | null }
/** What each unit alone does, from entry 0, nothing ablated, on; the pairs in the order of the album. */
interface Tables {
  how: string; rule: string; words: [string, string][]; said: string[]; objects: number[][]; shown: number; k: number;
  unit: Uint32Array; figures: Float64Array; curve: Float32Array; levels: Float64Array; precision: Uint16Array; recall: Uint16Array;
  near: Uint16Array; before: Uint16Array; lost: Uint8Array; picture: Uint32Array;
  entry: Map<number, number>; place: Map<number, number>; home: { units: string; gaps: Gaps; chance: RandomGaps };
}
interface Store { tables?: Tables | null; album?: Album | null; tiles?: Map<number, { bitmap: ImageBitmap; x: number; side: number }>; pairs?: Listed; pair?: Pair; gaps?: Gaps; chance?: RandomGaps }
interface Study { towers?: Record<string, string>; objects?: string[] }
