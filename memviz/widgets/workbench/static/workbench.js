// @ts-check
/** One view: the regions that its part asks for, the keys, the theme, and when to draw. */
import { el } from "../../core/static/dom.js";
import { isDark, readPalette, watchTheme } from "../../core/static/palette.js";
import { createPictures } from "../../core/static/pictures.js";
import { layerList, marksLegend } from "../../core/static/layers.js";
import { unitMaps } from "../../core/static/units.js";
import { topSlider } from "../../core/static/top.js";
import { readoutColumn } from "./readout.js";
import { gallery } from "./gallery.js";
import { inspectorRegion } from "../../inspector/static/inspector.js";
import { timelineRegion } from "../../timeline/static/timeline.js";
import { openedExample } from "./opened.js";
import { scatterRegion } from "../../scatter/static/scatter.js";
import { firingRegion } from "../../scatter/static/firing.js";
import { dejaVuRegion } from "../../deja_vu/static/deja_vu.js";
import { controls, echoLine, liveLine, toolbar } from "../../core/static/header.js";

let views = 0; // only numbers the ids, so that two views on a page never share one

const NAMES = { workbench: "workbench", layers: "layers", units: "unit map", examples: "examples", readout: "readout", timeline: "timeline", inspector: "example inspector", scatter: "scatter of unit scores", deja_vu: "déjà vu explorer" };

/** Draw one part of the store in `host`. @returns {() => void} clean-up */
export function createView(store, host, wanted) {
  const part = NAMES[wanted] ? wanted : "workbench";
  const root = el("section", { class: `mv mv-part-${part}${store.saved ? " mv-saved" : ""}`, "aria-label": `memviz ${NAMES[part]}`, "data-lm-suppress-shortcuts": "true" });
  const view = { store, root, part, main: part === "workbench" || part === "deja_vu", cell: part === "deja_vu" ? [11, 12] : null, uid: `mv${++views}`, palette: null, picture: null };
  view.palette = { steps: [], key: "" };
  view.picture = createPictures(view);
  const regions = build(view);
  host.replaceChildren(root);

  const dirty = new Set(["study", "state", "scores", "readout", "ahead", "random", "progress", "timeline", "rewound", "inspected", "scatter", "firing", "pairs", "pair", "gaps", "chance"]);
  let frame = 0;
  let stopTheme = () => {};
  let placed = false;
  let widths = "";

  function schedule(kinds) {
    for (const kind of kinds) dirty.add(kind);
    // The answer to a click is not kept waiting for a frame and the drawing of everything else.
    if (placed && (["readout", "ahead", "pair", "gaps"].some((kind) => kinds.includes(kind)))) for (const region of regions) if (region.prompt) region.update(new Set(["readout"]));
    if (!frame) frame = requestAnimationFrame(draw);
  }
  function draw() {
    frame = 0;
    if (!placed) return; // the first ResizeObserver call draws
    const kinds = new Set(dirty);
    dirty.clear();
    for (const region of regions) region.update(kinds);
  }
  function retheme() {
    root.dataset.mvTheme = isDark(root) ? "dark" : "light";
    view.palette = readPalette(root);
    schedule(["theme"]);
  }
  // An output is often drawn before it is attached, and moved or hidden later.
  const sizes = new ResizeObserver(() => {
    if (!root.isConnected) return;
    if (!placed) {
      placed = true;
      stopTheme = watchTheme(root, retheme);
      retheme();
    }
    const now = watched.map((node) => node.clientWidth).join();
    if (now !== widths) schedule(["size"]);
    widths = now;
  });
  const watched = [root, ...regions.map((region) => region.watch).filter(Boolean)];
  for (const node of watched) sizes.observe(node);
  root.addEventListener("keydown", (event) => keys(view, event));
  root.addEventListener("keyup", (event) => event.stopPropagation());
  const stop = store.subscribe(schedule);
  store.hello();

  return () => {
    stop();
    stopTheme();
    sizes.disconnect();
    cancelAnimationFrame(frame);
    for (const region of regions) if (region.destroy) region.destroy();
    root.remove();
  };
}

/** Undo, redo and "/" act here; no key leaves the widget, so that the notebook's shortcuts stay out. */
function keys({ store, root }, event) {
  event.stopPropagation();
  const writing = event.target instanceof HTMLInputElement && event.target.type === "search";
  const command = (event.ctrlKey || event.metaKey) && !event.altKey;
  const key = event.key.toLowerCase();
  const find = root.querySelector(".mv-find");
  if (command && !writing && (key === "z" || key === "y")) store.ask({ type: key === "y" || event.shiftKey ? "redo" : "undo" });
  else if (event.key === "/" && find && !(event.target instanceof HTMLInputElement)) find.focus();
  else if (event.key === "Escape" && !event.defaultPrevented && store.progress && !writing) store.ask({ type: "cancel" });
  else return;
  event.preventDefault();
}

function build(view) {
  const { root, part } = view;
  if (part === "deja_vu") return buildDejaVu(view);
  const live = liveLine(view);
  const on = (...parts) => part === "workbench" || parts.includes(part);
  const regions = [];
  const use = (region) => (regions.push(region), region);
  const head = part === "workbench" ? use(toolbar(view)) : null;
  use(live);
  const bar = on("units") ? use(controls(view)) : null;
  const layers = on("layers") ? use(layerList(view)) : null;
  const top = on("units") ? use(topSlider(view)) : null;
  const maps = on("units") ? use(unitMaps(view)) : null;
  const time = part === "timeline" ? use(timelineRegion(view)) : null;
  const dots = part === "scatter" ? use(scatterRegion(view)) : null;
  const firing = dots ? use(firingRegion(view)) : null;
  const read = on("readout") ? use(readoutColumn(view)) : null;
  const tiles = on("examples", "inspector") ? use(gallery(view)) : null;
  const opened = tiles ? use(openedExample(view, () => tiles.focusTile())) : null;
  const inspect = part === "inspector" ? use(inspectorRegion(view)) : null;
  const middle = maps ? el("div", { class: "mv-middle" }, top.root, maps.root, layers ? null : marksLegend()) : null;
  const grid = middle || layers || read ? el("div", { class: "mv-grid" }, layers && layers.root, middle, read && read.root) : null;
  const examples = tiles ? el("div", { class: "mv-examples" }, tiles.bar, el("div", { class: "mv-split" }, tiles.root, opened.root)) : null;
  for (const node of [head && head.root, live.root, bar && bar.root, time && time.root, dots && dots.root, firing && firing.root, grid, examples, inspect && inspect.root]) if (node) root.append(node);
  return regions;
}

/** The explorer's own order: what a caption finds first, the units of both towers below. */
function buildDejaVu(view) {
  const towers = ["text", "image"].map((tower) => unitMaps(view, (layer) => view.store.study.towers[layer.name] === tower));
  const regions = [toolbar(view), liveLine(view), controls(view), dejaVuRegion(view), topSlider(view), ...towers, echoLine(view)];
  const [head, live, bar, pairs, top, text, image, echo] = regions.map((region) => region.root);
  const column = (name, maps) => el("section", { "aria-label": name }, el("h3", { class: "mv-dv-tower" }, name), maps);
  view.root.append(head, live, bar, pairs, top, echo, el("div", { class: "mv-dv-towers" }, column("Text tower", text), column("Image tower", image)));
  return regions;
}
