// @ts-check
/** Drag through the checkpoints of a training; put single layers back to an earlier one. */
import { capital, el, put, say, share, svg, throttle } from "../../core/static/dom.js";
import { groupColour, groupMark } from "../../core/static/palette.js";

const WIDE = 600;
const HIGH = 132;
const BEGIN = 26;
const FINISH = 588;
const rise = (value) => 8 + (HIGH - 32) * (1 - value);

/** @param {View} view */
export function timelineRegion(view) {
  const { store } = view;
  const lines = svg("g", {});
  const cursor = svg("g", { class: "mv-cursor" }, svg("path", { d: `M0 2V${HIGH - 22}`, stroke: "var(--mv-ink)", "stroke-width": 1.4 }), svg("path", { d: `M-5 ${HIGH - 22}h10l-5-7z`, fill: "var(--mv-ink)" }));
  const axis = svg("g", {});
  const chart = svg("svg", { class: "mv-time", viewBox: `0 0 ${WIDE} ${HIGH}`, role: "slider", tabindex: 0, "aria-label": "checkpoint", onkeydown: keys }, axis, lines, cursor);
  const now = el("p", { class: "mv-note mv-when" });
  const legend = el("p", { class: "mv-note mv-timekey" });
  const rows = el("div", { class: "mv-rewinds" });
  const answer = el("p", { class: "mv-rewound", role: "status" });
  const back = el("button", { class: "mv-btn mv-forward", type: "button", onclick: clear }, "restore all layers");
  const waiting = el("p", { class: "mv-empty" }, "Evaluating the checkpoints …");
  const title = el("h3", {}, "Checkpoints ", el("small", {}, "drag; the unit map, the examples and the figures follow"));
  const rewind = el("div", { class: "mv-rewind" }, el("h3", {}, "Rewind ", el("small", {}, "put single layers back to an earlier epoch; all others stay")), rows, el("div", { class: "mv-rewindline" }, answer, back));
  const root = el("section", { class: "mv-timeline", "aria-label": "Timeline" }, title, waiting, chart, now, legend, rewind);
  let known = null;
  let inputs = [];
  let held = false;
  const send = throttle((key) => store.choose("variant", key), 120);
  const ask = throttle(() => store.ask({ type: "rewind", epochs: rewound() }), 80);

  const last = () => known.epochs[known.epochs.length - 1];
  const x = (epoch) => BEGIN + ((FINISH - BEGIN) * epoch) / Math.max(1, last());
  /** Which checkpoint is looked at; past the last one: the model as it is. */
  function current() {
    const key = store.state ? store.state.variant : "";
    const at = known.epochs.findIndex((epoch) => `epoch ${epoch}` === key);
    return at < 0 ? known.epochs.length : at;
  }
  function go(at) {
    const to = Math.max(0, Math.min(known.epochs.length, at));
    if (store.saved || !store.state || to === current()) return;
    const key = to === known.epochs.length ? "" : `epoch ${known.epochs[to]}`;
    store.want("variant", key);
    draw();
    send(key);
  }
  function keys(event) {
    if (!known) return;
    const to = { ArrowRight: current() + 1, ArrowUp: current() + 1, ArrowLeft: current() - 1, ArrowDown: current() - 1, Home: 0, End: known.epochs.length }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    go(to);
  }
  function drag(event) {
    if (!known) return;
    const box = chart.getBoundingClientRect();
    const epoch = (((event.clientX - box.left) / box.width) * WIDE - BEGIN) / (FINISH - BEGIN) * last();
    let best = 0;
    known.epochs.forEach((e, i) => (best = Math.abs(e - epoch) < Math.abs(known.epochs[best] - epoch) ? i : best));
    go(epoch > last() * 1.005 ? known.epochs.length : best);
  }
  chart.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    held = true;
    chart.setPointerCapture(event.pointerId);
    chart.focus();
    drag(event);
  });
  chart.addEventListener("pointermove", (event) => held && drag(event));
  for (const end of ["pointerup", "pointercancel"]) chart.addEventListener(end, () => (held = false));

  function build() {
    known = store.timeline;
    const parts = [];
    const fine = known.fine || [];
    const path = (values, epochs) => values.map((v, i) => `${i ? "L" : "M"}${x(epochs[i]).toFixed(1)} ${rise(v).toFixed(1)}`).join("");
    for (const group of known.groups) {
      const colour = groupColour(group.name);
      const finer = fine.find((g) => g.name === group.name);
      const draw1 = (values, finest, dash) => {
        const epochs = finest ? finest.map((_, i) => i + 1) : known.epochs;
        parts.push(svg("path", { d: path(finest || values, epochs), fill: "none", stroke: colour, "stroke-width": 1.8, "stroke-dasharray": dash }));
        if (!dash) values.forEach((v, i) => parts.push(svg("circle", { cx: x(known.epochs[i]), cy: rise(v), r: 2.6, fill: colour })));
      };
      draw1(group.given, finer && finer.given, null);
      if (group.true) draw1(group.true, finer && finer.true, "3 3");
    }
    lines.replaceChildren(...parts);
    const ticks = known.epochs.map((epoch, i) => (i === 0 || x(epoch) - x(known.epochs[i - 1]) > 18 || i === known.epochs.length - 1 ? svg("text", { class: "mv-axis", x: x(epoch), y: HIGH - 4, "text-anchor": "middle" }, String(epoch)) : svg("g", {})));
    const marks = [0, 0.5, 1].map((v) => svg("g", {}, svg("path", { d: `M${BEGIN} ${rise(v)}H${FINISH}`, stroke: "var(--mv-line)", opacity: 0.7 }), svg("text", { class: "mv-axis", x: BEGIN - 6, y: rise(v) + 3.5, "text-anchor": "end" }, v === 0.5 ? ".5" : String(v))));
    axis.replaceChildren(...marks, ...ticks);
    const keysOf = known.groups.flatMap((g) => [groupMark(g.name), ` ${capital(g.name)}, given label`, g.true ? " (dashed: true label)" : "", "  "]);
    legend.replaceChildren(...keysOf.map((k) => (k instanceof Node ? k : document.createTextNode(k))));
    inputs = known.layers.map(({ name, label }) => {
      const steps = known.epochs.length;
      const words = el("span", { class: "mv-note mv-depth" });
      const at = store.rewound ? known.epochs.indexOf(store.rewound.epochs[name]) : -1; // a view made later
      const input = el("input", { type: "range", min: 0, max: steps, step: 1, value: at < 0 ? steps : at, "aria-label": `${label}, epoch`, "data-layer": name, oninput: () => (describe(name), ask()) });
      input.disabled = store.saved;
      rows.append(el("label", {}, el("span", { class: "mv-cut", title: name }, label), input, words));
      return { name, input, words };
    });
    for (const { name } of inputs) describe(name);
  }
  function depth(entry) {
    const at = Number(entry.input.value);
    return at === known.epochs.length ? null : known.epochs[at];
  }
  function describe(name) {
    const entry = inputs.find((i) => i.name === name);
    const epoch = depth(entry);
    const text = epoch === null ? "current" : `epoch ${epoch}`;
    say(entry.words, text);
    put(entry.input, { "aria-valuetext": text });
  }
  function rewound() {
    const put1 = inputs.filter((entry) => depth(entry) !== null).map((entry) => [entry.name, depth(entry)]);
    return Object.fromEntries(put1);
  }
  function clear() {
    for (const { input, name } of inputs) {
      input.value = String(known.epochs.length);
      describe(name);
    }
    ask();
  }
  function draw() {
    const at = current();
    const end = at === known.epochs.length;
    const epoch = end ? last() : known.epochs[at];
    const where = Math.min(at, known.epochs.length - 1);
    put(cursor, { transform: `translate(${end ? x(last()) + 7 : x(epoch)} 0)` });
    const figures = known.groups.map((g) => `${g.name} ${share(end ? known.accuracy[g.name] : g.given[where])}${g.true && !end ? ` (true label ${share(g.true[where])})` : ""}`).join(", ");
    const words = `${end ? "Current model" : `After epoch ${epoch}`}: ${figures}.`;
    say(now, words);
    put(chart, { "aria-valuemin": 0, "aria-valuemax": known.epochs.length, "aria-valuenow": at, "aria-valuetext": words, "aria-disabled": store.saved ? "true" : false });
  }

  /** @param {Set<string>} dirty */
  function update(dirty) {
    const ready = Boolean(store.timeline && store.state);
    waiting.hidden = ready;
    for (const node of [chart, now, legend, rewind]) put(node, { hidden: !ready });
    if (!ready) return;
    if (known !== store.timeline) {
      rows.replaceChildren();
      build();
    }
    if (["timeline", "state", "study"].some((kind) => dirty.has(kind))) draw();
    const found = store.rewound;
    back.disabled = store.saved || !inputs.some((entry) => depth(entry) !== null);
    const before = known.accuracy;
    const after = found ? found.accuracy : before;
    say(answer, known.groups.map((g) => `${g.name} ${share(before[g.name])} → ${share(after[g.name])}`).join(", "));
  }
  return { root, update, destroy: () => (send.cancel(), ask.cancel()) };
}
