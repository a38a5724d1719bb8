// @ts-check
/** M and held-out log p against epochs, one line a learning rate; both are sliders. */
import { count, el, put, say, svg, throttle } from "../../core/static/dom.js";
import { groupMark } from "../../core/static/palette.js";
import { lookAt, nats, rateWords, roundTicks, tickWords } from "./words.js";

const [CURVE_WIDE, CURVE_FROM, CURVE_TO] = [316, 38, 300];
const EPOCHS_PAGE = 10; // steps of PageUp

/** @param {View} view */
export function curvesRegion(view) {
  const { store } = view;
  const send = throttle((msg) => store.ask(msg), 80);
  const go = (rate, epoch) => lookAt(store, rate, epoch, send);
  const rates = rateSlider(view, go);
  const memorized = curve("q95", 128, "var(--mv-mem)", true);
  const heldOut = curve("held_out", 66, "var(--mv-test)", false);
  const track = epochSlider(view, go);
  const note = el("p", { class: "mv-note" }, groupMark("test"), " held-out log p, nats");
  const body = el("tbody");
  const headings = el("tr");
  const table = el("table", { class: "mv-sr" }, el("caption", {}, ".95 quantile of M and held-out log p, nats"), el("thead", {}, headings), body);
  const chance = el("p", { class: "mv-note" });
  const root = el("section", { "aria-label": "Epochs and learning rate" }, el("div", { class: "mv-dn-rates" }, el("h3", {}, "Epochs and learning rate"), rates.root),
    el("p", { class: "mv-note" }, groupMark("memorized"), " .95 quantile of M, nats"), memorized.root, track.root, note, heldOut.root, chance, table);
  let drawn = null;

  function fill() {
    drawn = store.density;
    const { rates: all, epochs, curves } = drawn;
    headings.replaceChildren(el("th", { scope: "col" }, "epoch"), ...all.flatMap((r) => [el("th", { scope: "col" }, `M at ${rateWords(r)}`), el("th", { scope: "col" }, `log p at ${rateWords(r)}`)]));
    body.replaceChildren(...epochs.map((e, j) => el("tr", {}, el("th", { scope: "row" }, count(e)), ...all.flatMap((_, i) => [el("td", {}, nats(curves[i][j].q95)), el("td", {}, nats(curves[i][j].held_out))]))));
  }
  /** @param {Set<string>} dirty */
  function update(dirty) {
    const { density, densityAt: at } = store;
    root.hidden = !density || !at;
    if (root.hidden || !["density", "density_at", "study", "theme"].some((kind) => dirty.has(kind))) return;
    if (drawn !== density) fill();
    rates.update();
    track.update();
    const here = density.curves[at.rate][at.epoch];
    memorized.draw(density, at, here.null);
    const known = density.curves.some((row) => row.some((p) => p.held_out !== null));
    note.hidden = heldOut.root.hidden = !known;
    if (known) heldOut.draw(density, at, null);
    const [low, high] = here.null;
    say(chance, `Null, the grey band: this quantile when in and out are assigned at random. It is ${nats(low)} to ${nats(high)}, and need not be around 0, because more values are averaged in training than held out.`);
  }
  return { root, update, prompt: true, destroy: send.cancel };
}

/** Where an epoch is on the axis. @param {number[]} epochs @param {number} epoch */
function onEpochs(epochs, epoch) {
  const [first, last] = [Math.min(0, epochs[0]), epochs[epochs.length - 1]];
  return CURVE_FROM + ((CURVE_TO - CURVE_FROM) * (epoch - first)) / Math.max(1e-9, last - first);
}

