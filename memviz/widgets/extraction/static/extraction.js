// @ts-check
/** The explorer's main region: passages, the opened one token by token, and the figures of all. */
import { el } from "../../core/static/dom.js";
import { lengthCurve } from "./length.js";
import { passageList } from "./list.js";
import { passagePrompt } from "./prompt.js";
import { readColumn } from "./read.js";
import { breaks } from "./strips.js";
import { tokenGrid } from "./tokens.js";

const REDRAWN = ["study", "state", "passages", "passage", "recited", "recited_null", "prompt_curve", "theme", "size"];

/** @param {View} view */
export function extractionRegion(view) {
  const { store } = view;
  const [list, head, grid, strips, read] = [passageList(view), passagePrompt(view), tokenGrid(view), breaks(view), readColumn(view)];
  const lengths = lengthCurve(view, (length) => (head.at(length), grid.at(length)));
  const waiting = el("p", { class: "mv-empty" }, "Reading the passages …");
  const under = el("div", { class: "mv-ex-under" }, strips.root, grid.card);
  const middle = el("div", { class: "mv-ex-main" }, waiting, head.root, grid.root, under, lengths.root);
  const root = el("div", { class: "mv-ex" }, list.root, middle, read.root);
  const destroy = () => [list, lengths].forEach((part) => part.destroy());
  /** @param {Set<string>} dirty */
  function update(dirty) {
    if (!store.study || !REDRAWN.some((kind) => dirty.has(kind))) return;
    waiting.hidden = Boolean(store.extraction.passage);
    under.hidden = !store.extraction.passage;
    list.update(dirty);
    grid.update(dirty);
    lengths.update(dirty);
    for (const part of [head, strips, read]) part.update();
  }
  return { root, update, prompt: true, destroy };
}
