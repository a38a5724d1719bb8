// @ts-check
/** The workbench, and each of its parts as a view of its own. */
import { el } from "../../core/static/dom.js";
import { controls, liveLine, toolbar } from "../../core/static/header.js";
import { topSlider } from "../../core/static/top.js";
import { unitMaps } from "../../core/static/units.js";
import { registerView } from "../../core/static/views.js";
import { thumbnailsAndMarks } from "./asked.js";
import { examples } from "./examples.js";
import { frames } from "./frame.js";
import { layerList, marksLegend } from "./layers.js";
import { readoutColumn } from "./readout.js";

/** The map and what steers it; alone it also says what its marks mean. @param {View} view @param {boolean} alone */
function mapsColumn(view, alone) {
  const [top, maps] = [topSlider(view), unitMaps(view)];
  return { root: el("div", { class: "mv-middle" }, top.root, maps.root, alone ? marksLegend() : null), regions: [top, maps] };
}

/** @param {...HTMLElement} columns */
function grid(...columns) {
  return el("div", { class: "mv-grid" }, ...columns);
}

registerView({
  part: "workbench",
  alone: true,
  title: "workbench",
  main: true,
  ...frames,
  build(view) {
    const [head, live, bar, layers] = [toolbar(view), liveLine(view), controls(view), layerList(view)];
    const maps = mapsColumn(view, false);
    const read = readoutColumn(view);
    const row = examples(view);
    view.root.append(head.root, live.root, bar.root, grid(layers.root, maps.root, read.root), row.root);
    return [head, live, bar, layers, ...maps.regions, read, ...row.regions];
  },
});

registerView({
  part: "layers",
  alone: true,
  title: "layers",
  build(view) {
    const [live, layers] = [liveLine(view), layerList(view)];
    view.root.append(live.root, grid(layers.root));
    return [live, layers];
  },
});

registerView({
  part: "units",
  alone: true,
  title: "unit map",
  build(view) {
    const [live, bar, maps] = [liveLine(view), controls(view), mapsColumn(view, true)];
    view.root.append(live.root, bar.root, grid(maps.root));
    return [live, bar, ...maps.regions];
  },
});

registerView({
  part: "examples",
  alone: true,
  title: "examples",
  state: () => ({ marks: new Map() }),
  takers: thumbnailsAndMarks,
  build(view) {
    const [live, row] = [liveLine(view), examples(view)];
    view.root.append(live.root, row.root);
    return [live, ...row.regions];
  },
});

registerView({
  part: "readout",
  alone: true,
  title: "readout",
  build(view) {
    const [live, read] = [liveLine(view), readoutColumn(view)];
    view.root.append(live.root, grid(read.root));
    return [live, read];
  },
});