/** Lines of one measure. @param {"q95" | "held_out"} key @param {number} tall @param {string} colour @param {boolean} zero whether the axis has 0 */
function curve(key, tall, colour, zero) {
  const root = svg("svg", { class: `mv-dn-curve mv-dn-${key}`, viewBox: `0 0 ${CURVE_WIDE} ${tall + 8}`, role: "img" });
  function draw(density, at, band) {
    const { rates, epochs, curves } = density;
    const known = curves.flat().map((p) => p[key]).filter((x) => x !== null);
    const ends = [...known, ...(band || []).filter((x) => x !== null), ...(zero ? [0] : [])];
    const [low, high] = [Math.min(...ends), Math.max(...ends)];
    const y = (v) => tall - ((tall - 14) * (v - low)) / Math.max(1e-9, high - low);
    const x = (j) => onEpochs(epochs, epochs[j]);
    const grid = roundTicks(low, high, zero ? 4 : 3).flatMap((t) => [svg("path", { d: `M${CURVE_FROM} ${y(t)}H${CURVE_TO}`, stroke: "var(--mv-line)" }), svg("text", { class: "mv-axis", x: CURVE_FROM - 6, y: y(t) + 4, "text-anchor": "end" }, tickWords(t))]);
    const nulls = band && band[0] !== null && band[1] !== null ? [svg("path", { d: `M${CURVE_FROM} ${y(band[1])}H${CURVE_TO}V${Math.max(y(band[0]), y(band[1]) + 1)}H${CURVE_FROM}z`, fill: "var(--mv-null)", opacity: 0.4 })] : [];
    const lines = curves.flatMap((row, i) => {
      const points = row.map((p, j) => (p[key] === null ? null : `${x(j).toFixed(1)} ${y(p[key]).toFixed(1)}`)).filter(Boolean);
      if (!points.length) return [];
      const on = i === at.rate;
      return [svg("path", { d: `M${points.join("L")}`, fill: "none", stroke: colour, "stroke-width": on ? 2 : 1.5, "stroke-linejoin": "round", "stroke-dasharray": on ? null : "5 3" }),
        !zero || (on && at.epoch === row.length - 1) ? null : svg("text", { class: on ? "mv-val mv-bold" : "mv-axis", x: CURVE_TO, y: y(row[row.length - 1][key] ?? low) - 6, "text-anchor": "end" }, rates.length > 1 ? rateWords(rates[i]) : "")].filter(Boolean);
    });
    const value = curves[at.rate][at.epoch][key];
    const cursor = [svg("path", { d: `M${x(at.epoch)} 4V${tall}`, stroke: "var(--mv-ink)", opacity: 0.35 })];
    if (value !== null) {
      const late = x(at.epoch) > CURVE_WIDE * 0.7;
      const mark = zero ? svg("circle", { cx: x(at.epoch), cy: y(value), r: 4.2, fill: colour }) : svg("path", { d: `M${x(at.epoch)} ${y(value) - 5}l4.5 8.4h-9z`, fill: colour });
      cursor.push(mark, svg("text", { class: "mv-bold mv-dn-here", x: x(at.epoch) + (late ? -8 : 8), y: Math.max(11, y(value) - 8), "text-anchor": late ? "end" : "start" }, nats(value)));
    }
    root.replaceChildren(...grid, ...nulls, ...lines, ...cursor);
    const name = zero ? ".95 quantile of M" : "held-out log p";
    put(root, { "aria-label": `${name} after ${count(epochs[at.epoch])} epochs at ${rateWords(rates[at.rate])}: ${nats(value)} nats` });
  }
  return { root, draw };
}

/** A slider in SVG: keys, dragging, and the nearest place to the pointer. @param {SVGElement & {dataset: any}} root @param {{at: () => number, last: () => number, x: (place: number) => number, go: (place: number) => void, wide: number}} scale */
function slides(root, { at, last, x, go, wide }) {
  let held = false;
  const drag = (event) => {
    const box = root.getBoundingClientRect();
    const to = ((event.clientX - box.left) / box.width) * wide;
    let best = 0;
    for (let place = 1; place <= last(); place++) if (Math.abs(x(place) - to) < Math.abs(x(best) - to)) best = place;
    go(best);
  };
  root.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    held = true;
    root.setPointerCapture(event.pointerId);
    root.focus();
    drag(event);
  });
  root.addEventListener("pointermove", (event) => held && drag(event));
  for (const end of ["pointerup", "pointercancel"]) root.addEventListener(end, () => (held = false));
  root.addEventListener("keydown", (event) => {
    const to = { ArrowRight: at() + 1, ArrowUp: at() + 1, ArrowLeft: at() - 1, ArrowDown: at() - 1, PageUp: at() + EPOCHS_PAGE, PageDown: at() - EPOCHS_PAGE, Home: 0, End: last() }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    go(Math.max(0, Math.min(last(), to)));
  });
}

