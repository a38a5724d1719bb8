// @ts-check
/** At the right: how many points stay right, beside random units; and units needed against N. */
import { count, el, say, svg } from "../../core/static/dom.js";

const NEEDED = { left: 34, right: 172, top: 8, bottom: 150 }; // of 224 × 176
const NEEDED_NAMES = { zhang: "Zhang", yun: "ReLU", "yun hardtanh": "tanh", none: "least" };

/** @param {View} view */
export function capacityFigures(view) {
  const { store } = view;
  const part = el("span", { class: "mv-note" });
  const [was, arrow, now, random] = [el("span", { class: "mv-before" }), el("span", { class: "mv-arr" }, "→"), el("span", { class: "mv-now" }), el("span", { class: "mv-note mv-cp-null" }, el("i", { "aria-hidden": "true" }, "◆ "), el("span"))];
  const words = el("p", { class: "mv-note" });
  const plot = svg("svg", { viewBox: "0 0 224 176", width: "100%", role: "img", "aria-label": "Hidden units needed against the number of points, both axes logarithmic" });
  const key = el("p", { class: "mv-note" });
  const rows = el("tbody");
  const table = el("table", { class: "mv-sr" }, el("caption", {}, "Units needed"), rows);
  const root = el("div", { class: "mv-cp-read" }, el("h3", {}, "Training points ", el("small", {}, "○ before → ● after")),
    el("section", { "aria-label": "Right" }, el("div", { class: "mv-cp-hd" }, el("b", {}, "Right"), part), el("div", { class: "mv-big" }, was, arrow, now, random), words),
    el("section", { "aria-label": "Units needed" }, el("div", { class: "mv-cp-hd" }, el("b", {}, "Units needed"), el("span", { class: "mv-note" }, "log–log, against N")), plot, key, table));

  function update() {
    const { fn, needed } = store.capacity;
    if (fn) {
      const n = fn.sign.length;
      say(part, `${fn.right[1]} of ${n}`);
      say(was, fn.units ? fn.right[0] : "");
      say(now, fn.right[1]);
      arrow.hidden = !fn.units;
      say(random.lastChild, fn.units ? (fn.null === null ? "no other units" : `random ${count(fn.units)}: ${fn.null.toFixed(1)}`) : "");
      random.firstElementChild.hidden = !fn.units || fn.null === null;
      random.title = "Points that stay right with as many random units of the same layers off, mean of 20 draws";
      const moved = fn.moved.reduce((sum, m) => sum + m, 0);
      const tanh = store.state && store.state.capacity && store.state.capacity.values.method === "yun";
      const why = tanh ? " One owner that is off moves every other point by 1 as well; two neighbours together change their own points alone." : "";
      say(words, fn.units ? `${moved} of ${n} points changed their value.${why}` : "An owner is the unit, or the units, that give some points their value.");
    }
    if (needed) drawNeeded(needed);
  }

  /** @param {CapacityNeeded} needed */
  function drawNeeded(needed) {
    const n = store.state && store.state.capacity ? store.state.capacity.values.n : null;
    const all = [...needed.lines.flatMap((line) => line.units), ...needed.trained.map((t) => t.units)];
    const [low, high] = [Math.log10(Math.min(...all)), Math.log10(Math.max(...all))];
    const [first, last] = [needed.points[0], needed.points[needed.points.length - 1]];
    const x = (points) => NEEDED.left + ((NEEDED.right - NEEDED.left) * Math.log10(points / first)) / Math.log10(last / first);
    const y = (units) => NEEDED.bottom - ((NEEDED.bottom - NEEDED.top) * (Math.log10(units) - low)) / Math.max(1e-9, high - low);
    const text = (attrs, content) => svg("text", { class: "mv-axis", ...attrs }, content);
    const tens = [1, 10, 100, 1000].filter((t) => Math.log10(t) >= low - 1e-9 && Math.log10(t) <= high + 1e-9);
    const axes = [...tens.flatMap((t) => [svg("path", { d: `M${NEEDED.left} ${y(t)}H${NEEDED.right}`, stroke: "var(--mv-line)" }), text({ x: 30, y: y(t) + 4, "text-anchor": "end" }, count(t))]),
      ...[10, 100, 1000].map((t) => text({ x: x(t), y: 168, "text-anchor": "middle" }, count(t)))];
    const here = n === null || n < first ? [] : [svg("path", { d: `M${x(n)} ${NEEDED.top}V${NEEDED.bottom}`, stroke: "var(--mv-null)" })];
    const dash = (line) => (line.method === "none" ? "4 3" : line.method === "zhang" ? "1.5 2.5" : null);
    let lastY = -Infinity;
    const ends = [...needed.lines].sort((a, b) => b.units[b.units.length - 1] - a.units[a.units.length - 1]);
    const names = ends.map((line) => {
      lastY = Math.max(lastY + 12, y(line.units[line.units.length - 1]) + 4);
      return text({ x: NEEDED.right + 5, y: lastY }, NEEDED_NAMES[line.method] || line.method);
    });
    const lines = needed.lines.map((line) => svg("polyline", { points: line.units.map((u, i) => `${x(needed.points[i]).toFixed(1)},${y(u).toFixed(1)}`).join(" "), fill: "none", "stroke-width": 1.5,
      stroke: line.method === "none" ? "var(--mv-null)" : "var(--mv-ink)", "stroke-dasharray": dash(line) }));
    const trained = needed.trained.filter((t) => t.reached).map((t) => svg("path", { d: `M${x(t.points)} ${y(t.units) - 4.5}l4.2 7.5h-8.4z`, fill: "var(--mv-paper)", stroke: "var(--mv-ink)" }));
    plot.replaceChildren(...axes, ...here, ...lines, ...trained, ...names);
    say(key, "solid, dotted: theorems (Yun, Zhang) · dashed: needed for the worst points, derived · △ trained by Adam on random labels, measured here");
    const line = (l) => el("tr", {}, el("th", { scope: "row" }, `${NEEDED_NAMES[l.method] || l.method}, ${l.label}`), ...l.units.map((u, i) => el("td", {}, `${count(u)} for ${count(needed.points[i])} points`)));
    rows.replaceChildren(...needed.lines.map(line), ...needed.trained.map((t) => el("tr", {}, el("th", { scope: "row" }, "trained, measured"), el("td", {}, `${t.reached ? "" : "more than "}${count(t.units)} for ${count(t.points)} points`))));
  }
  return { root, update };
}
