// @ts-check
/** The opened image: M in words, and its log-likelihood in every training that had it and that had not. */
import { count, el, put, say, svg } from "../../core/static/dom.js";
import { groupMark } from "../../core/static/palette.js";
import { columnOf, nats, roundTicks, tickWords, valuesNow } from "./words.js";

const HIST_FROM = 84; // px left of the bars, for the names
const HIST_BINS = 32;
const HIST_BASES = [46.5, 98.5]; // y of both axes
const HIST_TALL = 38; // px of the highest bar

/** @param {View} view */
export function imageRegion(view) {
  const { store } = view;
  const picture = el("canvas", { role: "img" });
  const title = el("span");
  const small = el("small");
  const says = el("p", { class: "mv-dn-says" });
  const note = el("p", { class: "mv-note" });
  const hold = el("button", { class: "mv-btn mv-dn-hold", type: "button", title: "Rank all units by what M of this image loses without them", onclick: () => store.ask({ type: "density_hold" }) }, "Find the units that hold this image");
  const head = el("div", { class: "mv-dn-top" }, el("div", { class: "mv-picbox mv-dn-big" }, picture), el("div", {}, el("h3", {}, title, " ", small), says, note, hold));
  const chart = histograms();
  const waiting = el("p", { class: "mv-empty" }, "Reading the trainings …");
  const root = el("section", { "aria-label": "Opened image" }, waiting, head, chart.root);

  /** @param {Set<string>} dirty */
  function update(dirty) {
    const { density, densityAt: at, state } = store;
    const ready = Boolean(density && at && state && state.opened !== null);
    waiting.hidden = ready;
    head.hidden = !ready;
    if (!ready) {
      chart.root.hidden = true;
      if (density && state) say(waiting, "Open an image.");
      return;
    }
    const i = state.opened;
    const values = valuesNow(store);
    const column = columnOf(store, i);
    const group = store.groupName(i);
    say(title, `Image ${count(i)}`);
    small.replaceChildren(...(group ? [groupMark(group), ` ${group}`] : []));
    put(picture, { "aria-label": `Image ${count(i)}${group ? `, ${group}` : ""}` });
    hold.hidden = store.saved;
    put(hold, { "aria-pressed": String(state.score === "opened image") });
    if (["state", "sprites", "theme", "study", "density"].some((kind) => dirty.has(kind))) view.picture(picture, i);
    chart.root.hidden = column < 0 || !values;
    if (column < 0) {
      say(says, "It was in no training, so there is nothing to leave out: no M.");
      say(note, "");
      return;
    }
    if (!values) return;
    const m = values.m[column];
    says.replaceChildren("With it in training the models give it ", el("b", {}, `${nats(Math.abs(m))} nats`), m < 0 ? " less than without." : " more than without.");
    const image = store.densityImage && store.densityImage.index === i ? store.densityImage : null;
    if (!image) return; // the last one's histograms stay until this one's come
    const { inside, outside } = sides(image, at, density.epochs.length);
    say(note, `Log of the mean density: ${nats(values.inside[column])} in ${count(inside.length)} models that saw it, ${nats(values.outside[column])} in ${count(outside.length)} that did not. Equally many of each: M ${nats(values.matched[column])}.`);
    chart.draw(inside, outside, values.inside[column], values.outside[column], m);
  }
  return { root, update, prompt: true };
}

/** Finite log-likelihoods in training and held out. @param {DensityImage} image @param {{rate: number, epoch: number}} at @param {number} epochs */
function sides(image, at, epochs) {
  const start = (at.rate * epochs + at.epoch) * image.trainings;
  const found = { inside: [], outside: [] };
  for (let t = start; t < start + image.trainings; t++) {
    if (image.side[t] === 1) found.inside.push(image.log_p[t]);
    else if (image.side[t] === 0) found.outside.push(image.log_p[t]);
  }
  return found;
}

