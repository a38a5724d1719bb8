// @ts-check
/** Two scores of every unit against each other: brush units, ablate them, open one for its pictures. */
import { count, el, put, say, svg } from "../../core/static/dom.js";
import { busyBar, scoreOptions } from "../../core/static/header.js";
import { formatUnits } from "../../core/static/store.js";
import { askAxes, askUnit } from "./ask.js";
import { brushPanel } from "./brush.js";
import { scatterCard, scatterWords } from "./card_of_unit.js";
import { dotRadius, plotAxes, plotDots, plotScale } from "./plot.js";

const NEAR = 9; // px from a dot at which the pointer is on it

/** @param {View} view */
export function scatterRegion(view) {
  const { store } = view;
  const axis = (key, label) => {
    const select = el("select", { "data-axis": key, onchange: () => askAxes(store, { [key]: select.value }) });
    return { key, select, root: el("label", { class: "mv-field" }, label, el("span", { class: "mv-pick" }, select)) };
  };
  const across = axis("x", "Across");
  const up = axis("y", "Up");
  const layerPick = el("select", { class: "mv-onelayer", onchange: () => chooseLayer(layerPick.value) });
  const busy = busyBar(view);
  const bar = el("div", { class: "mv-controls" }, across.root, up.root, el("label", { class: "mv-field" }, "Layer", el("span", { class: "mv-pick" }, layerPick)));

  const option = el("div", { role: "option", id: `${view.uid}-unit` }, "no unit yet");
  const canvas = el("canvas", { class: "mv-dots", tabindex: 0, role: "listbox", "aria-multiselectable": "true", "aria-activedescendant": option.id, onkeydown: keys, onfocus: focused, onblur: blurred }, option);
  const axes = svg("svg", { class: "mv-axes", "aria-hidden": "true" });
  const ring = el("div", { class: "mv-ring mv-round", hidden: true });
  const openRing = el("div", { class: "mv-ring mv-round", hidden: true });
  const band = el("div", { class: "mv-band", hidden: true });
  const card = scatterCard(view);
  const yName = el("p", { class: "mv-note mv-yname" });
  const xName = el("p", { class: "mv-note mv-xname" });
  const empty = el("p", { class: "mv-empty" });
  const plot = el("div", { class: "mv-plot" }, axes, canvas, openRing, ring, band, empty, card.root);
  const side = brushPanel(view, live, brush, () => canvas.focus());
  const root = el("div", { class: "mv-scatter" }, bar, el("div", { class: "mv-scattergrid" }, el("div", {}, el("div", { class: "mv-yrow" }, yName, busy.root), plot, xName), side.root));

  let active = -1; // the row that the keys are on
  let layer = ""; // the one layer chosen
  let layers = null; // the study's
  let offered = null; // scores
  let marks = null; // {x, y, live, hollow, off, brushed, radius}, px by row
  let box = { left: 46, right: 400, top: 8, bottom: 300 };
  let byX = [];
  let byY = [];
  let anchor = null; // where the pointer went down
  let quiet = -1; // the unit whose card made way for its pictures

  /** The brushed rows that are drawn; the store keeps the others for the time they are drawn again. */
  function live() {
    return new Set([...store.brushed].filter((row) => marks && marks.live[row]));
  }
  function brush(rows) {
    store.brushed = new Set(rows);
    paint();
  }

  function chooseLayer(name) {
    layer = name;
    store.brushed = new Set();
    update(new Set(["state"]));
  }

  // ── the pointer ──
  /** @returns {[number, number]} */
  const at = (event) => {
    const area = canvas.getBoundingClientRect();
    return [event.clientX - area.left, event.clientY - area.top];
  };
  function nearest(px, py) {
    let best = -1;
    let least = NEAR;
    for (const row of byX) {
      const far = Math.hypot(marks.x[row] - px, marks.y[row] - py);
      if (far < least) [best, least] = [row, far];
    }
    return best;
  }
  function inside([x0, y0], [x1, y1]) {
    const within = (v, a, b) => v >= Math.min(a, b) && v <= Math.max(a, b);
    return byX.filter((row) => within(marks.x[row], x0, x1) && within(marks.y[row], y0, y1));
  }
  function end() {
    anchor = null;
    band.hidden = true;
  }
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !marks) return;
    anchor = { place: at(event), moved: false };
    if (event.pointerType !== "touch") canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!marks) return;
    if (!event.buttons) end();
    const [px, py] = at(event);
    if (anchor && event.pointerType !== "touch") {
      const [x0, y0] = anchor.place;
      anchor.moved = anchor.moved || Math.hypot(px - x0, py - y0) > 5;
      band.hidden = !anchor.moved;
      Object.assign(band.style, { left: `${Math.min(x0, px)}px`, top: `${Math.min(y0, py)}px`, width: `${Math.abs(px - x0)}px`, height: `${Math.abs(py - y0)}px` });
    }
    const row = anchor && anchor.moved ? -1 : nearest(px, py);
    canvas.style.cursor = row >= 0 ? "pointer" : "crosshair";
    if (row !== quiet) quiet = -1;
    if (row >= 0 && quiet < 0) reveal(row);
    else card.hide();
  });
  canvas.addEventListener("pointerup", (event) => {
    const start = anchor;
    end();
    if (!start) return;
    const more = event.shiftKey || event.ctrlKey || event.metaKey;
    if (start.moved) return brush([...(more ? store.brushed : []), ...inside(start.place, at(event))]);
    const row = nearest(...at(event));
    if (row < 0) return more ? undefined : brush([]);
    move(row, false);
    if (more) flip(row);
    else open(row);
  });
  for (const kind of ["pointercancel", "lostpointercapture"]) canvas.addEventListener(kind, end);
  canvas.addEventListener("pointerleave", () => !anchor && card.hide());

  function flip(row) {
    if (!store.brushed.delete(row)) store.brushed.add(row);
    paint();
  }
  /** The card makes way for the pictures, until the pointer is on another unit. */
  function open(row) {
    card.hide();
    quiet = row;
    askUnit(store, formatUnits([row], store.study.layers));
  }

  // ── the keys: ← → in the order of x, ↑ ↓ in that of y ──
  function keys(event) {
    const command = event.ctrlKey || event.metaKey;
    const [order, step] = { ArrowRight: [byX, 1], ArrowLeft: [byX, -1], ArrowUp: [byY, 1], ArrowDown: [byY, -1], Home: [byX, -Infinity], End: [byX, Infinity] }[event.key] || [];
    if (order) {
      if (!order.length) return;
      const before = active;
      const place = Math.max(0, Math.min(order.length - 1, order.indexOf(active) + step));
      if (event.shiftKey) for (const row of [before, order[place]]) if (row >= 0) store.brushed.add(row);
      move(order[place], true);
      paint();
    } else if (event.key === "PageDown" || event.key === "PageUp") {
      const names = [...layerPick.options].map((o) => o.value);
      const to = names.indexOf(layer) + (event.key === "PageDown" ? 1 : -1);
      if (names[to] !== undefined) chooseLayer(names[to]);
      if (byX.length) move(byX[0], true);
    } else if (event.key === " " && active >= 0) flip(active);
    else if (event.key === "Enter" && active >= 0) open(active);
    else if (event.key === "a" && command) brush(byX);
    else if (event.key === "Escape" && live().size) brush([]);
    else if (event.key === "Escape" && store.scatter && store.scatter.unit) askUnit(store, "");
    else return;
    event.preventDefault();
  }
  function focused() {
    if (canvas.matches(":focus-visible") && byX.length) move(active >= 0 && marks.live[active] ? active : byX[0], true);
  }
  function blurred() {
    ring.hidden = true;
    card.hide();
  }
  function move(row, byKeys) {
    active = row;
    describe();
    ring.hidden = !byKeys;
    if (!byKeys) return;
    circle(ring, row, marks.radius + 4);
    ring.scrollIntoView({ block: "nearest", inline: "nearest" });
    reveal(row);
  }
  function reveal(row) {
    const r = marks.radius + 2;
    card.show(row, marks.x[row] - r, marks.y[row] - r, 2 * r);
  }
  function circle(node, row, r) {
    Object.assign(node.style, { left: `${marks.x[row] - r}px`, top: `${marks.y[row] - r}px`, width: `${2 * r}px`, height: `${2 * r}px` });
  }
  function describe() {
    if (active < 0) return;
    say(option, `${scatterWords(store, active).join(", ")}${store.brushed.has(active) ? ", brushed" : ""}`);
    put(option, { "aria-selected": String(store.brushed.has(active)), "data-unit": active });
  }

  // ── drawing ──
  function fillPickers() {
    const fresh = offered !== store.study.scores;
    offered = store.study.scores;
    for (const { select, key } of [across, up]) {
      if (fresh) select.replaceChildren(...scoreOptions(offered));
      for (const o of select.options) o.disabled = store.saved && !store.scores.has(o.value);
      select.value = store.scatter[key];
    }
    const here = store.study.layers.filter((l) => store.state.layers.includes(l.name));
    const names = here.map((l) => l.name);
    if (!names.includes(layer)) layer = "";
    if ([...layerPick.options].slice(1).map((o) => o.value).join("\n") !== names.join("\n") || !layerPick.options.length) {
      layerPick.replaceChildren(el("option", { value: "" }, "all shown"), ...here.map((l) => el("option", { value: l.name, title: l.name }, l.label)));
    }
    layerPick.value = layer;
  }

  function layout() {
    const [x, y] = [store.scores.get(store.scatter.x), store.scores.get(store.scatter.y)];
    const width = Math.max(240, plot.clientWidth);
    const height = Math.round(Math.max(260, Math.min(400, width * 0.62)));
    plot.style.height = `${height}px`;
    put(axes, { width, height, viewBox: `0 0 ${width} ${height}` });
    box = { left: 46, right: width - 10, top: 8, bottom: height - 24 };
    const n = store.study.units;
    const known = (score, row) => score.state[row] > 0 && Number.isFinite(score.value[row]);
    const [onX, onY] = [store.swept(store.scatter.x), store.swept(store.scatter.y)];
    // An estimate in place of an exact effect would lie where the two agree.
    const waits = (row) => (onX && x.state[row] === 1) || (onY && y.state[row] === 1);
    const valued = x && y ? Array.from({ length: n }, (_, row) => row).filter((row) => known(x, row) && known(y, row)) : [];
    const rows = valued.filter((row) => !waits(row));
    const scaleX = plotScale(rows.map((row) => x.value[row]), box.left, box.right);
    const scaleY = plotScale(rows.map((row) => y.value[row]), box.bottom, box.top);
    marks = { x: new Float32Array(n).fill(NaN), y: new Float32Array(n).fill(NaN), live: new Uint8Array(n), hollow: new Uint8Array(n), off: store.off, brushed: new Set(), radius: dotRadius(rows.length) };
    const names = new Set(layer ? [layer] : store.state.layers);
    for (const row of rows) {
      marks.x[row] = scaleX.at(x.value[row]);
      marks.y[row] = scaleY.at(y.value[row]);
      marks.live[row] = Number(names.has(store.layer(row).name));
      marks.hollow[row] = Number(x.state[row] === 1 || y.state[row] === 1);
    }
    const live = rows.filter((row) => marks.live[row]);
    byX = [...live].sort((a, b) => x.value[a] - x.value[b] || a - b);
    byY = [...live].sort((a, b) => y.value[a] - y.value[b] || a - b);
    if (active >= 0 && !marks.live[active]) active = -1;
    plotAxes(axes, box, scaleX, scaleY);
    const title = (score) => (score ? `${score.label}${score.measure ? ` (${score.measure})` : ""}` : "not computed yet");
    say(yName, `↑ ${title(y)}`);
    say(xName, `${title(x)} →`);
    const shown = store.study.layers.filter((l) => names.has(l.name)).reduce((sum, l) => sum + l.units, 0);
    const there = valued.filter((row) => names.has(store.layer(row).name)).length;
    side.scored(x && y ? shown - there : 0, onX && x ? "x" : onY && y ? "y" : "");
    empty.hidden = live.length > 0;
    say(empty, !x || !y ? "Computing the scores …" : !shown ? "Choose a layer." : there ? "No unit shown is exact yet." : "No unit shown has both scores.");
    put(canvas, { "aria-label": `${count(live.length)} units, ${x ? x.label : "x"} across, ${y ? y.label : "y"} up` });
  }

  function paint() {
    if (!marks) return;
    Object.assign(marks, { off: store.off, brushed: live() });
    plotDots(canvas, Math.max(240, plot.clientWidth), plot.clientHeight, marks, view.palette);
    const opened = store.scatter && store.scatter.unit ? store.rowOf(store.scatter.unit) : -1;
    openRing.hidden = opened < 0 || !marks.live[opened];
    if (!openRing.hidden) circle(openRing, opened, marks.radius + 5);
    if (!ring.hidden && active >= 0) circle(ring, active, marks.radius + 4);
    describe();
    side.update();
  }

  /** @param {Set<string>} dirty */
  function update(dirty) {
    busy.update();
    if (!store.study || !store.state || !store.scatter) return;
    if (layers !== store.study.layers) [layers, active] = [store.study.layers, -1];
    if (["study", "state", "scores", "scatter", "picks", "size", "theme"].some((kind) => dirty.has(kind))) {
      fillPickers();
      layout();
      paint();
    }
    if (dirty.has("random") || dirty.has("readout")) side.update();
    if (active < 0) ring.hidden = true;
  }
  return { root, watch: plot, update };
}
