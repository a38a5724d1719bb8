// @ts-check
/** All methods on the same points: decision regions side by side, and a table. */
import { count, el, put, say, share, svg } from "../../core/static/dom.js";
import { hatch } from "../../core/static/palette.js";

const PANEL = 182; // px of a picture's side, at most
const DRAWN_METHODS = ["yun", "zhang", "bubeck", "yu", "trained"];
const ALL_METHODS = ["yun", "yun relu", "yun4", "zhang", "bubeck", "yu", "narrow", "trained"];
const UNIT_NAMES = { yu: "rings: certified balls" };

/** @param {View} view */
export function besideMethods(view) {
  const { store } = view;
  const panels = DRAWN_METHODS.map((method) => regionsPanel(view, method));
  const flat = el("p", { class: "mv-empty" }, "Decision regions are drawn in two dimensions.");
  const pictures = el("div", { class: "mv-cp-panels" }, ...panels.map((panel) => panel.root));
  const note = el("p", { class: "mv-note" });
  const rows = el("tbody");
  const names = ["method", "units", "largest weight", "error, float64", "error, float32", "train", "test"];
  const table = el("table", { class: "mv-cp-table" }, el("thead", {}, el("tr", {}, ...names.map((name) => el("th", { scope: "col" }, name)))), rows);
  const key = el("span", { class: "mv-legend" }, "hatched: says +\u2002 plain: says −\u2002 dotted: says nothing\u2002 ● +\u2002 ○ −\u2002 ring: certified ball");
  const root = el("section", { class: "mv-cp-low", "aria-label": "All methods" }, el("div", { class: "mv-cp-hd" }, el("h3", {}, "The same points, other networks ", el("small", {}, "decision regions, one scale")), key), pictures, flat, note, table);

  function update(dirty) {
    if (!["study", "state", "capacity_beside", "theme", "size"].some((kind) => dirty.has(kind))) return;
    const { beside } = store.capacity;
    const now = store.state && store.state.capacity ? store.state.capacity.values : null;
    const plane = !now || now.features === 2;
    pictures.hidden = !plane;
    flat.hidden = plane;
    if (plane) for (const panel of panels) panel.update(dirty, now);
    const known = ALL_METHODS.map((method) => beside.get(method)).filter(Boolean);
    rows.replaceChildren(...known.map((m) => el("tr", { class: now && m.method === now.method ? "mv-cp-sel" : null }, el("th", { scope: "row" }, m.words),
      ...(m.refused ? [el("td", { colspan: 6 }, m.refused)] : [m.units === null ? "" : count(m.units), power(m.largest), lost(m, m.float64), lost(m, m.float32), share(m.train), m.test === null ? "none" : share(m.test)].map((cell) => el("td", {}, cell))))));
    const balls = beside.get("yu");
    const covered = balls && balls.covered !== null ? ` The balls hold ${Math.round(100 * balls.covered)} % of the unseen points.` : "";
    say(note, `Within a ball of a third of the distance to the nearest point of the other sign the certified network provably keeps its answer.${covered} Chance is near .50; what says nothing counts as wrong, so a network may fall below it.`);
  }
  return { root, update };
}

const superscript = (n) => String(n).replace("-", "⁻").replace(/\d/g, (d) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[Number(d)]);

/** "7,700", "2·10⁻⁵" @param {number | null} x */
function power(x) {
  if (x === null || x === undefined) return "";
  if (x === 0 || (x >= 0.01 && x < 1e5)) return count(Number(x.toPrecision(2)));
  const [digit, exponent] = x.toExponential(0).split("e");
  return `${digit}·10${superscript(Number(exponent))}`;
}

/** The certified network gives signs with a margin, not values. @param {CapacityBeside} m @param {number | null} error */
const lost = (m, error) => (m.method === "yu" && error === 0 ? "margin 1" : power(error));

