// @ts-check
/**
 * The answer in the frame of the click: one unit exactly, from the tables of a sweep; a set, until the kernel
 * has answered, as the sum of its units' single effects, which is an estimate and marked as one.
 */
import { figure, share } from "../../core/static/dom.js";
import { actAlone } from "../../core/static/saved.js";

const Z = 1.959963984540054;

/** Wilson's 95 % interval of a share. @param {number} right @param {number} n */
function wilson(right, n) {
  const share = right / n;
  const centre = (share + (Z * Z) / (2 * n)) / (1 + (Z * Z) / n);
  const half = (Z * Math.sqrt((share * (1 - share)) / n + (Z * Z) / (4 * n * n))) / (1 + (Z * Z) / n);
  return [Math.max(0, centre - half), Math.min(1, centre + half)];
}

/** A share in percent as Python says it. @param {number} x */
function percent(x) {
  const digits = share(x).replace(/.*\./, "").length - 2;
  return `${(100 * Number(share(x))).toFixed(digits)}%`;
}

/** The changes of single examples that the tables hold. @param {any} msg @param {any} arrays @returns {Margins} */
function readMargins(msg, arrays) {
  const first = new Map(); // unit row → [from, to) in the changed predictions
  arrays.row.forEach((row, i) => {
    if (!first.has(row)) first.set(row, [i, i]);
    first.get(row)[1] = i + 1;
  });
  return { ...msg, ...arrays, first };
}

/** One group without the unit. @param {Singles} table @param {number} row @param {number} g */
function exactGroup(table, row, g) {
  const { name, n, before } = table.groups[g];
  const at = row * table.groups.length + g;
  const [correct, margin, half] = [table.right[at], table.mean[at], table.half[at]];
  const [low, high] = wilson(correct, n);
  const after = { accuracy: correct / n, correct, low, high, margin, margin_low: margin - half, margin_high: margin + half };
  return { name, n, before, after, right_to_wrong: table.lost[at], wrong_to_right: table.gained[at], now_true: 0 };
}

/** One group with the single effects added up: no interval, since nobody knows how far off it is. @param {Singles} table @param {number[]} rows @param {number} g */
function addedGroup(table, rows, g) {
  const { name, n, before } = table.groups[g];
  const at = (row) => row * table.groups.length + g;
  const sum = (of) => rows.reduce((total, row) => total + of[at(row)], 0);
  const lost = Math.min(before.correct, sum(table.lost));
  const gained = Math.min(n - before.correct, sum(table.gained));
  const correct = before.correct - lost + gained;
  const margin = rows.reduce((total, row) => total + table.mean[at(row)] - before.margin, before.margin);
  const after = { accuracy: correct / n, correct, low: null, high: null, margin, margin_low: null, margin_high: null };
  return { name, n, before, after, right_to_wrong: lost, wrong_to_right: gained, now_true: 0, guess: true };
}

/** Each example's sum of changes gives the better count. @param {Store} store @param {Margins} margins @param {number[]} rows @param {any[]} groups */
function countAdded(store, margins, rows, groups) {
  const n = margins.margin.length;
  const sums = Float64Array.from(margins.margin);
  for (const row of rows) for (let i = 0; i < n; i++) sums[i] += margins.change[row * n + i] * margins.step[row];
  const index = new Map(store.study.groups.map(({ name }, g) => [g, groups.find((group) => group.name === name)]));
  for (const group of groups) Object.assign(group, { right_to_wrong: 0, wrong_to_right: 0 });
  for (let i = 0; i < n; i++) {
    const group = index.get(store.group[i]);
    if (!group) continue;
    if (margins.margin[i] > 0 && !(sums[i] > 0)) group.right_to_wrong++;
    if (!(margins.margin[i] > 0) && sums[i] > 0) group.wrong_to_right++;
  }
  for (const group of groups) {
    group.after.correct = group.before.correct - group.right_to_wrong + group.wrong_to_right;
    group.after.accuracy = group.after.correct / group.n;
  }
}

