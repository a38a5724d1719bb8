// @ts-check
/** What the scatter asks of Python; drawn at once, put right by the message that comes back. */

/** Other scores on the axes. @param {Store} store @param {{x?: string, y?: string}} keys */
export function askAxes(store, keys) {
  Object.assign(store.scatter, keys);
  store.ask({ type: "axes", keys });
  store.emit("scatter");
}

/** The pictures of another unit. @param {Store} store @param {string} unit "conv4:17", or an empty text */
export function askUnit(store, unit) {
  store.scatter.unit = unit;
  store.ask({ type: "unit", unit });
  store.emit("scatter");
}
