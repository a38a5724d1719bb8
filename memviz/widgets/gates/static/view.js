// @ts-check
/** The gate map: the circuit with one gate's wires, its truth table, one example traced, the figures. */
import { el } from "../../core/static/dom.js";
import { liveLine, toolbar } from "../../core/static/header.js";
import { registerView } from "../../core/static/views.js";
import { gateBar, gateScale } from "./bar.js";
import { gateCard } from "./card.js";
import { gateCharts } from "./charts.js";
import { gateMap } from "./map.js";
import { gateReadout } from "./read.js";
import { stepExample, traceRegion } from "./trace.js";
import { withReaders } from "./words.js";

const SETTLED = 400; // ms for which a choice outlives an older state that crosses it on the way
const noCircuit = () => ({ circuit: null, gateCard: null, gateTrace: null, gateCurves: null, gateAt: null, gateShow: "votes", gateAsked: -Infinity });

/** @param {Store} store @returns {Record<string, Taker>} */
const gateTakers = (store) => ({
  study() {
    Object.assign(store, noCircuit());
  },
  gates(msg, arrays) {
    if (!store.study) return false;
    store.circuit = withReaders({ ...msg, ...arrays }, store.study.units);
  },
  state(msg) {
    if (msg.chosen !== undefined && performance.now() - store.gateAsked > SETTLED) store.gateAt = msg.chosen;
  },
  gate(msg) {
    store.gateCard = msg;
  },
  gate_trace(msg, arrays) {
    if (store.gateTrace && msg.version < store.gateTrace.version) return false;
    store.gateTrace = { ...msg, ...arrays };
  },
  gate_curves(msg) {
    store.gateCurves = msg;
  },
});

/** @param {View} view */
function buildGates(view) {
  const { store } = view;
  const [head, live, bar, map, scale] = [toolbar(view), liveLine(view), gateBar(view), gateMap(view), gateScale(view)];
  const [card, traced, charts, read] = [gateCard(view), traceRegion(view), gateCharts(view), gateReadout(view)];
  const two = el("div", { class: "mv-gt-two" }, card.root, traced.root);
  view.root.append(head.root, live.root, bar.root, el("div", { class: "mv-gt" }, el("div", { class: "mv-gt-left" }, map.root, scale.root, two, charts.root), read.root));
  view.root.addEventListener("keydown", (event) => {
    if ((event.key !== "[" && event.key !== "]") || event.target instanceof HTMLInputElement) return;
    stepExample(store, event.key === "[" ? -1 : 1);
    event.preventDefault();
  });
  return [head, live, bar, map, scale, card, traced, charts, read];
}

registerView({
  part: "gates",
  title: "gate map",
  main: true,
  needs: "setting gates and tracing examples need",
  state: noCircuit,
  takers: gateTakers,
  dirty: ["gates", "gate_at", "gate", "gate_trace", "gate_curves", "gate_show"],
  prompt: ["gate", "gate_trace", "gate_at"],
  build: buildGates,
});
