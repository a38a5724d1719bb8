// @ts-check
/** A saved page ablates single units by itself, exactly: their figures came with it as tables. */
import { actAlone } from "../../core/static/saved.js";

const SETS = "The page knows single units, each ablated alone; sets of units need a running kernel.";

/** @param {Store} store @param {any} msg @param {any} arrays */
export function keepTables(store, msg, arrays) {
  const { gaps, chance, state } = store;
  const entry = new Map(Array.from(arrays.unit, (row, i) => [row, i + 1])); // 0: nothing ablated
  const place = new Map([...store.album.pairs.keys()].map((row, i) => [row, i]));
  store.tables = { ...msg, ...arrays, entry, place, home: { units: state.units, gaps, chance } };
  store.rule = `${msg.rule}; other units, sets and edited captions need`;
  if (!store.answers || !arrays.unit.length) return;
  store.foresee = (_key, off) => (entryOf(store, off) < 0 ? null : /** @type {any} */ ({}));
  const acts = actAlone(store);
  /** @param {Uint8Array} off @param {number | null} [top] */
  function move(off, top = null) {
    store.preview = null;
    if (off.reduce((n, x) => n + x, 0) > 1) store.receive({ type: "exported", text: SETS });
    else acts.move(off, top);
    store.emit("preview");
  }
  /** A click ablates that unit alone, or switches it on again. @param {number[]} rows */
  function toggle(rows) {
    const off = new Uint8Array(store.study.units);
    const others = store.off.some((x, row) => x && row !== rows[0]);
    for (const row of rows) off[row] = rows.length > 1 || others || !store.off[row] ? 1 : 0;
    move(off);
  }
  /** Undo, redo and reset. @param {{ type: string }} msg */
  function ask(msg) {
    store.note = "";
    acts.ask(msg);
  }
  store.alone = { ask, move, toggle };
}

/** Which entry of the tables it is; −1 where they have none. @param {Store} store @param {Uint8Array} off */
function entryOf(store, off) {
  const rows = [];
  off.forEach((x, row) => x && rows.push(row));
  return rows.length > 1 ? -1 : rows.length ? store.tables.entry.get(rows[0]) ?? -1 : 0;
}

const orNull = (x) => (Number.isNaN(x) ? null : x);

/** What the tables say of the unit that is off, in place of what the page was saved with. @param {Store} store @param {Pair | undefined} pair */
export function presentTables(store, pair) {
  const { tables, state } = store;
  const { home } = tables;
  const e = entryOf(store, store.off);
  if (state.units === home.units) Object.assign(store, { gaps: home.gaps, chance: home.chance });
  if (state.units === home.units || e < 0) return;
  const at = (name, size) => tables[name].subarray(e * size, (e + 1) * size);
  const values = at("figures", home.gaps.figures.length);
  const figures = home.gaps.figures.map((figure, i) => ({ ...figure, after: orNull(values[i]) }));
  const curve = at("curve", home.gaps.beforeCurve.length);
  const now = pair && pairNow(tables, e, pair);
  const sentence = toldAlone(tables, e, pair);
  Object.assign(store, { gaps: { ...home.gaps, figures, afterCurve: curve, units: e ? 1 : 0, sentence }, chance: null, pair: now, sentence });
}

/** @param {Tables} tables @param {number} e @param {Pair} pair @returns {Pair} */
function pairNow(tables, e, pair) {
  const { shown, k, place } = tables;
  const n = place.size;
  const p = place.get(pair.row);
  const before = Array.from(tables.before.subarray(p * k, (p + 1) * k));
  const near = Array.from(tables.near.subarray((e * n + p) * shown, (e * n + p + 1) * shown));
  const side = {
    pictures: near.map((i) => tables.picture[i]),
    objects: near.map((i) => tables.objects[i]),
    precision: orNull(tables.levels[tables.precision[e * n + p]]),
    recall: orNull(tables.levels[tables.recall[e * n + p]]),
  };
  const [target, , ...reference] = pair.sides;
  const lost = near.map((_, i) => Boolean((tables.lost[e * n + p] >> i) & 1));
  return { ...pair, sides: [target, side, ...reference], came: near.map((i) => before.indexOf(i)), lost, units: e ? 1 : 0 };
}

/** What happened, as Python says it. @param {Tables} tables @param {number} e @param {Pair | undefined} pair */
function toldAlone(tables, e, pair) {
  const [start, end] = tables.words[e];
  if (!end) return start;
  const said = (i) => (pair ? tables.said[tables.recall[i * tables.place.size + tables.place.get(pair.row)]] : "");
  return said(e) ? `${start}this pair's recall ${said(0)} → ${said(e)}, ${end}` : start + end;
}
