/** What the density explorer keeps in the store. Rates and epochs are named by their places. */

interface DensityPoint { q95: number | null; null: [number | null, number | null]; held_out: number | null }
interface DensityTable { rates: number[]; epochs: number[]; curves: DensityPoint[][]; held_out: string[]; of_model: [number, number] | null; examples: Uint32Array; times: Uint16Array; column: Int32Array }
interface DensityValues { m: Float32Array; inside: Float32Array; outside: Float32Array; matched: Float32Array; null_low: Float32Array; null_high: Float32Array }
interface DensityImage { index: number; covered: boolean; trainings: number; log_p: Float32Array; side: Uint8Array }
interface DensityNearest {
  index: number; trained: number[]; trained_distances: number[]; generated_distances: number[]; of: number;
  held_out_distance: number | null; shape: number[]; generated: Uint8Array;
}
interface DensityReconstruction { index: number; version: number; units: number; own: boolean; draws: number; errors: Record<string, number>; shape: number[]; [picture: string]: any }
interface DensityRow { name: string; measure: string; n: number; before: number | null; after: number | null; low: number | null; high: number | null; shift: number | null; random: [number, number, number] | null }
interface DensityFigures { version: number; units: number; of: number; draws: number; rows: DensityRow[] }
interface Store {
  density?: DensityTable; densityAt?: { rate: number; epoch: number; asked: number }; densityValues?: Map<string, DensityValues>;
  densityImage?: DensityImage; densityNearest?: DensityNearest; densityRatios?: { ratio: Float32Array; quartiles: [number | null, number | null] }; densityReconstruction?: DensityReconstruction; densityFigures?: DensityFigures;
}
