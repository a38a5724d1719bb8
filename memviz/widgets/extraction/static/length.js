// @ts-check
/** How long the prompt is, and how much is recited from prompts of every length: a curve to drag on. */
import { count, el, put, say, svg } from "../../core/static/dom.js";

const PLOT = { left: 34, right: 522, top: 8, bottom: 78, track: 90 }; // of 532 × 112
const REST = 300; // ms of rest after which a dragged length is asked for

/** @param {View} view @param {(length: number | null) => void} preview */
export function lengthCurve(view, preview) {
  const { store } = view;
  const line = (attrs) => svg("polyline", { fill: "none", "stroke-linejoin": "round", ...attrs });
  const [grid, labels] = [svg("g"), svg("g")];
  const null_ = line({ stroke: "var(--mv-null)", "stroke-width": 3.4, opacity: 0.55 });
  const before = line({ stroke: "var(--mv-ink)", "stroke-width": 1.6, "stroke-dasharray": "4 3" });
  const after = line({ stroke: "var(--mv-mem)", "stroke-width": 2 });
  const onset = svg("path", { stroke: "var(--mv-ink)", "stroke-dasharray": "2 3" });
  const here = svg("path", { stroke: "var(--mv-ink)", opacity: 0.35 });
  const [dotAfter, dotBefore] = [svg("circle", { r: 4, fill: "var(--mv-mem)" }), svg("circle", { r: 4, fill: "var(--mv-paper)", stroke: "var(--mv-ink)", "stroke-width": 1.4 })];
  const track = svg("path", { stroke: "var(--mv-line)", "stroke-width": 2 });
  const filled = svg("path", { stroke: "var(--mv-ink)", "stroke-width": 2 });
  const thumb = svg("circle", { cy: PLOT.track, r: 5.5, fill: "var(--mv-paper)", stroke: "var(--mv-ink)", "stroke-width": 2 });
  const chart = svg("svg", { viewBox: "0 0 532 112", width: "100%", "aria-hidden": "true" }, grid, onset, here, null_, before, after, dotAfter, dotBefore, track, filled, thumb, labels);
  const slider = el("div", { class: "mv-ex-slider", role: "slider", tabindex: 0, "aria-label": "length of the prompt", "aria-valuemin": 1, onkeydown: keys }, chart);
  const words = el("p", { class: "mv-note" });
  const root = el("div", { class: "mv-ex-len" }, el("h3", {}, "Length of the prompt ", el("small", {}, "tokens recited before the first wrong one; drag")), slider, words);
  let wanted = null; // a length that is dragged to and not yet answered
  let dragging = false;
  let timer = 0;

  const longest = () => store.study.prompt;
  const at = (length) => PLOT.left + ((PLOT.right - PLOT.left) * (length - 1)) / Math.max(1, longest() - 1);
  const height = (tokens) => PLOT.bottom - ((PLOT.bottom - PLOT.top) * tokens) / store.study.continuation;

  function ask() {
    clearTimeout(timer);
    const p = store.extraction.passage;
    if (wanted !== null && p && (wanted !== p.length || p.edited)) store.ask({ type: "prompt_length", length: wanted });
    else if (!dragging) go(null);
  }
  function go(length) {
    wanted = length;
    preview(length);
    draw();
  }
  function lengthAt(event) {
    const box = chart.getBoundingClientRect();
    const x = ((event.clientX - box.left) / Math.max(1, box.width)) * 532;
    const share = (x - PLOT.left) / (PLOT.right - PLOT.left);
    return Math.max(1, Math.min(longest(), 1 + Math.round(share * (longest() - 1))));
  }
  function follow(event) {
    if (!dragging) return;
    const length = lengthAt(event);
    if (length === wanted) return;
    go(length);
    clearTimeout(timer);
    timer = setTimeout(ask, REST);
  }
  const end = () => {
    if (!dragging) return;
    dragging = false;
    ask();
  };
  slider.addEventListener("pointerdown", (event) => {
    if (store.saved || event.button !== 0 || !store.extraction.passage) return;
    slider.setPointerCapture(event.pointerId);
    dragging = true;
    follow(event);
  });
  slider.addEventListener("pointermove", follow);
  for (const kind of ["pointerup", "pointercancel"]) slider.addEventListener(kind, end);

  function keys(event) {
    const p = store.extraction.passage;
    if (!p || store.saved) return;
    const now = wanted ?? Math.min(p.length, longest());
    const to = { ArrowRight: now + 1, ArrowUp: now + 1, ArrowLeft: now - 1, ArrowDown: now - 1, PageUp: now + 10, PageDown: now - 10, Home: 1, End: longest() }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    go(Math.max(1, Math.min(longest(), to)));
    clearTimeout(timer);
    timer = setTimeout(ask, REST / 2);
  }

  const points = (values) => Array.from(values || [], (v, i) => (Number.isFinite(v) ? `${at(i + 1).toFixed(1)},${height(v).toFixed(1)}` : "")).filter(Boolean).join(" ");

  function draw() {
    const { passage: p, curve: told } = store.extraction;
    if (!p) return;
    const curve = told && told.row === p.row ? told : null;
    const n = store.study.continuation;
    const length = wanted ?? Math.min(p.length, longest());
    const x = at(length);
    const text = (attrs, content) => svg("text", { class: "mv-axis", ...attrs }, content);
    grid.replaceChildren(...[0, Math.round(n / 2), n].flatMap((t) => [svg("path", { d: `M${PLOT.left} ${height(t)}H${PLOT.right}`, stroke: "var(--mv-line)" }), text({ x: 28, y: height(t) + 4, "text-anchor": "end" }, String(t))]));
    const units = curve ? curve.units : 0;
    put(before, { points: curve ? points(curve.before) : "" });
    put(after, { points: curve && units ? points(curve.after) : "" });
    put(null_, { points: curve && units ? points(curve.null) : "" });
    const known = (values) => (curve && values && Number.isFinite(values[length - 1]) ? values[length - 1] : null);
    const [a, b] = [known(curve && curve.before), units ? known(curve && curve.after) : null];
    put(dotBefore, { cx: x, cy: height(a ?? 0), display: a === null ? "none" : null });
    put(dotAfter, { cx: x, cy: height(b ?? 0), display: b === null ? "none" : null });
    put(onset, { d: curve && curve.starts ? `M${at(curve.starts)} ${PLOT.top - 4}V${PLOT.bottom}` : "M0 0" });
    put(here, { d: `M${x} ${PLOT.top - 4}V${PLOT.bottom}` });
    put(track, { d: `M${PLOT.left} ${PLOT.track}H${PLOT.right}` });
    put(filled, { d: `M${PLOT.left} ${PLOT.track}H${x}` });
    put(thumb, { cx: x });
    const ends = [1, longest()].filter((l) => Math.abs(at(l) - x) > 24).map((l) => text({ x: at(l), y: 108, "text-anchor": "middle" }, String(l)));
    labels.replaceChildren(...ends, text({ x, y: 108, "text-anchor": "middle", class: "mv-axis mv-ex-bold" }, String(length)));
    const whole = curve && curve.starts ? `recited whole from ${count(curve.starts)} on` : curve && curve.before ? "whole from no length" : "";
    const off = units ? `; with ${count(units)} off` : "";
    say(words, p.edited ? "The prompt was edited: the curve is of the passage’s own." : !curve ? "computing …" : `- - before: ${whole}${off}${off ? (Number.isFinite(curve.after[0]) ? ` (orange) ${count(Math.max(...curve.after))} at most` : " …") : ""}${off ? (Number.isFinite(curve.null[0]) ? "; grey: random units." : "; random units …") : "."}`);
    put(slider, { "aria-valuenow": length, "aria-valuemax": longest(), "aria-disabled": store.saved ? "true" : false,
      "aria-valuetext": `${length} of ${longest()} tokens${a === null ? "" : `, ${count(a)} of ${n} recited before`}${b === null ? "" : `, ${count(b)} with units off`}` });
  }
  /** @param {Set<string>} dirty */
  function update(dirty) {
    const p = store.extraction.passage;
    root.hidden = !p;
    if (!p) return;
    // The answer to a length that was asked for ends its preview.
    if (dirty.has("passage") && !dragging && (p.length === wanted || p.edited)) {
      wanted = null;
      preview(null);
    }
    draw();
  }
  return { root, update, destroy: () => clearTimeout(timer) };
}
