// @ts-check
/** The function along the projection, before and after, with the owner of each point below it. */
import { el, put, say, svg } from "../../core/static/dom.js";

const CHART = { left: 30, right: 546, top: 24, bottom: 148, digits: 184, brackets: 208 }; // of 556 × 222
const MOST_DIGITS = 64; // points; with more, the digits would only hide each other

/** @param {View} view */
export function functionChart(view) {
  const { store } = view;
  const [grid, marks, digits] = [svg("g"), svg("g"), svg("g")];
  const line = (attrs) => svg("polyline", { fill: "none", "stroke-linejoin": "round", ...attrs });
  const before = line({ stroke: "var(--mv-null)", "stroke-width": 1.3 });
  const after = line({ stroke: "var(--mv-ink)", "stroke-width": 1.5 });
  const chart = svg("svg", { class: "mv-cp-chart", viewBox: "0 0 556 222", width: "100%", role: "img" }, grid, before, after, marks, digits);
  const where = el("small");
  const key = el("span", { class: "mv-legend" }, el("i", { class: "mv-cp-was" }), "before ", el("i", { class: "mv-cp-is" }), "after");
  const note = el("p", { class: "mv-note" });
  const rows = el("tbody");
  const table = el("table", { class: "mv-sr" }, el("caption", {}, "Points in the order of their places"),
    el("thead", {}, el("tr", {}, ...["place", "sign", "owner", "before", "after"].map((name) => el("th", { scope: "col" }, name)))), rows);
  const waiting = el("p", { class: "mv-empty" }, "Building the network …");
  const root = el("section", { class: "mv-cp-fn", "aria-label": "The function along the projection" },
    el("div", { class: "mv-cp-hd" }, el("h3", {}, "The function along the projection ", where), key), waiting, chart, note, table);

  function update() {
    const { fn, shown, held } = store.capacity;
    const ringed = shown || (held ? held.points : new Set());
    waiting.hidden = Boolean(fn);
    put(chart, { display: fn ? null : "none" });
    if (!fn) return;
    const [from, to] = [fn.along[0], fn.along[fn.along.length - 1]];
    const x = (place) => CHART.left + ((CHART.right - CHART.left) * (place - from)) / Math.max(1e-12, to - from);
    // The axis holds -1 to 1 and all that the points say; what the line does beyond is cut off.
    const values = [...fn.before, ...fn.after].filter(Number.isFinite);
    const [low, high] = [Math.min(-1, ...values), Math.max(1, ...values)];
    const y = (value) => CHART.bottom - ((CHART.bottom - CHART.top) * (Math.max(low - 0.14 * (high - low), Math.min(high + 0.14 * (high - low), value)) - low)) / (high - low);
    const text = (attrs, words) => svg("text", { class: "mv-axis", ...attrs }, words);
    const name = (value) => `${value > 0 ? "+" : value < 0 ? "−" : ""}${Number(Math.abs(value).toPrecision(2))}`;
    const ticks = [...new Set([low < -1.5 ? low : -1, 0, high > 1.5 ? high : 1])];
    grid.replaceChildren(...ticks.flatMap((v) => [svg("path", { d: `M${CHART.left} ${y(v)}H${CHART.right}`, stroke: "var(--mv-line)", "stroke-dasharray": v === 0 ? "2 3" : null }), text({ x: 24, y: y(v) + 4, "text-anchor": "end" }, name(v))]));
    const points = (line) => Array.from(line, (v, i) => `${x(fn.along[i]).toFixed(1)},${y(v).toFixed(1)}`).join(" ");
    put(before, { points: points(fn.lineBefore) });
    put(after, { points: fn.units ? points(fn.lineAfter) : "" });
    put(before, { stroke: fn.units ? "var(--mv-null)" : "var(--mv-ink)" });
    const off = new Set(fn.off);
    const order = Array.from(fn.place.keys()).sort((a, b) => fn.place[a] - fn.place[b]);
    marks.replaceChildren(...order.flatMap((i) => {
      const cx = x(fn.place[i]);
      const ring = ringed.has(i) ? [svg("circle", { cx, cy: y(fn.after[i]), r: 7, fill: "none", stroke: "var(--mv-ink)" })] : [];
      if (!fn.moved[i]) return [...ring, svg("circle", { cx, cy: y(fn.after[i]), r: 3.6, fill: "var(--mv-ink)" })];
      return [...ring, svg("path", { d: `M${cx} ${y(fn.before[i])}V${y(fn.after[i])}`, stroke: "var(--mv-down)", "stroke-width": 1.8 }),
        svg("circle", { cx, cy: y(fn.before[i]), r: 3.6, fill: "var(--mv-paper)", stroke: "var(--mv-ink)", "stroke-width": 1.3 }),
        svg("circle", { cx, cy: y(fn.after[i]), r: 3.6, fill: "var(--mv-down)" })];
    }));
    digits.replaceChildren(...(fn.ownerUnits.length && order.length <= MOST_DIGITS ? ownerDigits(fn, order, x, off) : []), ...(fn.grouped ? brackets(fn, order, x) : []));
    say(where, `output against u · x${["yun", "zhang", "narrow"].some((m) => store.state && store.state.capacity && store.state.capacity.values.method.startsWith(m)) ? "" : ", straight from point to point"}`);
    const bottom = fn.ownerUnits.length ? (order.length <= MOST_DIGITS ? "Digits: the owner of each point, bold where it is off" : "More points than there is room for digits: owners are in the list below") : "No unit of this network owns a point";
    say(note, `${bottom}${fn.grouped ? "; brackets: the groups of layer 1" : ""}. ● unchanged, ○ before, joined to ● after in orange.`);
    put(chart, { "aria-label": `The function along the projection. ${fn.sentence}` });
    rows.replaceChildren(...order.map((i) => el("tr", {}, ...[name(fn.place[i]), fn.sign[i] ? "+" : "−", fn.ownerUnits.length ? fn.owner[i] + 1 : "none", name(fn.before[i]), name(fn.after[i])].map((cell) => el("td", {}, String(cell))))));
  }
  return { root, update, prompt: true };
}

/** One number below each point, in two rows where they would touch. @param {CapacityFunction} fn */
function ownerDigits(fn, order, x, off) {
  let [last, row] = [-Infinity, 0];
  return order.map((i) => {
    const at = x(fn.place[i]);
    row = at - last < 9 + 6 * String(fn.owner[i] + 1).length ? (row + 1) % 3 : 0;
    last = at;
    return svg("text", { x: at, y: CHART.digits - 12 + row * 11, "text-anchor": "middle", class: off.has(fn.owner[i]) ? "mv-cp-bold" : "mv-axis" }, String(fn.owner[i] + 1));
  });
}

/** @param {CapacityFunction} fn */
function brackets(fn, order, x) {
  const ends = new Map();
  for (const i of order) {
    const at = x(fn.place[i]);
    const [from, to] = ends.get(fn.group[i]) || [at, at];
    ends.set(fn.group[i], [Math.min(from, at), Math.max(to, at)]);
  }
  return [...ends.values()].map(([from, to]) => svg("path", { d: `M${from - 4} ${CHART.brackets}v4H${to + 4}v-4`, fill: "none", stroke: "var(--mv-soft)" }));
}
