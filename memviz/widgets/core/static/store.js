// @ts-check
/** What all views of one model share: messages decoded, the newest state, and what is asked of Python. */
import { views } from "./views.js";

const TYPES = { uint8: Uint8Array, uint16: Uint16Array, uint32: Uint32Array, int8: Int8Array, int16: Int16Array, float32: Float32Array, float64: Float64Array };
export const UNKNOWN = 65535; // a label or prediction that is not there
const SETTLE = 2000; // ms for which a click outlives an older state that crosses it on the way

/** Copy each buffer into an aligned typed array. */
export function decode(msg, buffers) {
  const arrays = {};
  for (const [i, { name, dtype }] of (msg.arrays || []).entries()) {
    const view = buffers[i];
    if (!view || !TYPES[dtype]) continue;
    const bytes = view.buffer ? new Uint8Array(view.buffer, view.byteOffset, view.byteLength) : new Uint8Array(view);
    arrays[name] = new TYPES[dtype](bytes.slice().buffer);
  }
  return arrays;
}

// A name that these would break stands in double quotes, as in JSON: '"my layer":5' (see memviz.units).
const BREAKING = /[\s:,"'\\\p{C}\p{Z}]/u;
const PART = /("(?:[^"\\]|\\.)*"|[^\s:]*):([\d,-]+)(?!\S)/g;

/** "conv4:5,17-19 fc:0" → unit rows. Unknown layers and units are left out. @param {string} text @param {Layer[]} layers */
export function parseUnits(text, layers) {
  const rows = [];
  for (const [, word, ranges] of (text || "").matchAll(PART)) {
    const name = word.startsWith('"') ? JSON.parse(word) : word;
    const layer = layers.find((l) => l.name === name);
    if (!layer) continue;
    for (const range of ranges.split(",")) {
      const [from, to = from] = range.split("-").map(Number);
      for (let u = from; u <= Math.min(to, layer.units - 1); u++) rows.push(layer.start + u);
    }
  }
  return rows;
}

/** Unit rows → "conv4:5,17-19 fc:0", in the order of the layers. @param {Iterable<number>} rows @param {Layer[]} layers */
export function formatUnits(rows, layers) {
  const sorted = Uint32Array.from(rows).sort();
  const words = [];
  let i = 0;
  for (const { name, start, units } of layers) {
    const parts = [];
    while (i < sorted.length && sorted[i] < start + units) {
      const from = sorted[i];
      while (i + 1 < sorted.length && sorted[i + 1] === sorted[i] + 1 && sorted[i + 1] < start + units) i++;
      const to = sorted[i++];
      parts.push(from === to ? `${from - start}` : `${from - start}-${to - start}`);
    }
    if (parts.length) words.push(`${BREAKING.test(name) ? JSON.stringify(name) : name}:${parts.join(",")}`);
  }
  return words.join(" ");
}

/**
 * Ends of the scale, the ranked rows and each row's rank. An estimate is never ranked among exact values.
 * A score that can be negative is drawn from its least value up; one with a floor, such as an effect, never lower than that.
 * @param {(row: number) => boolean} unranked @returns {Score}
 */
function rankScores(score, unranked) {
  const { value, state } = score;
  const rows = [];
  let max = -Infinity;
  let min = 0;
  for (let i = 0; i < value.length; i++) {
    if (state[i] === 0 || !Number.isFinite(value[i]) || unranked(i)) continue;
    if (value[i] > max) max = value[i];
    if (value[i] < min) min = value[i];
    if (state[i] === 2 || score.kind !== "exact") rows.push(i);
  }
  score.low = score.floor ?? min;
  score.max = Math.max(max, score.low);
  score.order = Uint32Array.from(rows.sort((a, b) => value[b] - value[a] || a - b));
  score.rank = new Uint32Array(value.length);
  score.order.forEach((row, i) => (score.rank[row] = i + 1));
  return score;
}

