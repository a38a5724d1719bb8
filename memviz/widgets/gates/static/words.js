// @ts-check
/** Gates in words: which of the sixteen, what they are set to, who reads them. */
import { capital, count } from "../../core/static/dom.js";
import { formatUnits } from "../../core/static/store.js";

export const WIRE_INPUT = 2 ** 31; // from here on a wire is read from an input bit
export const WIRE_NOTHING = 2 ** 32 - 1;

/** What a gate can be set to: key, word, key on the keyboard, and which of the sixteen that makes it. */
export const GATE_SETTINGS = [
  { key: "zero", label: "0", press: "0", made: () => 0 },
  { key: "constant 1", label: "1", press: "1", made: () => 15 },
  { key: "input a", label: "a", press: "a", made: () => 3 },
  { key: "input b", label: "b", press: "b", made: () => 5 },
  { key: "negation", label: "not", press: "n", made: (own) => 15 - own },
];

/** How a kind of gate is drawn, from quiet to loud: its step, and which of the sixteen are of it. */
export const GATE_KINDS = [
  { words: "constant", step: 0, of: [0, 15] },
  { words: "wire", step: 2, of: [3, 5] },
  { words: "negation", step: 4, of: [10, 12] },
  { words: "and, or", step: 7, of: [1, 2, 4, 7, 8, 11, 13, 14] },
  { words: "xor", step: 10, of: [6, 9] },
];

/** What the gate is set to; undefined as it was trained. @param {Store} store @param {number} row */
export function settingOf(store, row) {
  const settings = (store.state && store.state.settings) || {};
  return store.off[row] ? GATE_SETTINGS.find(({ key }) => (settings[key] || []).includes(row)) : undefined;
}

/** Which of the sixteen the gate is now. @param {Store} store @param {number} row */
export function numberNow(store, row) {
  const own = store.circuit.number[row];
  const setting = settingOf(store, row);
  return setting ? setting.made(own) : own;
}

/** "layer 2 gate 100" @param {Store} store @param {number} row */
export function gateName(store, row) {
  const place = store.layerOf[row];
  return `${store.circuit.layers[place]} gate ${count(row - store.study.layers[place].start)}`;
}

/** A gate as a screen reader hears it. @param {Store} store @param {number} row */
export function gateLine(store, row) {
  const { circuit, gateTrace: trace } = store;
  const setting = settingOf(store, row);
  const share = trace ? trace.share[row] : NaN;
  const wire = (from) => (from === WIRE_NOTHING ? "nothing" : from < WIRE_INPUT ? gateName(store, from) : `input bit ${count(from - WIRE_INPUT)}`);
  return [
    gateName(store, row), circuit.names[circuit.number[row]], setting && `set to ${setting.label}`,
    share === 0 || share === 1 ? share : share > 0 && `1 at ${Math.round(100 * share)}% of places`,
    !circuit.live[row] && "dead", `reads ${wire(circuit.a[row])} and ${wire(circuit.b[row])}`,
  ].filter((words) => words || words === 0).join(", ");
}

/** Rows that read a gate. @param {Circuit} circuit @param {number} row */
export function readersOf(circuit, row) {
  return circuit.readers.subarray(circuit.readersFrom[row], circuit.readersFrom[row + 1]);
}

/** Who reads whom, from the wires. @param {any} circuit @param {number} units @returns {Circuit} */
export function withReaders(circuit, units) {
  const from = new Uint32Array(units + 2);
  const wires = [circuit.a, circuit.b];
  for (const side of wires) for (const wire of side) if (wire < units) from[wire + 2]++;
  for (let row = 2; row < from.length; row++) from[row] += from[row - 1];
  const readers = new Uint32Array(from[units + 1]);
  for (let row = 0; row < units; row++) for (const side of wires) if (side[row] < units) readers[from[side[row] + 1]++] = row;
  return { ...circuit, readers, readersFrom: from };
}

/** Say something until the next figures. @param {Store} store @param {string} words */
export function tellOnce(store, words) {
  store.note = capital(words);
  store.emit("exported");
}

/** Look at a gate: at once here, then in Python. @param {Store} store @param {number} row */
export function chooseGate(store, row) {
  Object.assign(store, { gateAt: row, gateAsked: performance.now() });
  store.emit("gate_at");
  store.ask({ type: "choose", row });
}

/** Set a gate to something, or with "" put it back; a dead one says so. @param {Store} store @param {number} row @param {string} to */
export function fixGate(store, row, to) {
  if (to && !store.circuit.live[row]) tellOnce(store, `${gateName(store, row)} is dead: nothing reads it, so taking it out changes nothing.`);
  else store.ask({ type: "fix", gates: formatUnits([row], store.study.layers), to });
}