/** @param {View} view @param {(rate: number, epoch: number) => void} go */
function epochSlider(view, go) {
  const { store } = view;
  const root = svg("svg", { class: "mv-dn-epochs", viewBox: `0 0 ${CURVE_WIDE} 32`, role: "slider", tabindex: 0, "aria-label": "epochs" });
  const x = (place) => onEpochs(store.density.epochs, store.density.epochs[place]);
  slides(root, { at: () => store.densityAt.epoch, last: () => store.density.epochs.length - 1, x, go: (place) => go(store.densityAt.rate, place), wide: CURVE_WIDE });
  function update() {
    const { epochs } = store.density;
    const at = store.densityAt.epoch;
    const here = x(at);
    const first = Math.min(0, epochs[0]);
    const ticks = roundTicks(first, epochs[epochs.length - 1], 5).filter((t) => Math.abs(onEpochs(epochs, t) - here) > 24);
    root.replaceChildren(svg("path", { d: `M${CURVE_FROM} 10H${CURVE_TO}`, stroke: "var(--mv-line)", "stroke-width": 2 }), svg("path", { d: `M${CURVE_FROM} 10H${here}`, stroke: "var(--mv-ink)", "stroke-width": 2 }),
      ...epochs.map((_, j) => svg("path", { d: `M${x(j)} 7.5v5`, stroke: "var(--mv-soft)" })),
      svg("circle", { cx: here, cy: 10, r: 5.5, fill: "var(--mv-paper)", stroke: "var(--mv-ink)", "stroke-width": 2 }),
      ...ticks.map((t) => svg("text", { class: "mv-axis", x: onEpochs(epochs, t), y: 28, "text-anchor": "middle" }, count(t))),
      svg("text", { class: "mv-val mv-bold", x: here, y: 29, "text-anchor": "middle" }, count(epochs[at])));
    put(root, { "aria-valuemin": 0, "aria-valuemax": epochs.length - 1, "aria-valuenow": at, "aria-valuetext": `${count(epochs[at])} epochs` });
  }
  return { root, update };
}

/** @param {View} view @param {(rate: number, epoch: number) => void} go */
function rateSlider(view, go) {
  const { store } = view;
  const long = 118;
  const root = svg("svg", { class: "mv-dn-rate", viewBox: `0 0 ${long} 30`, width: long, height: 30, role: "slider", tabindex: 0, "aria-label": "learning rate" });
  const sorted = () => store.density.rates.map((rate, i) => [rate, i]).sort((a, b) => a[0] - b[0]);
  const place = () => sorted().findIndex(([, i]) => i === store.densityAt.rate);
  const x = (p) => {
    const all = sorted();
    return all.length < 2 ? long / 2 : 20 + ((long - 40) * p) / (all.length - 1);
  };
  slides(root, { at: place, last: () => store.density.rates.length - 1, x, go: (p) => go(sorted()[p][1], store.densityAt.epoch), wide: long });
  function update() {
    const all = sorted();
    const at = place();
    const ends = [x(0), x(all.length - 1)];
    root.replaceChildren(svg("path", { d: `M${ends[0]} 8H${ends[1]}`, stroke: "var(--mv-ink)", "stroke-width": 2 }), ...all.map((_, p) => svg("path", { d: `M${x(p)} 4.5v7`, stroke: "var(--mv-ink)", "stroke-width": 1.4 })),
      svg("circle", { cx: x(at), cy: 8, r: 5.5, fill: "var(--mv-paper)", stroke: "var(--mv-ink)", "stroke-width": 2 }),
      ...all.map(([rate], p) => (all.length < 4 || p === at || p === 0 || p === all.length - 1 ? svg("text", { class: p === at ? "mv-val mv-bold" : "mv-axis", x: x(p), y: 27, "text-anchor": "middle" }, rateWords(rate)) : null)));
    put(root, { "aria-valuemin": 0, "aria-valuemax": all.length - 1, "aria-valuenow": at, "aria-valuetext": rateWords(all[at][0]) });
  }
  return { root, update };
}
