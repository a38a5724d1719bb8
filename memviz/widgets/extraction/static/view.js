// @ts-check
/** The extraction explorer: passages and tokens first, heads and neurons below. */
import { el } from "../../core/static/dom.js";
import { controls, echoLine, liveLine, toolbar } from "../../core/static/header.js";
import { topSlider } from "../../core/static/top.js";
import { unitMaps } from "../../core/static/units.js";
import { registerView } from "../../core/static/views.js";
import { extractionRegion } from "./extraction.js";
import { ladderTable } from "./ladder.js";

const HEAD_CELL = [27, 28]; // px of a head's cell and its pitch
const NEURON_CELL = [11, 12];

const noPassageYet = () => ({ extraction: { list: null, passage: null, recited: null, nulls: null, curve: null, ladder: null } });

/** @param {Store} store @returns {Record<string, Taker>} */
const passageTakers = (store) => ({
  study() {
    Object.assign(store, noPassageYet());
  },
  passages(msg) {
    store.extraction.list = msg;
  },
  passage(msg, arrays) {
    const known = store.extraction.passage;
    if (!store.study || (known && msg.version < known.version)) return false;
    store.extraction.passage = { ...msg, ...arrays };
    if (msg.sentence) store.sentence = msg.sentence;
  },
  recited(msg, arrays) {
    const known = store.extraction.recited;
    if (!store.study || (known && msg.version < known.version)) return false;
    store.extraction.recited = { ...msg, ...arrays };
    Object.assign(store, { sentence: msg.sentence, error: "", note: "" });
  },
  recited_null(msg, arrays) {
    store.extraction.nulls = { ...msg, ...arrays };
  },
  recited_ladder(msg) {
    store.extraction.ladder = msg;
  },
  prompt_curve(msg, arrays) {
    store.extraction.curve = { ...msg, ...arrays };
  },
});

/** Maps of some layers, with cells of a size of their own. @param {View} view @param {number[]} cell @param {(layer: Layer) => boolean} only */
function sizedMaps(view, cell, only) {
  return unitMaps(Object.create(view, { cell: { value: cell } }), only);
}

/** @param {View} view */
function buildExtraction(view) {
  const isHead = (layer) => layer.kind === "heads";
  const heads = sizedMaps(view, HEAD_CELL, isHead);
  const neurons = sizedMaps(view, NEURON_CELL, (layer) => !isHead(layer));
  const regions = [toolbar(view), liveLine(view), controls(view), extractionRegion(view), topSlider(view), heads, neurons, echoLine(view), ladderTable(view)];
  const [head, live, bar, passages, top, first, second, echo, ladder] = regions.map((region) => region.root);
  const row = (name, words, node) => el("section", { class: `mv-ex-${name}`, "aria-label": words }, el("h3", { class: "mv-ex-kind" }, words), node);
  view.root.append(head, live, bar, passages, el("div", { class: "mv-ex-units" }, top, echo, row("heads", "Attention heads", first), row("neurons", "MLP neurons", second)), ladder);
  return regions;
}

registerView({
  part: "extraction",
  title: "extraction explorer",
  main: true,
  needs: "choosing passages and switching units need",
  state: noPassageYet,
  takers: passageTakers,
  dirty: ["passages", "passage", "recited", "recited_null", "prompt_curve", "recited_ladder"],
  prompt: ["passage", "recited"],
  build: buildExtraction,
});
