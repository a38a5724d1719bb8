// @ts-check
/** A saved page that switches units by itself, as far as the tables of the sweep reach. */
import { formatUnits } from "./store.js";

const UNKNOWN_UNIT = "The page does not know this unit's figures: they need a running kernel.";

/** What the store does in place of asking Python. @param {Store} store */
export function actAlone(store) {
  const past = [];
  const future = [];
  const text = (off) => formatUnits(Array.from(off.keys()).filter((row) => off[row]), store.study.layers);

  Object.assign(store.state, { undo: false, redo: false }); // the history stays with the kernel

  function show(units, top = null) {
    store.receive({ ...store.state, type: "state", version: store.state.version + 1, units, top, undo: past.length > 0, redo: future.length > 0 });
  }

  function move(off, top = null) {
    const units = text(off);
    if (units === store.state.units && top === store.state.top) return;
    const known = (store.readout && store.readout.off && text(store.readout.off) === units) || store.foresee(`${store.state.intervention} ${store.state.variant || ""}`.trim(), off, null);
    if (!known) return store.receive({ type: "exported", text: UNKNOWN_UNIT });
    Object.assign(store, { preview: null, note: "" });
    past.push(store.state.units);
    future.length = 0;
    show(units, top);
  }

  function travel(from, to) {
    if (!from.length) return;
    to.push(store.state.units);
    show(from.pop());
  }

  return {
    toggle(rows) {
      const off = store.off.slice();
      for (const row of rows) off[row] ^= 1;
      move(off);
    },
    move,
    ask({ type }) {
      if (type === "undo") travel(past, future);
      else if (type === "redo") travel(future, past);
      else if (type === "reset") move(new Uint8Array(store.study.units));
    },
  };
}
