// @ts-check
/** The figures of all pairs: gaps and utility before → after with their null, and the recall curves. */
import { count, el, put, say, share, svg } from "../../core/static/dom.js";

const WIDTH = 200;
const ROWS = [["PPG", "precision gap", -0.5], ["PRG", "recall gap", -0.5], ["AUCG", "area gap", -0.5], ["utility", "zero-shot precision", 0]];

/** @param {string} name @param {string} about @param {number} low */
function gapRow(name, about, low) {
  const at = (x) => 5 + (WIDTH - 10) * Math.max(0, Math.min(1, (x - low) / (1 - low)));
  const was = el("span", { class: "mv-before" });
  const now = el("span", { class: "mv-now" });
  const random = el("span", { class: "mv-rnd" });
  const travel = svg("path", { stroke: "var(--mv-soft)", "stroke-width": 1.5 });
  const hollow = svg("circle", { cy: 8, r: 4, fill: "var(--mv-paper)", stroke: "var(--mv-ink)", "stroke-width": 1.5 });
  const solid = svg("circle", { cy: 8, r: 4, fill: "var(--mv-ink)" });
  const diamond = svg("path", { fill: "var(--mv-null)" });
  const ticks = [0, 0.5, 1];
  const axis = svg("path", { d: `M5 27h${WIDTH - 10}${ticks.map((t) => `M${at(t)} 27v3`).join("")}`, stroke: "var(--mv-line)", fill: "none" });
  const labels = ticks.map((t) => svg("text", { class: "mv-axis", x: at(t), y: 40, "text-anchor": t === 1 ? "end" : "middle" }, t === 0.5 ? ".5" : String(t)));
  const chart = svg("svg", { viewBox: `0 0 ${WIDTH} 44`, width: WIDTH, height: 44, role: "img" }, axis, travel, diamond, hollow, solid, ...labels);
  const node = el("div", { class: "mv-dv-row", "data-measure": name }, el("div", { class: "mv-lab" }, el("b", {}, name === "utility" ? "Utility" : name), el("span", { class: "mv-n" }, about)),
    el("div", { class: "mv-big" }, was, el("span", { class: "mv-arr" }, "→"), now, random), chart);

  function show(figure, none, chance, units) {
    say(was, minus(figure.before));
    say(now, minus(figure.after));
    const a = at(figure.before ?? 0);
    const b = at(figure.after ?? 0);
    put(travel, { d: `M${a} 8H${b}` });
    put(hollow, { cx: a });
    put(solid, { cx: b });
    const x = typeof none === "number" ? at(none) : null;
    put(diamond, { d: x === null ? "M0 0" : `M${x} 15.5l4 4-4 4-4-4z` });
    say(random, units ? `random ${count(units)}: ${chance ? minus(chance.mean) : "…"}` : "");
    put(chart, { "aria-label": `${name} ${minus(figure.before)} to ${minus(figure.after)}${typeof none === "number" ? `, null ${minus(none)}` : ""}` });
  }
  return { name, node, show };
}

/** @param {any} x */
function minus(x) {
  return typeof x === "number" && x < 0 ? `−${share(-x)}` : share(x);
}

/** Share of pairs at or above a recall: target above, reference dashed, AUCG between. @param {string} words */
function survival(words) {
  const W = WIDTH;
  const H = 62;
  const area = svg("path", { fill: "var(--mv-null)", opacity: 0.3 });
  const target = svg("path", { fill: "none", stroke: "var(--mv-ink)", "stroke-width": 1.6 });
  const reference = svg("path", { fill: "none", stroke: "var(--mv-soft)", "stroke-width": 1.3, "stroke-dasharray": "3 2.5" });
  const base = svg("path", { d: `M0 ${H}H${W}`, stroke: "var(--mv-line)" });
  const label = svg("text", { class: "mv-axis mv-bold", x: W, y: 10, "text-anchor": "end" }, words);
  const amount = svg("text", { class: "mv-axis", x: W, y: 23, "text-anchor": "end" });
  const marks = [["0", 0, "start"], ["recall", W / 2, "middle"], ["1", W, "end"]].map(([text, x, anchor]) => svg("text", { class: "mv-axis", x, y: H + 13, "text-anchor": anchor }, String(text)));
  const node = svg("svg", { viewBox: `0 0 ${W} ${H + 16}`, width: W, height: H + 16, role: "img" }, area, reference, target, base, label, amount, ...marks);
  function show(mine, other, aucg) {
    const points = (values) => Array.from(values, (v, i) => `${((i / (values.length - 1)) * W).toFixed(1)} ${(H - v * (H - 4)).toFixed(1)}`);
    const [above, below] = [points(mine), points(other)];
    put(target, { d: `M${above.join("L")}` });
    put(reference, { d: `M${below.join("L")}` });
    put(area, { d: `M${above.join("L")}L${below.reverse().join("L")}Z` });
    say(amount, `AUCG ${minus(aucg)}`);
    put(node, { "aria-label": `${words}: AUCG ${minus(aucg)}` });
  }
  return { node, show };
}

/** @param {View} view */
export function gapsColumn(view) {
  const { store } = view;
  const rows = ROWS.map(([name, about, low]) => gapRow(String(name), String(about), Number(low)));
  const title = el("h3", {}, "All pairs ", el("small", {}, "○ before → ● after"));
  const notes = el("p", { class: "mv-note" });
  const before = survival("before");
  const after = survival("now");
  const curves = el("div", { class: "mv-dv-curves" }, el("h3", {}, "Share of pairs at or above a recall"), before.node, after.node,
    el("p", { class: "mv-note" }, "— target · - - reference · between: AUCG"));
  const root = el("section", { class: "mv-dv-gaps", "aria-label": "Figures of all pairs" }, title, ...rows.map((r) => r.node), notes, curves);

  function update() {
    const { gaps, chance } = store;
    root.hidden = !gaps;
    if (!gaps) return;
    const named = (list, name) => (list ? list.find((f) => f.name === name) : null);
    const drawn = chance && chance.version === gaps.version ? chance.figures : null;
    const none = drawn && !chance.draws;
    const undrawn = !drawn && store.saved; // nobody draws any more
    title.firstChild.data = `All ${count(gaps.pairs)} pairs `;
    for (const row of rows) {
      const held = named(gaps.figures, `held-out ${row.name}`);
      const random = named(drawn, row.name);
      row.show(named(gaps.figures, row.name), row.name === "utility" ? random && random.mean : held && held.after, random, none || undrawn ? 0 : gaps.units);
    }
    const drew = drawn ? `, mean of ${count(chance.draws)} draw${chance.draws === 1 ? "" : "s"}` : "";
    const beside = none ? `. ${chance.words}` : undrawn && gaps.units ? ". Random units need a running kernel" : gaps.units ? `; for utility, ${count(gaps.units)} random units of the same layers${drew}` : "";
    say(notes, `◆ grey: the same gap on ${count(gaps.held_out)} held-out pairs${beside}.`);
    const aucg = named(gaps.figures, "AUCG");
    before.show(gaps.beforeCurve, gaps.referenceCurve, aucg.before);
    after.show(gaps.afterCurve, gaps.referenceCurve, aucg.after);
    after.node.toggleAttribute("hidden", !gaps.units);
  }
  return { root, update };
}
