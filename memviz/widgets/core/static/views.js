// @ts-check
/** The views that there are. Each is announced by a file of its own; the store and the page read them here. */

/** @type {Map<string, Kind>} by part */
export const views = new Map();

/** Announce a view, once, when its file is read. @param {Announced} view */
export function registerView(view) {
  views.set(view.part, { main: false, cell: null, needs: "switching units needs", alone: false, state: () => ({}), takers: () => ({}), dirty: [], prompt: [], ...view });
}
