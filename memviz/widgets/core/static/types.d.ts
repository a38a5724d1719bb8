/** What the checker knows of the front end. A view adds its own fields to `Store` in its own folder. */

/** `label` and `one` are what it and one of its units are called; `name` is its path. */
interface Layer { name: string; label: string; one: string; kind: string; units: number; start: number; dead?: number[] }
interface Group { name: string; count: number }
interface Choice { key: string; label: string; kind?: string; measure?: string; group?: string }

/** What never changes, as Python sends it. */
interface Study {
  name: string; summary: string; classes: string[]; groups: Group[]; layers: Layer[]; units: number; examples: number;
  scores: Choice[]; interventions: Choice[]; methods: Choice[]; variants?: Choice[];
  image: { height: number; width: number; channels: number; ink: boolean; asked?: boolean };
}

/** What the user looks at. */
interface State {
  version: number; layers: string[]; units: string; intervention: string; score: string; method: string;
  opened: number | null; top: number | null; variant: string; undo: boolean; redo: boolean; history?: string;
}

/** A score of every unit: `state` is 0 unknown, 1 estimated, 2 exact. */
interface Score {
  key: string; label: string; measure: string; note: string; kind: string; done: number; total: number; cancelled?: boolean; why?: string;
  unranked?: string[]; floor?: number; value: Float32Array; state: Uint8Array;
  low: number; max: number; order: Uint32Array; rank: Uint32Array;
}

interface Sheet { tile: [number, number]; columns: number; first: number; count: number; bitmap: ImageBitmap }
interface Readout { version: number; ablated?: string; key?: string; off?: Uint8Array; sentence: string; intervention_words: string; units: number; of: number; groups: any[] }
/** What is known of the units that are off before the kernel has answered. */
interface Frame { guess: boolean; units: number; of: number; intervention_words: string; groups: any[]; examples: { before: Uint16Array; after: Uint16Array; change: Float32Array } | null; sentence: string }
interface RandomUnits { version: number; units: number; draws: number; of: number; words: string; groups: any[] }
interface Example { index: number; version: number; method: string; words: string; target: any; arrays: any[]; prob_before: Float32Array; prob_after?: Float32Array; [array: string]: any }
interface Progress { job: string; words: string; done: number; total: number }

/** Takes a message; false where it is out of date. */
type Taker = (msg: any, arrays: Record<string, any>) => boolean | void;

interface Store {
  saved: boolean; gone: boolean; study: Study; state: State; group: Uint16Array; label: Uint16Array; truth: Uint16Array; layerOf: Uint16Array;
  sheets: Sheet[]; off: Uint8Array; preview: Uint8Array; sentence: string; readout: Readout; ahead: Readout; random: RandomUnits; frame: Frame | null;
  before: Uint16Array; after: Uint16Array; change: Float32Array; scores: Map<string, Score>;
  lost: Uint16Array; lostState: Uint8Array; most: Uint32Array; examples: Map<string, Example>;
  /** What a saved page that answers clicks says of itself: "… a running kernel." */
  rule?: string;
  progress: Progress; code: string; error: string; note: string; file?: { text: string; href: string };
  subscribe(fn: (kinds: string[]) => void): () => void;
  emit(...kinds: string[]): void;
  hello(): void;
  ask(msg: { type: string; [field: string]: any }): void;
  close(): void;
  score(): Score;
  ranked(): any;
  example(): Example;
  rowOf(unit: string): number;
  layer(row: number): Layer;
  offCount(layer: Layer): number;
  swept(key: string): boolean;
  className(index: number): string;
  groupName(example: number): string;
  flipped(example: number): boolean;
  toggle(rows: number[]): void;
  top(k: number): void;
  peek(k: number | null): void;
  want(key: "score" | "intervention" | "variant" | "method" | "layers" | "open", value: any): void;
  choose(key: "score" | "intervention" | "variant" | "method" | "layers" | "open", value: any): void;
  receive(msg: any, buffers?: any[]): void;
  /** What a view knows before the kernel answers; null where it knows nothing. */
  alone: { toggle(rows: number[]): void; move(off: Uint8Array, k: number): void; ask(msg: { type: string }): void } | null;
  readonly fixed: boolean;
  /** Whether this saved page may switch units by itself. */
  answers: boolean;
  foresee(key: string, off: Uint8Array, ahead: Readout | null): Frame | null;
}

