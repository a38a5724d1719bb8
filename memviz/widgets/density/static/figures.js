// @ts-check
/** What the ablated units do: M of the groups in training, log p of those held out, each with its null. */
import { capital, count, el, put, say, svg } from "../../core/static/dom.js";
import { groupColour, groupMark, groupShape } from "../../core/static/palette.js";
import { nats, rateWords, roundTicks, tickWords } from "./words.js";

const [ROW_FROM, ROW_SPAN] = [6, 296];

/** @param {string} name */
function densityRow(name) {
  const colour = groupColour(name);
  const title = el("b", { title: name });
  const n = el("span", { class: "mv-n" });
  const was = el("span", { class: "mv-before" });
  const arrow = el("span", { class: "mv-arr" }, "→");
  const now = el("span", { class: "mv-now" });
  const random = el("span", { class: "mv-rnd" });
  const chart = svg("svg", { viewBox: "0 0 308 46", role: "img" });
  const node = el("div", { class: "mv-dn-row", "data-group": name }, el("div", { class: "mv-lab" }, groupMark(name), title, n), el("div", { class: "mv-big" }, was, arrow, now, random), chart);

  /** @param {DensityRow} row @param {number | null} mean of random units @param {number} units */
  function show(row, mean, units) {
    say(title, `${row.measure === "M" ? "M of " : "Log p of "}${row.name}`);
    say(n, `${count(row.n)} image${row.n === 1 ? "" : "s"}`);
    say(was, nats(row.before));
    say(now, nats(row.after));
    was.hidden = arrow.hidden = !units;
    const drawn = row.random ? row.random[0] : mean;
    say(random, units ? `random ${count(units)}: ${drawn === null ? "…" : nats(drawn)}` : "");
    const ends = [row.before, row.after, row.low, row.high, drawn, ...(row.random || []), ...(row.measure === "M" ? [0] : [])].filter((x) => typeof x === "number");
    let [low, high] = [Math.min(...ends), Math.max(...ends)];
    if (high - low < 1) [low, high] = [low - 0.5, high + 0.5];
    const at = (x) => ROW_FROM + (ROW_SPAN * (x - low)) / (high - low);
    const marks = [svg("path", { d: `M${ROW_FROM} 31h${ROW_SPAN}${roundTicks(low, high, 4).map((t) => `M${at(t)} 28.5v2.5`).join("")}`, stroke: "var(--mv-line)", fill: "none" }),
      ...roundTicks(low, high, 4).map((t) => svg("text", { class: "mv-axis", x: Math.max(10, Math.min(298, at(t))), y: 44, "text-anchor": "middle" }, tickWords(t)))];
    if (row.after !== null && row.before !== null) {
      marks.push(svg("path", { d: `M${at(row.low ?? row.after)} 9H${at(row.high ?? row.after)}`, stroke: colour, "stroke-width": 4, opacity: 0.35 }), svg("path", { d: `M${at(row.before)} 9H${at(row.after)}`, stroke: colour, "stroke-width": 1.3 }));
      if (units) marks.push(svg("circle", { cx: at(row.before), cy: 9, r: 4, fill: "var(--mv-paper)", stroke: colour, "stroke-width": 1.4 }));
      marks.push(groupShape(name, at(row.after), 9, 4.4));
    }
    if (units && row.random) marks.push(svg("path", { d: `M${at(row.random[1])} 22H${at(row.random[2])}`, stroke: "var(--mv-null)", "stroke-width": 4, opacity: 0.4 }));
    if (units && drawn !== null) marks.push(svg("path", { d: `M${at(drawn)} 18l4 4-4 4-4-4z`, fill: "var(--mv-null)" }));
    chart.replaceChildren(...marks);
    put(chart, { "aria-label": `${row.measure} of ${row.name} ${nats(row.before)}${units ? ` to ${nats(row.after)}` : ""}${units && drawn !== null ? `, random units ${nats(drawn)}` : ""}` });
  }
  return { node, show };
}

/** @param {View} view */
export function densityRows(view) {
  const { store } = view;
  const title = el("span");
  const small = el("small");
  const rows = el("div");
  const note = el("p", { class: "mv-note mv-dn-how" });
  const root = el("section", { "aria-label": "What the ablated units do" }, el("h3", {}, title, " ", small), rows, note);
  let parts = [];
  let known = "";

  /** @param {Set<string>} dirty */
  function update(dirty) {
    const figures = store.densityFigures;
    root.hidden = !figures;
    if (!figures || !["density", "density_figures", "random", "readout", "study"].some((kind) => dirty.has(kind))) return;
    const names = figures.rows.map((row) => row.name).join("\n");
    if (known !== names) {
      parts = figures.rows.map((row) => densityRow(row.name));
      rows.replaceChildren(...parts.map((part) => part.node));
    }
    known = names;
    say(title, figures.units ? `${count(figures.units)} of ${count(figures.of)} units off` : "All units are on");
    say(small, figures.units ? "○ before → after, mean and interval" : "mean and interval");
    const random = store.random && store.random.draws ? store.random : null;
    figures.rows.forEach((row, i) => {
      const group = random ? random.groups.find((g) => g.name === row.name) : null;
      const mean = group && typeof group.margin === "number" && row.shift !== null ? group.margin + row.shift : null;
      const none = store.random && !store.random.draws;
      parts[i].show(row, figures.units && !none ? mean : null, figures.units);
    });
    const words = store.random ? store.random.words : "";
    const draws = random ? `, ${count(random.draws)}${random.draws < random.of ? ` of ${count(random.of)}` : ""} draws` : "";
    const of = store.density ? store.density.of_model : null;
    const variant = store.state ? store.state.variant : "";
    const model = variant ? ` (${variant})` : of ? `, ${count(of[1])} epochs at ${rateWords(of[0])},` : "";
    say(note, `M here is log p under the study's model${model} less what models trained without the image gave it.${figures.units && words ? ` ◆ ${capital(words)}${draws}.` : ""}`);
  }
  return { root, update, prompt: true };
}
