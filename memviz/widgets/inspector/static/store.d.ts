/** What the inspector keeps in the store. */

interface ExampleScore { name: string; measure: string; value: number | null; rank: number | null; of: number; null: [number, number] | null }
interface Inspected {
  index: number; scores: ExampleScore[]; units: { unit: string; lost: number; exact: boolean }[];
  curve?: { epochs: number[]; margin: number[] }; neighbours?: { index: number; cosine: number }[];
}
interface Store { inspected?: Inspected }
