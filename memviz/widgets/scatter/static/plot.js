// @ts-check
/** Drawing of the scatter: its two scales, the axes, and a mark for each unit. */
import { svg } from "../../core/static/dom.js";

const PAD = 0.04; // of the range, free at each end

/** Where values lie between two pixels, and round ticks. @param {number[]} values @param {number} from @param {number} to */
export function plotScale(values, from, to) {
  let low = Infinity;
  let high = -Infinity;
  for (const v of values) {
    if (!Number.isFinite(v)) continue;
    if (v < low) low = v;
    if (v > high) high = v;
  }
  if (low > high) [low, high] = [0, 1];
  const room = (high - low) * PAD || Math.abs(high) * 0.1 || 1;
  low -= room;
  high += room;
  const rough = (high - low) / 5;
  const decade = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * decade).find((n) => n >= rough) || rough;
  const ticks = [];
  for (let n = Math.ceil(low / step); n * step <= high; n++) ticks.push(n * step);
  return { at: (v) => from + ((to - from) * (v - low)) / (high - low), ticks };
}

/** ".05", "−2", "1200" @param {number} value */
export function tickText(value) {
  return String(Number(value.toPrecision(3))).replace(/^(-?)0\./, "$1.").replace("-", "−");
}

/** Hairlines and ticks, into an SVG of this box. @param {SVGElement} root @param {any} box @param {any} x @param {any} y */
export function plotAxes(root, { left, right, top, bottom }, x, y) {
  const path = (d, more) => svg("path", { d, fill: "none", stroke: "var(--mv-line)", ...more });
  const text = (attrs, value) => svg("text", { class: "mv-axis", ...attrs }, tickText(value));
  const quiet = { opacity: 0.45 };
  root.replaceChildren(
    ...x.ticks.map((v) => path(`M${x.at(v)} ${top}V${bottom}`, v === 0 ? {} : quiet)),
    ...y.ticks.map((v) => path(`M${left} ${y.at(v)}H${right}`, v === 0 ? {} : quiet)),
    path(`M${left} ${top}V${bottom}H${right}`),
    ...x.ticks.map((v) => text({ x: x.at(v), y: bottom + 15, "text-anchor": "middle" }, v)),
    ...y.ticks.map((v) => text({ x: left - 7, y: y.at(v) + 4, "text-anchor": "end" }, v)),
  );
}

/** Radius in px, by how many dots there are. @param {number} units */
export function dotRadius(units) {
  return units > 3000 ? 2 : units > 600 ? 2.8 : 3.8;
}

/**
 * One mark a unit: ● or, where one or both of its scores are estimates, ○; × ablated; a ring where it
 * is brushed; faint where its layer is not chosen.
 * @param {HTMLCanvasElement} canvas @param {number} width @param {number} height @param {any} marks @param {Palette} palette
 */
export function plotDots(canvas, width, height, { x, y, live, hollow, off, brushed, radius }, palette) {
  const scale = window.devicePixelRatio || 1;
  Object.assign(canvas, { width: Math.round(width * scale), height: Math.round(height * scale) });
  Object.assign(canvas.style, { width: `${width}px`, height: `${height}px` });
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  const known = [];
  for (let row = 0; row < x.length; row++) if (Number.isFinite(x[row])) known.push(row);
  const circles = (rows, r) => {
    pen.beginPath();
    for (const row of rows) {
      pen.moveTo(x[row] + r, y[row]);
      pen.arc(x[row], y[row], r, 0, 2 * Math.PI);
    }
  };
  const stroke = (colour, thick, /** @type {[Path2D?]} */ ...path) => Object.assign(pen, { strokeStyle: colour, lineWidth: thick }).stroke(...path);
  pen.fillStyle = palette.line;
  circles(known.filter((row) => !live[row]), radius * 0.6);
  pen.fill();
  const shown = known.filter((row) => live[row]);
  pen.fillStyle = palette.steps[7];
  pen.globalAlpha = 0.75;
  for (const row of shown) {
    if (off[row] || hollow[row]) continue;
    circles([row], radius); // one by one, so that dots over dots are darker
    pen.fill();
  }
  pen.globalAlpha = 1;
  circles(shown.filter((row) => !off[row] && hollow[row]), radius - 0.4);
  stroke(palette.steps[6], 1.2);
  const arm = radius + 0.2;
  const crosses = new Path2D();
  for (const row of shown) {
    if (!off[row]) continue;
    crosses.moveTo(x[row] - arm, y[row] - arm);
    crosses.lineTo(x[row] + arm, y[row] + arm);
    crosses.moveTo(x[row] + arm, y[row] - arm);
    crosses.lineTo(x[row] - arm, y[row] + arm);
  }
  pen.lineCap = "round";
  const dense = radius < 3; // rings lie close to their dots then, and under the crosses
  if (!dense) stroke(palette.paper, 4.5, crosses);
  circles(shown.filter((row) => brushed.has(row)), radius + (dense ? 0.8 : 2.6));
  stroke(palette.ink, dense ? 0.8 : 1.5);
  if (dense) stroke(palette.paper, 4, crosses);
  stroke(palette.ink, dense ? 1.5 : 1.8, crosses);
}