function histograms() {
  const bars = [svg("path", { fill: "var(--mv-mem)" }), svg("path", { fill: "var(--mv-null)" })];
  const lines = svg("path", { stroke: "var(--mv-ink)", "stroke-width": 1.4, fill: "none" });
  const gap = svg("text", { class: "mv-bold", y: 67, "text-anchor": "middle", "font-size": 11 });
  const counts = [34, 86].map((y) => svg("text", { class: "mv-axis", x: 0, y }));
  const ticks = svg("g");
  const names = [["in training", 20], ["held out", 72]].map(([words, y]) => svg("text", { class: "mv-val", x: 0, y }, String(words)));
  const axes = HIST_BASES.map(() => svg("path", { stroke: "var(--mv-line)" }));
  const chart = svg("svg", { class: "mv-dn-hist", height: 118, role: "img" }, ...axes, ...bars, lines, gap, ...names, ...counts, ticks);
  const body = el("tbody");
  const table = el("table", { class: "mv-sr" }, el("caption", {}, "Log-likelihoods of the opened image, nats"), el("thead", {}, el("tr", {}, ...["models", "count", "least", "median", "largest"].map((h) => el("th", { scope: "col" }, h)))), body);
  const root = el("div", { class: "mv-dn-histbox" }, chart, table);

  function draw(inside, outside, u, v, m) {
    const to = Math.max(240, root.clientWidth) - 10; // px; at the page's own size, so that text is never scaled
    axes.forEach((axis, row) => put(axis, { d: `M0 ${HIST_BASES[row]}H${to}` }));
    const all = [...inside, ...outside, u, v].filter(Number.isFinite);
    const [low, high] = [all.reduce((a, b) => Math.min(a, b), Infinity), all.reduce((a, b) => Math.max(a, b), -Infinity)];
    const span = Math.max(high - low, 1e-6);
    const at = (x) => HIST_FROM + ((to - HIST_FROM) * (x - low)) / span;
    [inside, outside].forEach((list, row) => {
      const bins = new Array(HIST_BINS).fill(0);
      for (const x of list) if (Number.isFinite(x)) bins[Math.min(HIST_BINS - 1, Math.floor((HIST_BINS * (x - low)) / span))]++;
      const most = Math.max(1, ...bins);
      const width = (to - HIST_FROM) / HIST_BINS;
      put(bars[row], { d: bins.map((n, b) => (n ? `M${(HIST_FROM + b * width + 0.5).toFixed(1)} ${HIST_BASES[row]}v${-((HIST_TALL * n) / most).toFixed(1)}h${(width - 1).toFixed(1)}V${HIST_BASES[row]}z` : "")).join("") || "M0 0" });
      say(counts[row], `${count(list.length)} model${list.length === 1 ? "" : "s"}`);
    });
    const [a, b] = [at(u), at(v)];
    const drawn = Number.isFinite(a) && Number.isFinite(b);
    put(lines, { d: drawn ? `M${a} 6V46M${b} 58V98M${b} 52H${a}M${b} 49v6M${a} 49v6` : "M0 0" });
    put(gap, { x: Math.max(HIST_FROM, Math.min(to - 30, (a + b) / 2)) });
    say(gap, drawn ? `M = ${nats(m)}` : "");
    const marks = roundTicks(low, high, 4).filter((t) => at(t) < to - 80);
    ticks.replaceChildren(...marks.map((t) => svg("text", { class: "mv-axis", x: at(t), y: 113, "text-anchor": "middle" }, tickWords(t))), svg("text", { class: "mv-axis", x: to, y: 113, "text-anchor": "end" }, "log p, nats"));
    const middle = (list) => [...list].sort((p, q) => p - q)[Math.floor(list.length / 2)];
    body.replaceChildren(...[["in training", inside], ["held out", outside]].map(([name, list]) => el("tr", {}, el("th", { scope: "row" }, name), ...[count(list.length), nats(Math.min(...list)), nats(middle(list)), nats(Math.max(...list))].map((x) => el("td", {}, x)))));
    put(chart, { "aria-label": `log-likelihoods: ${count(inside.length)} in training, median ${nats(middle(inside))}; ${count(outside.length)} held out, median ${nats(middle(outside))}; M ${nats(m)} nats` });
  }
  return { root, draw };
}
