// @ts-check
/** Which points a unit owns, and what a click on it does: take it out, or show them. */
import { count } from "../../core/static/dom.js";
import { formatUnits, parseUnits } from "../../core/static/store.js";

/** The points of owners or groups of layer 1 that some of the units belong to. @param {Store} store @param {number[]} rows @returns {Set<number>} */
export function pointsOf(store, rows) {
  const { fn } = store.capacity;
  const chosen = new Set(rows);
  const own = (texts) => new Set(texts.flatMap((text, k) => (parseUnits(text, store.study.layers).some((row) => chosen.has(row)) ? [k] : [])));
  const [owners, groups] = [own(fn.ownerUnits), own(fn.groupUnits)];
  return new Set([...fn.owner.keys()].filter((i) => owners.has(fn.owner[i]) || groups.has(fn.group[i])));
}

/** "" takes units out, "points" shows their points. @param {Store} store @param {string} key */
export function clickTo(store, key) {
  Object.assign(store.capacity, { click: key, held: null });
  store.note = "";
  store.emit("capacity_shown", "exported");
}

/** Show the points of these units, until they are clicked again. @param {Store} store @param {number[]} rows */
function holdPoints(store, rows) {
  const { capacity, study } = store;
  const { fn } = capacity;
  if (!fn || fn.built !== study.built || !rows.length) return;
  const units = formatUnits(rows, study.layers);
  if (capacity.held && capacity.held.units === units) {
    capacity.held = null;
    store.note = "";
  } else {
    const points = pointsOf(store, rows);
    const owner = fn.ownerUnits.indexOf(units);
    const plus = [...points].filter((i) => fn.sign[i]).length;
    capacity.held = { units, points };
    const held = points.size ? `${count(points.size)} of ${count(fn.sign.length)} points, ${count(plus)} + and ${count(points.size - plus)} −, ringed in the chart` : "no points alone";
    store.note = `${owner >= 0 ? `Owner ${owner + 1}` : units} owns ${held}.`;
  }
  store.emit("capacity_shown", "exported");
}

/** A click on a unit asks for its points where that is what a click does. @param {Store} store */
export function watchClicks(store) {
  const { toggle } = store;
  store.toggle = (rows) => (store.capacity.click ? holdPoints(store, rows) : toggle(rows));
}
