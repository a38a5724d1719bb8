// @ts-check
/** All passages: the share recited and the perplexity of held-out text, each with interval and null. */
import { count, el, put, say, share, svg } from "../../core/static/dom.js";
import { groupMark, groupShape } from "../../core/static/palette.js";
import { chance, perplexity } from "./words.js";

const AXIS = 214;
const finite = (x) => typeof x === "number" && Number.isFinite(x);

/** Ends and ticks of an axis that holds these values. @param {number[]} values @returns {[number, number, number[]]} */
function axisOf(values) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const room = Math.max(high - low, high * 0.2) * 0.3;
  const [from, to] = [Math.max(0, low - room), high + room];
  const step = 10 ** Math.floor(Math.log10((to - from) / 2));
  const size = [5, 2, 1].find((k) => (to - from) / (k * step) >= 2) || 1;
  const ticks = [];
  for (let t = Math.ceil(from / (size * step)); t * size * step <= to && ticks.length < 6; t++) ticks.push(t * size * step);
  return [from, to, ticks];
}

/** @param {string} name @param {string} words @param {string} mark @param {string} colour @param {(x: any) => string} say_ */
function figureRow(name, words, mark, colour, say_) {
  const n = el("span", { class: "mv-n" });
  const [was, now, random] = ["mv-before", "mv-now", "mv-rnd"].map((c) => el("span", { class: c }));
  const travel = svg("path", { stroke: colour, "stroke-width": 1.3 });
  const band = svg("path", { stroke: colour, "stroke-width": 4, opacity: 0.35 });
  const hollow = svg("circle", { cy: 9, r: 4, fill: "var(--mv-paper)", stroke: colour, "stroke-width": 1.4 });
  const solid = svg("g", {}, groupShape(mark, 0, mark === "test" ? 9.6 : 9, 4.4));
  const nullBand = svg("path", { stroke: "var(--mv-null)", "stroke-width": 4, opacity: 0.4 });
  const diamond = svg("path", { fill: "var(--mv-null)" });
  const scale = svg("g");
  const chart = svg("svg", { viewBox: `0 0 ${AXIS} 46`, width: AXIS, height: 46, role: "img" }, travel, band, nullBand, diamond, hollow, solid, svg("path", { d: `M5 31H${AXIS - 5}`, stroke: "var(--mv-line)" }), scale);
  const root = el("div", { class: "mv-ex-row", "data-row": name }, el("div", { class: "mv-lab" }, groupMark(mark), el("b", {}, words), n),
    el("div", { class: "mv-big" }, was, el("span", { class: "mv-arr" }, "→"), now, random), chart);

  function show(row, spread, units, about) {
    const values = [row.before, row.after, row.low, row.high, spread && spread.mean, spread && spread.low, spread && spread.high].filter(finite);
    const [low, high, ticks] = name === "perplexity" ? axisOf(values) : [0, 1, [0, 0.5, 1]];
    const at = (x) => 5 + (AXIS - 10) * Math.max(0, Math.min(1, (x - low) / (high - low || 1)));
    const [a, b] = [finite(row.before) ? at(row.before) : AXIS - 5, finite(row.after) ? at(row.after) : AXIS - 5];
    say(n, about);
    say(was, say_(row.before));
    say(now, finite(row.after) ? say_(row.after) : "∞");
    say(random, units ? `random ${count(units)}: ${spread ? say_(spread.mean) : "…"}` : "");
    put(travel, { d: `M${a} 9H${b}` });
    put(band, { d: finite(row.low) && finite(row.high) ? `M${at(row.low)} 9H${at(row.high)}` : "M0 0" });
    put(hollow, { cx: a });
    put(solid, { transform: `translate(${b} 0)` });
    const c = spread && finite(spread.mean) ? at(spread.mean) : null;
    put(diamond, { d: c === null ? "M0 0" : `M${c} 18l4 4-4 4-4-4z` });
    put(nullBand, { d: c !== null && finite(spread.low) ? `M${at(spread.low)} 22H${at(spread.high)}` : "M0 0" });
    scale.replaceChildren(...ticks.flatMap((t) => [svg("path", { d: `M${at(t)} 28.5v2.5`, stroke: "var(--mv-soft)" }),
      svg("text", { class: "mv-axis", x: at(t), y: 44, "text-anchor": at(t) > AXIS - 16 && t > 1 ? "end" : "middle" }, name === "perplexity" ? count(t) : String(t).replace(/^0\./, "."))]));
    put(chart, { "aria-label": `${words} ${say_(row.before)} to ${say_(row.after)}${spread ? `, random units ${say_(spread.mean)}` : ""}` });
  }
  return { root, show };
}

