// @ts-check
/** Over training: the soft network beside the hard one, and who is learnt first. */
import { count, el, put, say, share, svg } from "../../core/static/dom.js";
import { groupColour, groupShape } from "../../core/static/palette.js";

const [FROM_X, TO_X, FROM_Y, TO_Y] = [34, 296, 8, 128];

/** @param {View} view */
export function gateCharts(view) {
  const { store } = view;
  const two = el("div", { class: "mv-gt-charts" });
  const none = el("p", { class: "mv-note" });
  const root = el("section", { class: "mv-gt-train", "aria-label": "Over training" }, two, none);

  function update(dirty) {
    if (!store.gateCurves || !["gate_curves", "study"].some((kind) => dirty.has(kind))) return;
    say(none, store.gateCurves.words);
    two.replaceChildren(...store.gateCurves.charts.map(drawChart));
  }
  return { root, update };
}

/** @param {GateChart} chart */
function drawChart({ title, small, note, lines, level, gap }) {
  const steps = lines[0].step;
  const last = steps[steps.length - 1] || 1;
  const x = (step) => FROM_X + (TO_X - FROM_X) * Math.sqrt(step / last); // early steps lie apart
  const y = (value) => TO_Y - (TO_Y - FROM_Y) * value;
  const text = (attrs, words) => svg("text", { class: "mv-axis", ...attrs }, words);
  const across = (value, look) => svg("path", { d: `M${FROM_X} ${y(value)}H${TO_X}`, ...look });
  const parts = ["0", ".5", "1"].flatMap((words) => [across(Number(words), { stroke: "var(--mv-line)" }), text({ x: FROM_X - 6, y: y(Number(words)) + 4, "text-anchor": "end" }, words)]);
  let least = Infinity;
  for (const step of [...steps].reverse()) {
    if (least - x(step) < 44) continue;
    least = x(step);
    parts.push(text({ x: least, y: TO_Y + 18, "text-anchor": "middle" }, count(step)));
  }
  const ends = lines.map((line) => ({ at: line.value[line.value.length - 1], words: line.name }));
  if (level) parts.push(across(level.value, { stroke: "var(--mv-null)", "stroke-width": 3, opacity: 0.5 }));
  if (level) ends.push({ at: level.value, words: level.words });
  for (const { group, step, value, dashed, mark } of lines) {
    const stroke = groupColour(group);
    const end = y(value[value.length - 1]);
    parts.push(svg("polyline", { points: step.map((s, i) => `${x(s).toFixed(1)},${y(value[i]).toFixed(1)}`).join(" "), fill: "none", stroke, "stroke-width": 2, "stroke-linejoin": "round", "stroke-dasharray": dashed || false }));
    if (mark) parts.push(mark === "ring" ? svg("circle", { cx: TO_X, cy: end, r: 3.6, fill: "var(--mv-paper)", stroke, "stroke-width": 1.4 }) : groupShape(group, TO_X, end, 4));
  }
  if (gap) parts.push(svg("path", { d: `M${x(gap.step)} ${y(gap.high)}V${y(gap.low)}`, stroke: "var(--mv-ink)", "stroke-dasharray": "2 3" }), text({ x: x(gap.step) + 8, y: y((gap.high + gap.low) / 3), class: "mv-val" }, gap.words));
  let lowest = -Infinity;
  for (const { at, words } of ends.sort((p, q) => q.at - p.at)) {
    lowest = Math.max(y(at) + 4, lowest + 13);
    parts.push(text({ x: TO_X + 9, y: lowest, class: "mv-val" }, words.length > 15 ? `${words.slice(0, 14)}…` : words));
  }
  const picture = svg("svg", { viewBox: "0 0 380 150", role: "img", "aria-label": `${title}: ${note}` }, ...parts);
  const row = (name, values, tag) => el("tr", {}, el("th", { scope: "row" }, name), ...values.map((value) => el(tag, {}, value)));
  const table = el("table", { class: "mv-sr" }, row("step", steps.map(count), "th"), ...lines.map((line) => row(line.name, line.value.map(share), "td")));
  const sample = ({ group, dashed }) => svg("svg", { viewBox: "0 0 24 8" }, svg("path", { d: "M0 4H24", stroke: groupColour(group), "stroke-width": 2, "stroke-dasharray": dashed || false }));
  const key = el("p", { class: "mv-gt-key", "aria-hidden": "true" }, ...lines.map((line) => el("span", {}, sample(line), line.words)));
  return put(el("div", {}, el("h3", {}, title, " ", el("small", {}, small)), picture, key, el("p", { class: "mv-note" }, note), table), { "data-chart": title });
}
