// @ts-check
/** The gallery with the opened example beside it: a row that several views have. */
import { el } from "../../core/static/dom.js";
import { gallery } from "./gallery.js";
import { openedExample } from "./opened.js";

/** @param {View} view @returns {{root: HTMLElement, regions: Region[]}} */
export function examples(view) {
  const tiles = gallery(view);
  const opened = openedExample(view, () => tiles.focusTile());
  const root = el("div", { class: "mv-examples" }, tiles.bar, el("div", { class: "mv-split" }, tiles.root, opened.root));
  return { root, regions: [tiles, opened] };
}
