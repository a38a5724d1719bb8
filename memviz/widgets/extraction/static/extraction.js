// @ts-check
/** The explorer's main region: passages, the opened one token by token, and the figures of all. */
import { count, el, say } from "../../core/static/dom.js";
import { passageList } from "./list.js";
import { readColumn } from "./read.js";
import { breaks } from "./strips.js";
import { tokenGrid } from "./tokens.js";

const REDRAWN = ["study", "state", "passages", "passage", "recited", "recited_null", "theme", "size"];

/** @param {View} view */
function passageHead(view) {
  const { store } = view;
  const [name, about] = [el("span"), el("small")];
  const [left, prompt] = [el("span", { class: "mv-soft" }), el("span")];
  const text = el("p", { class: "mv-ex-prompt" }, el("span", { class: "mv-ex-lab" }, "prompt"), left, prompt);
  const root = el("div", {}, el("div", { class: "mv-ex-title" }, el("h3", {}, name, " ", about)), text);
  function update() {
    const p = store.extraction.passage;
    root.hidden = !p;
    if (!p) return;
    const copies = p.held ? "held out · " : p.copies === null ? "" : `×${count(p.copies)} ${p.copies === 1 ? "copy" : "copies"} · `;
    say(name, `Passage ${p.row}`);
    say(about, `${copies}${count(p.length)} + ${count(p.true.length)} tokens`);
    say(left, p.left);
    say(prompt, p.prompt);
  }
  return { root, update };
}

/** @param {View} view */
export function extractionRegion(view) {
  const { store } = view;
  const [list, head, grid, strips, read] = [passageList(view), passageHead(view), tokenGrid(view), breaks(view), readColumn(view)];
  const waiting = el("p", { class: "mv-empty" }, "Reading the passages …");
  const under = el("div", { class: "mv-ex-under" }, strips.root, grid.card);
  const middle = el("div", { class: "mv-ex-main" }, waiting, head.root, grid.root, under);
  const root = el("div", { class: "mv-ex" }, list.root, middle, read.root);
  /** @param {Set<string>} dirty */
  function update(dirty) {
    if (!store.study || !REDRAWN.some((kind) => dirty.has(kind))) return;
    waiting.hidden = Boolean(store.extraction.passage);
    under.hidden = !store.extraction.passage;
    list.update(dirty);
    grid.update(dirty);
    for (const part of [head, strips, read]) part.update();
  }
  return { root, update, prompt: true, destroy: list.destroy };
}