interface Palette {
  key: string; steps: string[]; plus: string[]; minus: string[]; ramp: Uint8ClampedArray; hatches: Map<string, CanvasPattern>;
  paper: string; ink: string; soft: string; line: string; edge: string; wash: string; null: string; a0: string; on: string;
}

/** One view on the page. */
interface View {
  store: Store; root: HTMLElement; part: string; main: boolean; cell: [number, number]; needs: string; uid: string;
  palette: Palette; picture(canvas: HTMLCanvasElement, example: number): boolean;
}

/** A part of a view: drawn anew by `update`, where `prompt` at once; `watch` is measured too. */
interface Region { root: HTMLElement; update(dirty: Set<string>): void; prompt?: boolean; watch?: HTMLElement; destroy?(): void }

/** A kind of view, as `registerView` keeps it. */
interface Kind {
  /** What Python calls it, and what a screen reader says. */
  part: string; title: string;
  /** Copies code when asked: one of the views that a page has alone. */
  main: boolean;
  /** Size and pitch of a unit's cell in px, where they do not follow from the number of units. */
  cell: [number, number];
  /** What a saved page cannot do: "… a running kernel." */
  needs: string;
  /** Whether its saved page may switch units by itself: everything in it follows. */
  alone: boolean;
  /** Its fields of the store, and who takes its messages; `study` may empty them. */
  state(): object;
  takers(store: Store): Record<string, Taker>;
  /** Messages that a new view draws, and those that answer a click. */
  dirty: string[]; prompt: string[];
  /** Puts its regions into `view.root`. */
  build(view: View): Region[];
}

/** What a view's file says of it; the rest is empty. */
type Announced = Pick<Kind, "part" | "title" | "build"> & Partial<Kind>;

/** `tell` throws once the kernel has gone; `saved` is a page without one, which `answers` by itself or not. */
type CreatesStore = (tell: (msg: object) => void, saved?: boolean, answers?: boolean) => Store;

type Pen = CanvasRenderingContext2D;
type DrawsImage = (canvas: HTMLCanvasElement, pixels: Uint8Array, shape: number[], ink: boolean, palette: Palette) => void;
type DrawsAttribution = (canvas: HTMLCanvasElement, values: Float32Array, shape: number[], largest: number, palette: Palette, width: number) => void;
type Outlines = (pen: Pen, colour: string, width: number, stroke: () => void) => void;
type DrawsOff = (pen: Pen, x: number, y: number, size: number, palette: Palette, box: any, foot: string) => void;
type Hatches = (pen: Pen, palette: Palette, colour: string, scale: number) => CanvasPattern;
type Shapes = (name: string, x: number, y: number, r: number) => any;
type Makes = (tag: string, attrs?: object, ...children: (Node | string | number | null | undefined)[]) => any;
type Segments = (name: string, label: string, pick: (key: string) => void) => { root: any; show(options: Choice[], chosen: string, disabled: boolean): void };
type Throttles = (fn: (...args: any[]) => void, wait: number) => any;
type Mounts = (root: HTMLElement, part: string, snapshot: any[]) => () => void;
type SaysUnit = (store: Store, row: number) => { name: string; rank: string; on: string; parts: string[][]; score: string };

/** Both return what stops them. */
type Watches = (node: HTMLElement, fn: () => void) => () => void;
type CreatesView = (store: Store, host: HTMLElement, part: string) => () => void;
type Fits = (units: number, width: number, pitch: number) => number;