/** Samples until one is the passage. @param {View} view */
function triesTable(view) {
  const { store } = view;
  const about = el("small");
  const off = el("th", { scope: "col" });
  const body = el("tbody");
  const note = el("p", { class: "mv-note" }, "n: samples until one is the passage with probability p.");
  const table = el("table", {}, el("thead", {}, el("tr", {}, el("td"), el("th", { scope: "col" }, "before"), off)), body);
  const root = el("div", { class: "mv-ex-tries" }, el("h3", {}, "(n, p) ", about), table, note);
  const samples = (n) => (n === null ? "never" : n >= 1e7 ? n.toExponential(0).replace("+", "") : count(n));
  function update() {
    const p = store.extraction.passage;
    root.hidden = !p;
    if (!p) return;
    const { before, after } = p.tries;
    table.hidden = note.hidden = !before;
    say(about, before ? `this passage, sampled at temperature ${p.temperature}${p.topK === null ? "" : `, top ${count(p.topK)}`}` : "does not apply to an edited prompt.");
    if (!before) return;
    say(off, p.units ? `${count(p.units)} off` : "");
    const line = (name, value) => el("tr", {}, el("th", { scope: "row" }, ...name), el("td", {}, value(before)), el("td", {}, p.units ? value(after) : ""));
    body.replaceChildren(line(["p", el("sub", {}, "z")], (t) => chance(t.p)), ...store.study.wanted.map((want, i) => line([`n for p = ${String(want).replace(/^0/, "")}`], (t) => samples(t.needed[i]))));
  }
  return { root, update };
}

/** @param {View} view */
export function readColumn(view) {
  const { store } = view;
  const title = el("h3", {}, "All passages ", el("small", {}, "○ before → after, with interval"));
  const recited = figureRow("recited", "Recited whole", "memorized", "var(--mv-mem)", share);
  const lost = figureRow("perplexity", "Held-out perplexity", "test", "var(--mv-test)", perplexity);
  const held = el("p", { class: "mv-ex-held" });
  const tries = triesTable(view);
  const mark = svg("svg", { class: "mv-mark", viewBox: "0 0 9 9", "aria-hidden": "true" }, svg("path", { d: "M4.5 0l4.5 4.5-4.5 4.5-4.5-4.5z", fill: "var(--mv-null)" }));
  const words = el("span");
  const none = el("p", { class: "mv-note" }, mark, " ", words);
  const root = el("section", { class: "mv-ex-read", "aria-label": "All passages before and after" }, title, recited.root, lost.root, held, tries.root, none);

  function update() {
    const { recited: r, nulls } = store.extraction;
    root.hidden = !r;
    if (!r) return;
    const drawn = nulls && nulls.version === r.version ? nulls : null;
    const spread = (name) => (drawn && drawn.draws ? drawn.figures[name] : null);
    const units = drawn && !drawn.draws ? 0 : r.units;
    title.firstChild.data = `All ${count(store.study.trained)} passages `;
    const rows = r.rows;
    recited.root.hidden = !rows.recited;
    if (rows.recited) recited.show(rows.recited, spread("recited"), units, `${count(rows.recited.counts[1])} of ${count(rows.recited.of)}`);
    lost.root.hidden = held.hidden = !rows.perplexity;
    if (rows.perplexity) lost.show(rows.perplexity, spread("perplexity"), units, `${count(rows.perplexity.of)} texts`);
    if (rows.held) held.replaceChildren(el("b", {}, "Held-out recited"), el("span", { class: "mv-n" }, `${count(rows.held.counts[0])} of ${count(rows.held.of)}${r.units ? ` → ${count(rows.held.counts[1])}` : ""}`), el("small", {}, "base rate: texts that were never seen"));
    tries.update();
    none.hidden = !r.units;
    say(words, drawn ? (drawn.draws ? `${count(drawn.units)} random units of the same layers, ${count(drawn.draws)}${drawn.draws < drawn.of ? ` of ${count(drawn.of)}` : ""} draws.` : `${drawn.words}.`) : "random units of the same layers: drawing …");
  }
  return { root, update };
}
