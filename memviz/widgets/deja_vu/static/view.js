// @ts-check
/** The déjà vu explorer in its own order: what a caption finds first, the units of both towers below. */
import { el } from "../../core/static/dom.js";
import { controls, echoLine, liveLine, toolbar } from "../../core/static/header.js";
import { topSlider } from "../../core/static/top.js";
import { unitMaps } from "../../core/static/units.js";
import { registerView } from "../../core/static/views.js";
import { keepAlbum, present } from "./album.js";
import { keepTables } from "./alone.js";
import { dejaVuRegion } from "./deja_vu.js";

const nothingYet = () => ({ tiles: new Map(), pairs: null, pair: null, gaps: null, chance: null, album: null, tables: null });

/** @param {Store} store @returns {Record<string, Taker>} */
const takers = (store) => ({
  study() {
    Object.assign(store, nothingYet());
  },
  /** Pictures by number, one row of squares a sheet. */
  tiles(msg, { png }) {
    createImageBitmap(new Blob([png], { type: "image/png" })).then((bitmap) => {
      msg.numbers.forEach((number, i) => store.tiles.set(number, { bitmap, x: i * msg.side, side: msg.side }));
      store.emit("tiles");
    }, () => undefined);
  },
  pairs(msg) {
    store.pairs = msg;
  },
  pair(msg) {
    if (store.pair && msg.version < store.pair.version) return false;
    store.pair = msg;
  },
  gaps(msg, arrays) {
    if (!store.study || (store.gaps && msg.version < store.gaps.version)) return false;
    const curves = Object.fromEntries(Object.entries(arrays).map(([name, values]) => [`${name}Curve`, values]));
    Object.assign(store, { gaps: { ...msg, ...curves }, sentence: msg.sentence, error: "", note: "" });
  },
  chance(msg) {
    store.chance = msg;
  },
  album(msg, arrays) {
    keepAlbum(store, msg, arrays);
  },
  alone(msg, arrays) {
    if (!store.album || !store.gaps) return false;
    keepTables(store, msg, arrays);
  },
  state() {
    present(store);
  },
});

/** @param {View} view */
function build(view) {
  const towers = ["text", "image"].map((tower) => unitMaps(view, (layer) => view.store.study.towers[layer.name] === tower));
  const regions = [toolbar(view), liveLine(view), controls(view), dejaVuRegion(view), topSlider(view), ...towers, echoLine(view)];
  const [head, live, bar, pairs, top, text, image, echo] = regions.map((region) => region.root);
  const column = (name, maps) => el("section", { "aria-label": name }, el("h3", { class: "mv-dv-tower" }, name), maps);
  view.root.append(head, live, bar, pairs, top, echo, el("div", { class: "mv-dv-towers" }, column("Text tower", text), column("Image tower", image)));
  return regions;
}

registerView({
  part: "deja_vu",
  title: "déjà vu explorer",
  main: true,
  alone: true,
  cell: [11, 12],
  needs: "looking up an edited caption and switching units need",
  state: nothingYet,
  takers,
  dirty: ["pairs", "pair", "gaps", "chance", "album", "alone"],
  prompt: ["pair", "gaps"],
  build,
});