/** @type {CreatesStore} */
export function createStore(tell, saved = false, answers = false) {
  const listeners = new Set();
  let asked = -Infinity;
  let settle = 0;
  const pending = new Map(); // unit row → [wanted, time]
  let wanted = null; // {k, when} of the last top-k asked for
  const chosen = new Map(); // what else of the state was asked for → [value, time]
  let truth = null; // the newest state, as Python sent it
  let told = ""; // the study, as Python sent it
  let answered = null; // sentence and examples of the newest readout, as Python sent them
  /** @type {Store} */
  const store = {
    saved,
    answers,
    gone: false,
    study: null, label: null, truth: null, group: null, layerOf: null,
    sheets: [], state: null, off: null, preview: null, sentence: "",
    readout: null, ahead: null, random: null, frame: null, before: null, after: null, change: null,
    scores: new Map(), lost: null, lostState: null, most: null,
    examples: new Map(), progress: null, code: null, error: "", note: "",
    foresee: () => null,
    alone: null,

    /** A saved page with nothing to answer from. */
    get fixed() {
      return saved && !store.alone;
    },
    subscribe(fn) {
      listeners.add(fn);
      return () => listeners.delete(fn);
    },
    emit(...kinds) {
      for (const fn of listeners) fn(kinds);
    },
    hello() {
      if (store.study || performance.now() - asked < 2000) return;
      asked = performance.now();
      send({ type: "hello" });
    },
    /** Ask Python; a saved page has nobody to ask, and does what it can by itself. */
    ask(msg) {
      if (saved) return store.alone && store.alone.ask(msg);
      if (["undo", "redo", "reset"].includes(msg.type)) forget();
      send(msg);
    },
    close() {
      clearTimeout(settle);
      listeners.clear();
    },

    score() {
      return (store.state && store.scores.get(store.state.score)) || null;
    },
    /** Ranked rows of the layers shown. */
    ranked() {
      const score = store.score();
      return score ? score.order.filter((row) => store.state.layers.includes(store.layer(row).name)) : [];
    },
    example() {
      const state = store.state;
      if (!state || state.opened === null) return null;
      return store.examples.get(saved ? `${state.opened} ${state.method}` : `${state.opened}`) || null;
    },
    /** The row of "conv4:17", or −1. */
    rowOf(unit) {
      const [row = -1] = parseUnits(unit, store.study.layers);
      return row;
    },
    layer(row) {
      return store.study.layers[store.layerOf[row]];
    },
    offCount(layer) {
      const off = store.preview || store.off;
      let n = 0;
      if (off) for (let i = layer.start; i < layer.start + layer.units; i++) n += off[i];
      return n;
    },
    /** Whether a score is an exact effect: its estimates only stand in until the sweep reaches them. */
    swept(key) {
      const pick = store.study.scores.find((s) => s.key === key);
      return Boolean(pick) && pick.kind === "exact";
    },
    className(index) {
      const name = store.study.classes[index];
      return name === undefined ? String(index) : String(name);
    },
    groupName(example) {
      const group = store.study.groups[store.group[example]];
      return group ? group.name : "";
    },
    /** Did the last change move this example's prediction to the other side of its given label? */
    flipped(i) {
      return store.after !== null && (store.before[i] === store.label[i]) !== (store.after[i] === store.label[i]);
    },

    // ── what the user does; drawn at once, put right by the state that comes back ──
    toggle(rows) {
      if (store.fixed || !rows.length) return;
      if (saved) return store.alone.toggle(rows);
      for (const row of rows) {
        store.off[row] ^= 1;
        pending.set(row, [store.off[row], performance.now()]);
      }
      if (store.state) store.state.top = null;
      send({ type: "toggle", units: formatUnits(rows, store.study.layers) });
      store.emit("state", ...reframed());
    },
    top(k) {
      if (store.fixed) return;
      if (!store.score()) return store.peek(null); // one was chosen whose values are on their way
      if (saved) return store.alone.move(topRows(k), k);
      pending.clear();
      wanted = { k, when: performance.now() };
      store.preview = null;
      store.off = topRows(k);
      store.state.top = k;
      send({ type: "top", k });
      store.emit("state", "preview", ...reframed());
    },
    peek(k) {
      store.preview = k === null || !store.score() ? null : topRows(k);
      store.emit("preview", ...reframed());
    },
    /** Show a choice before it is asked for; an older state does not undo it. */
    want(key, value) {
      const name = key === "open" ? "opened" : key;
      if (!saved) chosen.set(name, [value, performance.now()]);
      Object.assign(store.state, { [name]: value });
    },
    choose(key, value) {
      if (!store.state) return;
      const field = { layers: "names", open: "example" }[key] || "key";
      store.want(key, value);
      store.ask({ type: key, [field]: value });
      store.emit("state", ...reframed());
    },

    receive(msg, buffers = []) {
      const arrays = decode(msg, buffers);
      const takes = tables.filter((table) => Object.hasOwn(table, msg.type));
      // The store's own comes first: what it finds out of date reaches no view.
      if (takes.length && takes.every((table) => table[msg.type](msg, arrays) !== false)) store.emit(msg.type, ...reframed());
    },
  };

  function send(msg) {
    try {
      if (!store.gone) tell(msg);
    } catch {
      store.gone = true;
      store.emit("gone");
    }
  }

  function topRows(k) {
    const off = new Uint8Array(store.study.units);
    for (const row of store.ranked().slice(0, k)) off[row] = 1;
    return off;
  }

  /** From here on the next state counts as it is. */
  function forget() {
    clearTimeout(settle);
    pending.clear();
    chosen.clear();
    wanted = null;
  }

  function readUnits() {
    clearTimeout(settle);
    const off = new Uint8Array(store.study.units);
    store.state.top = truth.top;
    for (const row of parseUnits(truth.units, store.study.layers)) off[row] = 1;
    store.off = off;
    const late = (when) => performance.now() - when > SETTLE;
    for (const [name, [value, when]] of chosen) {
      const here = late(when) || JSON.stringify(truth[name]) === JSON.stringify(value);
      if (here) chosen.delete(name);
      Object.assign(store.state, { [name]: here ? truth[name] : value });
    }
    if (wanted && (truth.top === wanted.k || late(wanted.when))) wanted = null;
    if (wanted && store.score()) {
      store.state.top = wanted.k;
      store.off = topRows(wanted.k);
    }
    for (const [row, [want, when]] of pending) {
      if (off[row] === want || late(when)) pending.delete(row);
      else store.off[row] = want;
    }
    if (pending.size || wanted || chosen.size) settle = setTimeout(() => (readUnits(), store.emit("state", ...reframed())), SETTLE);
  }

  /** What the kernel says of a set of units, as marks of the units it is about. */
  function about(msg) {
    if (msg.ablated === undefined) return msg;
    const off = new Uint8Array(store.study.units);
    for (const row of parseUnits(msg.ablated, store.study.layers)) off[row] = 1;
    return { ...msg, off };
  }

  /** Show what the tables say where the kernel has not answered yet; the kinds to draw anew. */
  function reframed() {
    if (!store.state || !store.readout || !store.readout.off) return [];
    const key = `${store.state.intervention} ${store.state.variant || ""}`.trim();
    const off = store.preview || store.off;
    const isHere = (said) => Boolean(said) && said.key === key && said.off.every((value, row) => value === off[row]);
    if (store.ahead && store.ahead.off && !isHere(store.ahead)) store.ahead = null;
    const frame = isHere(store.readout) ? null : store.foresee(key, off, store.ahead);
    if (!frame && !store.frame) return [];
    store.frame = frame;
    // A saved page has no kernel that would tell of the examples: it shows none rather than those of another set.
    const examples = frame && (frame.examples || (saved ? { before: null, after: null, change: null } : {}));
    Object.assign(store, answered, frame ? { ...examples, sentence: frame.sentence, error: "", note: "" } : {});
    return ["readout"];
  }

  /** @type {Record<string, Taker>} */
  const takers = {
    study(msg, arrays) {
      // A slow kernel answers twice a view that has asked twice; what was brushed and opened stays.
      const words = JSON.stringify([{ ...msg, scores: [] }, ...Object.values(arrays).map((values) => values.join())]);
      if (store.study && words === told) return ((store.study.scores = msg.scores), false);
      [told, truth] = [words, null];
      Object.assign(store, { study: msg, sheets: [], scores: new Map(), examples: new Map(), ...arrays });
      Object.assign(store, { state: null, off: new Uint8Array(msg.units), sentence: "", readout: null, ahead: null, random: null, frame: null, before: null, after: null, change: null, lost: null, most: null });
      store.layerOf = new Uint16Array(msg.units);
      msg.layers.forEach((layer, i) => store.layerOf.fill(i, layer.start, layer.start + layer.units));
      forget();
    },
    sprites(msg, { png }) {
      if (store.sheets.some((known) => known.tile === msg.tile && known.first === msg.first)) return false;
      const sheet = { tile: msg.tile, columns: msg.columns, first: msg.first, count: msg.count, bitmap: null };
      store.sheets.push(sheet);
      createImageBitmap(new Blob([png], { type: "image/png" })).then(
        (bitmap) => {
          sheet.bitmap = bitmap;
          store.emit("sprites");
        },
        () => undefined, // a picture that cannot be read leaves its frame empty
      );
    },
    state(msg) {
      if (!store.study || (truth && msg.version < truth.version)) return false;
      truth = msg;
      store.state = { ...msg };
      readUnits();
    },
    readout(msg, arrays) {
      if (!store.study || (store.readout && msg.version < store.readout.version)) return false;
      answered = { sentence: msg.sentence, ...arrays };
      Object.assign(store, { readout: about(msg), ahead: null, error: "", note: "", ...answered });
      if (store.random && store.random.version !== msg.version) store.random = null;
    },
    /** One group's figures, sent before all of them where those take long. */
    ahead(msg) {
      if (!store.readout || msg.version <= store.readout.version) return false;
      answered.sentence = msg.sentence;
      Object.assign(store, { ahead: about(msg), sentence: msg.sentence, random: null });
    },
    random(msg) {
      if (!store.readout || msg.version !== store.readout.version) return false;
      store.random = msg;
    },
    scores(msg, arrays) {
      if (!store.study || !arrays.value) return false;
      store.scores.set(msg.key, rankScores({ ...msg, value: arrays.value, state: arrays.state }, (row) => (msg.unranked || []).includes(store.layer(row).name)));
      if (arrays.lost) Object.assign(store, { lost: arrays.lost, lostState: arrays.state });
      if (arrays.most) store.most = arrays.most;
    },
    example(msg, arrays) {
      const key = saved ? `${msg.index} ${msg.method}` : `${msg.index}`;
      const old = store.examples.get(key);
      if (!saved && (!store.state || msg.index !== store.state.opened)) return false;
      if (old && msg.version < old.version) return false;
      if (!saved) store.examples.clear();
      store.examples.set(key, { ...msg, ...arrays });
    },
    /** Scores that another view brought. */
    picks(msg) {
      if (!store.study) return false;
      store.study.scores = msg.scores;
    },
    progress(msg) {
      store.progress = msg.total ? msg : null;
    },
    code(msg) {
      store.code = msg.text;
    },
    error(msg) {
      store.error = msg.text;
    },
    exported(msg) {
      Object.assign(store, msg.file ? { file: msg } : { note: msg.text });
    },
  };
  const tables = [takers];
  for (const view of views.values()) {
    Object.assign(store, view.state());
    tables.push(view.takers(store));
  }
  return store;
}
