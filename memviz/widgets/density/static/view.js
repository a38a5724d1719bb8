// @ts-check
/** The density explorer: images sorted by M, the opened one, epochs and learning rates, units below. */
import { el } from "../../core/static/dom.js";
import { controls, echoLine, liveLine, toolbar } from "../../core/static/header.js";
import { topSlider } from "../../core/static/top.js";
import { unitMaps } from "../../core/static/units.js";
import { registerView } from "../../core/static/views.js";
import { besideRegion } from "./beside.js";
import { curvesRegion } from "./curves.js";
import { densityRows } from "./figures.js";
import { imageRegion } from "./image.js";
import { imageSheet } from "./sheet.js";
import { densitySentence, isOverrun } from "./words.js";

const DENSITY_KINDS = ["density", "density_at", "density_values", "density_image", "density_nearest", "density_ratios", "density_reconstruction", "density_figures"];
const noDensity = () => ({ density: null, densityAt: null, densityValues: new Map(), densityImage: null, densityNearest: null, densityRatios: null, densityReconstruction: null, densityFigures: null });

/** @param {Store} store @returns {Record<string, Taker>} */
const densityTakers = (store) => ({
  study() {
    Object.assign(store, noDensity());
  },
  density(msg, arrays) {
    if (!store.study) return false;
    const column = new Int32Array(store.study.examples).fill(-1);
    arrays.examples.forEach((example, i) => (column[example] = i));
    store.density = { ...msg, ...arrays, column };
  },
  density_at(msg) {
    if (isOverrun(store, msg)) return false;
    store.densityAt = { rate: msg.rate, epoch: msg.epoch, asked: -Infinity };
  },
  density_values(msg, arrays) {
    store.densityValues.set(`${msg.rate} ${msg.epoch}`, /** @type {DensityValues} */ (arrays));
  },
  density_image(msg, arrays) {
    store.densityImage = { ...msg, ...arrays };
  },
  density_nearest(msg, arrays) {
    store.densityNearest = { ...msg, ...arrays };
  },
  density_ratios(msg, arrays) {
    store.densityRatios = { ...msg, ...arrays };
  },
  density_reconstruction(msg, arrays) {
    if (store.densityReconstruction && msg.version < store.densityReconstruction.version) return false;
    store.densityReconstruction = { ...msg, ...arrays };
  },
  density_figures(msg) {
    if (store.densityFigures && msg.version < store.densityFigures.version) return false;
    store.densityFigures = msg;
  },
});

/** The view with a store whose sentence is about densities; all else is the shared one's. @param {View} view @returns {View} */
function speaking(view) {
  const store = Object.create(view.store, { sentence: { get: () => densitySentence(view.store) || view.store.sentence } });
  return { ...view, store };
}

/** @param {View} view */
function buildDensity(view) {
  const told = speaking(view);
  const [head, live, bar] = [toolbar(view), liveLine(told), controls(view)];
  const [sheet, image, beside, curves, figures] = [imageSheet(view), imageRegion(view), besideRegion(view), curvesRegion(view), densityRows(view)];
  const [top, maps, echo] = [topSlider(view), unitMaps(view), echoLine(told)];
  const middle = el("div", { class: "mv-dn-open" }, image.root, beside.root);
  const right = el("div", { class: "mv-dn-read" }, curves.root, figures.root);
  const low = el("section", { class: "mv-dn-low", "aria-label": "Units" }, top.root, echo.root, maps.root);
  view.root.append(head.root, live.root, bar.root, el("div", { class: "mv-dn" }, sheet.root, middle, right), low);
  return [head, live, bar, sheet, image, beside, curves, figures, top, echo, maps];
}

registerView({
  part: "density",
  title: "density explorer",
  main: true,
  cell: [11, 12],
  needs: "reconstructions and switching units need",
  state: noDensity,
  takers: densityTakers,
  dirty: DENSITY_KINDS,
  prompt: ["density_at", "density_figures", "density_image"],
  build: buildDensity,
});
