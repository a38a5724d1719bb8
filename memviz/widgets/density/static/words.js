// @ts-check
/** Numbers and sentences of the density explorer, and what it asks of Python. */
import { count } from "../../core/static/dom.js";

const DRAG_SETTLE = 400; // ms for which a drag outlives an older place that crosses it on the way

/** Nats with one decimal and a true minus sign, as Python says them. @param {any} x */
export function nats(x) {
  if (Math.abs(x) === Infinity) return x > 0 ? "∞" : "−∞";
  return typeof x === "number" && Number.isFinite(x) ? x.toFixed(1).replace(/^-(?=0\.0$)/, "").replace("-", "−") : "unknown";
}

/** The same for a narrow place: ".7", "−.3". @param {any} x */
export function shortNats(x) {
  return typeof x === "number" && !Number.isNaN(x) ? nats(x).replace(/^(−?)0\./, "$1.") : "–";
}

/** A learning rate as "10⁻³" or "3·10⁻⁴". @param {number} rate */
export function rateWords(rate) {
  const [digits, power] = rate.toExponential().split("e");
  const raised = String(Number(power)).replace(/./g, (c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)]);
  return `${Number(digits) === 1 ? "" : `${Number(Number(digits).toPrecision(3))}·`}10${raised}`;
}

/** Round numbers from `low` to `high`, about `n` of them. @param {number} low @param {number} high @param {number} n */
export function roundTicks(low, high, n) {
  const span = high - low;
  if (!(span > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(span / n));
  const step = [1, 2, 5, 10].map((f) => f * power).find((s) => span / s <= n) || 10 * power;
  const ticks = [];
  for (let t = Math.ceil(low / step - 1e-9); t * step <= high + step * 1e-9; t++) ticks.push(Number((t * step).toPrecision(12)));
  return ticks;
}

/** A tick's number. @param {number} t */
export function tickWords(t) {
  return String(t).replace(/^(-?)0\./, "$1.").replace("-", "−");
}

/** The values at the rate and epoch looked at. @param {Store} store @returns {DensityValues | null} */
export function valuesNow(store) {
  const at = store.densityAt;
  return (at && store.densityValues.get(`${at.rate} ${at.epoch}`)) || null;
}

/** The table's column of an example, or −1. @param {Store} store @param {number | null} example */
export function columnOf(store, example) {
  return store.density && example !== null && example !== undefined ? store.density.column[example] : -1;
}

/** The opened image and the units that are off; as in Python's own words. @param {Store} store */
export function densitySentence(store) {
  const { density, densityAt: at, state } = store;
  if (!density || !at || !state) return "";
  const parts = [];
  const values = valuesNow(store);
  const column = columnOf(store, state.opened);
  if (state.opened === null) parts.push("Open an image");
  else if (column < 0) parts.push(`Image ${count(state.opened)} was in no training`);
  else if (values) {
    parts.push(`Image ${count(state.opened)} after ${count(density.epochs[at.epoch])} epochs: M ${nats(values.m[column])} nats, null ${nats(values.null_low[column])} to ${nats(values.null_high[column])}`);
  }
  const figures = store.densityFigures;
  if (figures && figures.units) parts.push(`${count(figures.units)} unit${figures.units > 1 ? "s" : ""} off: ${figures.rows.map((row) => `${row.name} ${row.measure} ${nats(row.before)} → ${nats(row.after)}`).join(", ")}`);
  return parts.length ? `${parts.join("; ")}.` : "";
}

/** Look at another learning rate or epoch: at once here, then in Python. @param {Store} store @param {number} rate @param {number} epoch @param {(msg: object) => void} send */
export function lookAt(store, rate, epoch, send) {
  const last = { rate: store.density.rates.length - 1, epoch: store.density.epochs.length - 1 };
  const to = { rate: Math.max(0, Math.min(last.rate, rate)), epoch: Math.max(0, Math.min(last.epoch, epoch)) };
  if (to.rate === store.densityAt.rate && to.epoch === store.densityAt.epoch) return;
  store.densityAt = { ...to, asked: performance.now() };
  store.emit("density_at");
  send({ type: "density_at", ...to });
}

/** Whether a place that Python sends is an older one than the drag's. @param {Store} store @param {any} msg */
export function isOverrun(store, msg) {
  const at = store.densityAt;
  return Boolean(at) && (at.rate !== msg.rate || at.epoch !== msg.epoch) && performance.now() - at.asked < DRAG_SETTLE;
}
