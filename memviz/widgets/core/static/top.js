// @ts-check
/** "top [k] units by this score": a number, and a slider that lies on the ranked scores. */
import { count, el, put, say, throttle } from "./dom.js";

const HEIGHT = 34; // px of the bars

/** @param {View} view @param {string} [what] is ranked */
export function topSlider(view, what = "units") {
  const { store } = view;
  const input = el("input", { class: "mv-k", type: "number", min: 0, step: 1, "aria-label": `number of top-ranked ${what} to ablate`, placeholder: "–", onchange: typed });
  const bars = el("canvas", { "aria-hidden": "true" });
  const line = el("i", { class: "mv-line" });
  const thumb = el("i", { class: "mv-thumb" });
  const slider = el("div", { class: "mv-top", role: "slider", tabindex: 0, "aria-label": `number of top-ranked ${what}`, "aria-valuemin": 0, onkeydown: keys }, bars, line, thumb);
  const range = el("p", { class: "mv-note mv-range" });
  const root = el("div", { class: "mv-toprow" }, el("label", { class: "mv-topk" }, "top ", input, ` ${what} by this score`), el("div", {}, slider, range));
  const send = throttle((k) => {
    asked = null;
    store.top(k);
  }, 80);
  let extent = 72; // ranks that the slider shows
  let dragged = null; // k under the pointer while it is down
  let asked = null; // k asked for by keys and not yet sent

  const { score } = store;
  const ranked = () => store.ranked().length;
  const current = () => dragged ?? asked ?? (store.state ? store.state.top : null);

  function at(event) {
    const box = bars.getBoundingClientRect();
    const share = (event.clientX - box.left) / Math.max(1, box.width);
    return Math.max(0, Math.min(extent, Math.round(share * extent)));
  }

  function typed() {
    const k = Math.max(0, Math.min(ranked(), Math.round(Number(input.value))));
    if (input.value !== "" && Number.isFinite(k)) store.top(k);
    input.value = input.value === "" ? "" : String(k);
  }

  function keys(event) {
    const k = current() ?? 0;
    const page = Math.max(5, Math.round(ranked() / 20));
    const to = { ArrowRight: k + 1, ArrowUp: k + 1, ArrowLeft: k - 1, ArrowDown: k - 1, PageUp: k + page, PageDown: k - page, Home: 0, End: ranked() }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    if (store.fixed) return;
    asked = Math.max(0, Math.min(ranked(), to));
    store.peek(asked);
    send(asked);
  }

  slider.addEventListener("pointerdown", (event) => {
    if (store.fixed || !ranked() || event.button !== 0) return;
    slider.setPointerCapture(event.pointerId);
    dragged = at(event);
    store.peek(dragged);
  });
  slider.addEventListener("pointermove", (event) => {
    if (dragged === null || dragged === at(event)) return;
    dragged = at(event);
    store.peek(dragged);
  });
  slider.addEventListener("pointerup", () => {
    if (dragged === null) return;
    const k = dragged;
    dragged = null;
    store.top(k);
  });
  slider.addEventListener("pointercancel", () => {
    dragged = null;
    store.peek(null);
  });

  function draw() {
    const s = score();
    const width = slider.clientWidth;
    if (!s || !width) return;
    const scale = window.devicePixelRatio || 1;
    Object.assign(bars, { width: Math.round(width * scale), height: HEIGHT * scale });
    const pen = bars.getContext("2d");
    pen.scale(scale, scale);
    const off = store.preview || store.off;
    const pitch = width / extent;
    const gap = pitch > 3 ? Math.min(1.4, pitch * 0.25) : 0;
    const rows = store.ranked().slice(0, extent);
    const top = Math.max(s.value[rows[0]] - s.low, 1e-12);
    for (const [i, row] of rows.entries()) {
      const height = Math.max(1, (HEIGHT - 2) * Math.sqrt(Math.max(0, s.value[row] - s.low) / top));
      pen.globalAlpha = off[row] ? 0.85 : 0.38;
      pen.fillStyle = off[row] ? view.palette.ink : view.palette.null;
      pen.fillRect(i * pitch + gap / 2, HEIGHT - height, pitch - gap, height);
    }
  }

  /** @param {Set<string>} dirty */
  function update(dirty) {
    if (!store.study || !["study", "state", "scores", "preview", "theme", "size"].some((kind) => dirty.has(kind))) return;
    const n = ranked();
    const k = current();
    // The axis holds still under the pointer; it grows once the hand is off.
    if (dragged === null) extent = Math.max(1, Math.min(n, Math.max(72, Math.ceil((k || 0) * 1.35))));
    draw();
    const share = k === null ? 0 : Math.min(1, k / extent);
    line.style.width = thumb.style.left = `${100 * share}%`;
    thumb.classList.toggle("mv-loose", k === null);
    put(slider, { "aria-valuenow": k ?? 0, "aria-valuemax": n, "aria-valuetext": k === null ? `not set, ${count(n)} ranked` : `${count(k)} of ${count(n)} ranked ${what}`, "aria-disabled": store.fixed ? "true" : false });
    if (dragged !== null || !input.matches(":focus")) input.value = k === null ? "" : String(k);
    input.max = String(n);
    input.disabled = store.fixed || !n;
    input.style.width = `${Math.max(2, String(n).length) + 4.2}ch`;
    const { units, layers } = store.study;
    const shown = store.state ? store.state.layers.length : 0;
    const kind = (score() && score().kind === "exact" && score().order.length < units ? " exact scores" : ` ranked ${what}`) + (shown < layers.length ? ` in ${shown} of ${layers.length} layers` : "");
    say(range, n ? `${extent < n ? `the first ${count(extent)} of` : "all"} ${count(n)}${kind}` : "no exact scores yet");
  }
  function destroy() {
    send.cancel();
    if (dragged !== null || asked !== null) store.peek(null);
  }
  return { root, update, destroy };
}