/** Every example without the unit; null if the tables do not hold them. @param {Store} store @param {Margins | null} margins @param {number} row −1 for none */
function exactExamples(store, margins, row) {
  if (!margins || (row >= 0 && !margins.told[row])) return null;
  const n = margins.margin.length;
  const after = margins.before.slice();
  const change = new Float32Array(n);
  if (row >= 0) {
    for (let i = 0; i < n; i++) change[i] = margins.change[row * n + i] * margins.step[row];
    const [from, to] = margins.first.get(row) || [0, 0];
    for (let k = from; k < to; k++) after[margins.example[k]] = margins.said[k];
  }
  return { before: margins.before, after, change };
}

/** How many that turned wrong now get their true label. @param {Store} store @param {any} examples @param {any[]} groups */
function countTrue(store, { before, after }, groups) {
  if (!store.truth) return;
  store.study.groups.forEach(({ name }, g) => {
    const group = groups.find((one) => one.name === name);
    if (!group) return;
    for (let i = 0; i < after.length; i++) {
      const [given, truth] = [store.label[i], store.truth[i]];
      if (store.group[i] === g && truth !== given && before[i] === given && after[i] === truth) group.now_true++;
    }
  });
}

/** What changed, in the words of Python's `Readout.sentence`. @param {Store} store @param {number[]} rows @param {number} of @param {any[]} groups */
function frameSentence(store, rows, of, groups) {
  if (!rows.length) return `No unit is ablated: ${groups.map((g) => `${g.name} ${percent(g.before.accuracy)}`).join(", ")}.`;
  const layer = store.layer(rows[0]);
  const what = rows.length === 1 ? `${layer.one} ${rows[0] - layer.start} ablated` : `${rows.length} of ${of} units ablated`;
  const flipped = (g) => g.right_to_wrong + g.wrong_to_right > 0;
  const parts = groups.map((g) => {
    const words = (side) => (flipped(g) ? percent(side.accuracy) : figure(side.margin));
    return `${g.name} ${flipped(g) ? "" : "margin "}${words(g.before)} → ${g.guess ? "≈ " : ""}${words(g.after)}`;
  });
  return `${what}: ${parts.join(", ")}${groups.some(flipped) ? "" : ", nothing flipped yet"}.`;
}

/** What the tables say of the units that are off now; null where they say nothing. What the kernel has said ahead of the rest stands as it is. @param {Store} store @param {string} key @param {Uint8Array} off @param {Readout | null} ahead @returns {Frame | null} */
function frameOf(store, key, off, ahead) {
  const table = store.singles.get(key);
  if (!table || !table.groups.length) return null;
  const rows = [];
  off.forEach((value, row) => value && rows.push(row));
  if (rows.some((row) => !table.known[row])) return null;
  const margins = store.margins && store.margins.key === key ? store.margins : null;
  const guess = rows.length > 1;
  let groups = table.groups.map((group, g) => {
    if (guess) return addedGroup(table, rows, g);
    if (rows.length) return exactGroup(table, rows[0], g);
    return { name: group.name, n: group.n, before: group.before, after: group.before, right_to_wrong: 0, wrong_to_right: 0, now_true: 0 };
  });
  const examples = guess ? null : exactExamples(store, margins, rows.length ? rows[0] : -1);
  if (guess && margins) countAdded(store, margins, rows, groups);
  if (examples && rows.length) countTrue(store, examples, groups);
  if (ahead) groups = groups.map((group) => ahead.groups.find(({ name }) => name === group.name) || group);
  return { guess, units: rows.length, of: table.of, intervention_words: table.intervention_words, groups, examples, sentence: frameSentence(store, rows, table.of, groups) };
}

/** What the workbench keeps of single units, and who takes it. */
export const frames = {
  state: () => ({ singles: new Map(), margins: null, adding: "", rule: "single units are exact, sets are estimates (≈); all else needs" }),
  /** @param {Store} store @returns {Record<string, Taker>} */
  takers(store) {
    store.foresee = (key, off, ahead) => frameOf(store, key, off, ahead);
    return {
      study: () => void Object.assign(store, { singles: new Map(), margins: null }),
      singles(msg, arrays) {
        if (!store.study || !arrays.mean) return false;
        store.singles.set(msg.key, { ...msg, ...arrays });
        if (store.answers && msg.groups.length) store.alone ??= actAlone(store);
      },
      /** How far off adding was, as measured. */
      adding(msg) {
        store.adding = msg.text;
      },
      margins(msg, arrays) {
        if (!store.study || !arrays.change) return false;
        store.margins = readMargins(msg, arrays);
      },
    };
  },
};