/** @param {View} view @param {string} method */
function regionsPanel(view, method) {
  const { store } = view;
  const canvas = el("canvas", { "aria-hidden": "true" });
  const marks = svg("svg", { viewBox: "0 0 100 100", "aria-hidden": "true" });
  const box = el("div", { class: "mv-cp-box", role: "img" }, canvas, marks);
  const small = el("small");
  const title = el("h3");
  const caption = el("figcaption");
  const root = el("figure", { class: "mv-cp-panel", "data-method": method }, title, box, caption);
  let drawn = null;
  function update(dirty, now) {
    const found = store.capacity.beside.get(method);
    root.classList.toggle("mv-cp-sel", Boolean(now && now.method === method));
    if (!found || (drawn === found && !dirty.has("theme") && !dirty.has("size"))) return;
    drawn = found;
    title.replaceChildren(found.words, " ", small);
    say(small, found.units === null ? "" : `${count(found.units)} units`);
    if (!found.regions) {
      canvas.width = 0;
      marks.replaceChildren();
      caption.replaceChildren(found.refused);
      return;
    }
    paintRegions(canvas, found, view.palette);
    marks.replaceChildren(...pointMarks(found));
    caption.replaceChildren(`train ${share(found.train)} · `, el("b", {}, found.test === null ? "no unseen points" : `test ${share(found.test)}`));
    put(box, { "aria-label": `decision regions, ${found.words}, train ${share(found.train)}${found.test === null ? "" : `, test ${share(found.test)}`}${UNIT_NAMES[method] ? `, ${UNIT_NAMES[method]}` : ""}` });
  }
  return { root, update };
}

/** @param {HTMLCanvasElement} canvas @param {CapacityBeside} found @param {Palette} palette */
function paintRegions(canvas, found, palette) {
  const scale = window.devicePixelRatio || 1;
  const [side, size] = [found.side, Math.round(PANEL * scale)];
  Object.assign(canvas, { width: size, height: size });
  const pen = canvas.getContext("2d");
  const cell = size / side;
  const fill = (value, style) => {
    pen.fillStyle = style;
    pen.beginPath();
    for (let row = 0; row < side; row++) {
      // Runs of equal cells as one rectangle; the lowest row comes first.
      for (let from = 0; from < side; from++) {
        if (found.regions[row * side + from] !== value) continue;
        let to = from;
        while (to + 1 < side && found.regions[row * side + to + 1] === value) to++;
        pen.rect(from * cell, size - (row + 1) * cell, (to - from + 1) * cell, cell + 0.5);
        from = to;
      }
    }
    pen.fill();
  };
  fill(1, palette.steps[1]);
  fill(1, hatch(pen, palette, palette.steps[3], scale));
  fill(2, dots(pen, palette, scale));
}

function dots(pen, palette, scale) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = Math.round(5 * scale);
  const ink = tile.getContext("2d");
  ink.fillStyle = palette.null;
  ink.arc(tile.width / 2, tile.width / 2, 0.8 * scale, 0, 7);
  ink.fill();
  return pen.createPattern(tile, "repeat");
}

/** @param {CapacityBeside} found */
function pointMarks(found) {
  const [left, right, low, top] = found.window;
  const x = (v) => (100 * (v - left)) / (right - left);
  const y = (v) => (100 * (top - v)) / (top - low);
  const rings = Array.from(found.radii || [], (r, i) => svg("circle", { cx: x(found.at[2 * i]), cy: y(found.at[2 * i + 1]), r: (100 * r) / (right - left), fill: "none", stroke: "var(--mv-ink)", "stroke-width": 0.6 }));
  const points = Array.from(found.sign, (sign, i) => svg("circle", { cx: x(found.at[2 * i]), cy: y(found.at[2 * i + 1]), r: 1.6, fill: sign ? "var(--mv-ink)" : "var(--mv-paper)", stroke: sign ? "var(--mv-paper)" : "var(--mv-ink)", "stroke-width": 0.8 }));
  return [...rings, ...points];
}
