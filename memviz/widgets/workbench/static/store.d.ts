/** What single units do, as the workbench keeps it in the store. */

/** Figures of each unit alone, `[units × groups]`; `known` where they are exact. */
interface Singles { key: string; of: number; intervention_words: string; groups: any[]; known: Uint8Array; right: Uint32Array; lost: Uint32Array; gained: Uint32Array; mean: Float64Array; half: Float64Array }
/** Each example's change without each unit, in whole steps of the unit's own size, and the predictions that change. */
interface Margins { key: string; error: number; change: Int16Array | Int8Array; step: Float32Array; margin: Float32Array; before: Uint16Array; told: Uint8Array; example: Uint32Array; said: Uint16Array; first: Map<number, [number, number]> }
interface Store { singles?: Map<string, Singles>; margins?: Margins | null; adding?: string; marks?: Map<number, string>; thumbnail?(example: number): Sheet | undefined; mark?(example: number, key: string): void }
