// @ts-check
/** What is built: points, precision and seed above; sliders and the method at the left. */
import { count, el, put, say, segment } from "../../core/static/dom.js";
import { busyBar } from "../../core/static/header.js";
import { clickTo } from "./points.js";

const CAPACITY_REST = 300; // ms of rest after which a dragged number is asked for
const CAPACITY_SLIDERS = [["n", "Points N"], ["features", "Dimension"], ["first", "Width of layer 1"], ["second", "Width of layer 2"]];
const CLICKS = [{ key: "", label: "take it out" }, { key: "points", label: "show its points" }];
const PRECISIONS = [{ key: "float64", label: "float64" }, { key: "float32", label: "float32" }];

/** The line above the regions. @param {View} view */
export function capacityBar(view) {
  const { store } = view;
  const ask = (key, value) => store.ask({ type: "capacity_set", key, value });
  const select = el("select", { class: "mv-cp-kind", onchange: () => ask("kind", select.value) });
  const precision = segment("mv-cp-precision", "precision", (key) => ask("precision", key));
  const click = segment("mv-cp-click", "click a unit to", (key) => clickTo(store, key));
  const seed = el("input", { class: "mv-k mv-cp-seed", type: "number", min: 0, max: 999, step: 1, "aria-label": "seed", onchange: () => ask("seed", Math.round(Number(seed.value))) });
  const root = el("div", { class: "mv-controls" },
    el("label", { class: "mv-field" }, "Points", el("span", { class: "mv-pick" }, select)),
    el("span", { class: "mv-field" }, "precision", precision.root), el("span", { class: "mv-field" }, "click a unit to", click.root), el("label", { class: "mv-field mv-cp-end" }, "seed", seed));
  let offered = "";
  function update() {
    const now = store.state && store.state.capacity;
    if (!now) return;
    const keys = now.kinds.map((kind) => kind.key).join();
    if (keys !== offered) select.replaceChildren(...now.kinds.map((kind) => el("option", { value: kind.key }, kind.label)));
    offered = keys;
    select.value = now.values.kind;
    select.disabled = seed.disabled = store.saved;
    precision.show(PRECISIONS, now.values.precision, store.saved);
    click.show(CLICKS, store.capacity.click, false);
    if (!seed.matches(":focus")) seed.value = String(now.values.seed);
  }
  return { root, update };
}

/** Sliders, and the list of methods with their units. @param {View} view */
export function capacitySettings(view) {
  const { store } = view;
  const rows = CAPACITY_SLIDERS.map(([key, words]) => slider(view, key, words, () => told()));
  const fits = el("p", { class: "mv-note mv-cp-fits" });
  const list = el("div", { class: "mv-cp-methods", role: "radiogroup", "aria-label": "Method", onkeydown: step });
  const busy = busyBar(view);
  const root = el("div", { class: "mv-cp-left" }, ...rows.map((row) => row.root), fits, el("h3", {}, "Method"), list, el("p", { class: "mv-note" }, "hidden units for these points"), busy.root);
  let buttons = [];

  const pick = (key) => store.ask({ type: "capacity_set", key: "method", value: key });
  function step(event) {
    const by = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    if (!by || store.saved) return;
    event.preventDefault();
    const next = buttons[(buttons.indexOf(event.target) + by + buttons.length) % buttons.length];
    next.focus();
    pick(next.dataset.key);
  }
  const value = (key) => rows.find((row) => row.key === key).value();
  function told() {
    const [n, first, second] = [value("n"), value("first"), value("second")];
    const now = store.state.capacity.values;
    const ofYun = now.method.startsWith("yun");
    const fit = first * second >= n;
    // A new N brings widths of its own, unless these hold it.
    say(fits, !ofYun ? "Widths are those of Yun et al. alone." : fit ? `${first} × ${second} = ${first * second} ≥ N, so it fits.` : n !== now.n ? `${first} × ${second} < N: widths will follow N.` : `${first} × ${second} = ${first * second} < N: too few.`);
  }
  function update() {
    busy.update();
    const now = store.state && store.state.capacity;
    if (!now) return;
    for (const row of rows) row.update(now);
    if (buttons.map((b) => b.dataset.key).join() !== now.methods.map((m) => m.key).join()) {
      buttons = now.methods.map((m) => el("button", { type: "button", role: "radio", "data-key": m.key, onclick: () => pick(m.key) }, el("i"), m.label, el("span")));
      list.replaceChildren(...buttons);
    }
    for (const [i, button] of buttons.entries()) {
      const on = button.dataset.key === now.values.method;
      put(button, { "aria-checked": String(on), tabindex: on ? 0 : -1 });
      button.disabled = store.saved;
      say(button.lastChild, count(now.methods[i].units));
    }
    told();
  }
  return { root, update, destroy: () => rows.forEach((row) => row.destroy()) };
}

/** A number to drag: shown at once, asked for on release or at rest. @param {View} view @param {string} key @param {string} words @param {() => void} preview */
function slider(view, key, words, preview) {
  const { store } = view;
  const input = el("input", { type: "range", step: 1, "aria-label": words, class: `mv-cp-range mv-cp-${key}`, oninput: drag, onchange: drag, onpointerup: ask, onkeydown: page });
  const shown = el("b");
  const root = el("label", { class: "mv-cp-slider" }, el("span", {}, words), shown, input);
  let timer = 0;
  let wanted = null;
  function drag() {
    wanted = Number(input.value);
    draw();
    preview();
    clearTimeout(timer);
    timer = setTimeout(ask, CAPACITY_REST);
  }
  function page(event) {
    const by = { PageUp: 10, PageDown: -10 }[event.key];
    if (!by) return;
    event.preventDefault();
    input.value = String(Number(input.value) + by);
    drag();
  }
  function ask() {
    clearTimeout(timer);
    if (wanted !== null && store.state && store.state.capacity && wanted !== store.state.capacity.values[key]) store.ask({ type: "capacity_set", key, value: wanted });
    wanted = null;
  }
  function draw() {
    say(shown, input.value);
    const [low, high] = [Number(input.min), Number(input.max)];
    root.style.setProperty("--mv-share", `${(100 * (Number(input.value) - low)) / Math.max(1, high - low)}%`);
  }
  function update(now) {
    const [low, high] = now.ends[key];
    const ofYun = now.values.method.startsWith("yun");
    input.disabled = store.saved || low === high || (!ofYun && (key === "first" || key === "second"));
    put(input, { min: low, max: high });
    if (wanted === null) input.value = String(now.values[key]);
    draw();
  }
  return { root, key, update, value: () => Number(input.value), destroy: () => clearTimeout(timer) };
}
