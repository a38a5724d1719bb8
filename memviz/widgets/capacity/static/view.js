// @ts-check
/** The capacity playground: settings, the function along the projection, owners, and all methods below. */
import { el } from "../../core/static/dom.js";
import { liveLine, toolbar } from "../../core/static/header.js";
import { unitMaps } from "../../core/static/units.js";
import { registerView } from "../../core/static/views.js";
import { besideMethods } from "./beside.js";
import { functionChart } from "./function.js";
import { ownersOfPoints } from "./owners.js";
import { capacityFigures } from "./figures.js";
import { watchClicks } from "./points.js";
import { capacityBar, capacitySettings } from "./settings.js";

const noCapacity = () => ({ capacity: { fn: null, beside: new Map(), needed: null, shown: null, held: null, click: "" } });

/** Old figures stay until new ones come. @param {Store} store @returns {Record<string, Taker>} */
const capacityTakers = (store) => (watchClicks(store), {
  capacity(msg, arrays) {
    const known = store.capacity.fn;
    if (!store.study || msg.built < store.study.built || (known && known.built === msg.built && msg.version < known.version)) return false;
    if (!known || known.built !== msg.built) Object.assign(store.capacity, { shown: null, held: null });
    store.capacity.fn = { ...msg, ...arrays };
    Object.assign(store, { sentence: msg.sentence, error: "", note: "" });
  },
  capacity_beside(msg, arrays) {
    store.capacity.beside.set(msg.method, { ...msg, ...arrays });
  },
  capacity_needed(msg) {
    store.capacity.needed = msg;
  },
});

/** @param {View} view */
function buildCapacity(view) {
  const [head, live, bar, left] = [toolbar(view), liveLine(view), capacityBar(view), capacitySettings(view)];
  const [chart, owners, maps, right, below] = [functionChart(view), ownersOfPoints(view), unitMaps(view), capacityFigures(view), besideMethods(view)];
  const units = el("section", { class: "mv-cp-units", "aria-label": "Units" }, el("h3", {}, "All units ", el("small", {}, "shade: norm of the incoming weights, √ scale")), maps.root);
  const middle = el("div", { class: "mv-cp-main" }, chart.root, owners.root, units);
  view.root.append(head.root, live.root, bar.root, el("div", { class: "mv-cp" }, left.root, middle, right.root), below.root);
  return [head, live, bar, left, chart, owners, maps, right, below];
}

registerView({
  part: "capacity",
  title: "capacity playground",
  main: true,
  cell: [20, 22],
  needs: "building networks and switching units need",
  state: noCapacity,
  takers: capacityTakers,
  dirty: ["capacity", "capacity_beside", "capacity_needed", "capacity_shown"],
  prompt: ["capacity"],
  build: buildCapacity,
});
