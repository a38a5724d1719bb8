// @ts-check
/** The unit map: one canvas for each layer shown, a cell for each unit. */
import { count, el, put, say } from "./dom.js";
import { drawDead, hatch, stepOf } from "./palette.js";
import { hoverCard, unitLine } from "./card.js";

/** Cell and pitch in px, by how many units are shown. @param {number} units */
function density(units) {
  return units > 8000 ? [5, 6] : units > 1500 ? [11, 12] : [20, 22];
}

/** A near-square power of two, or the widest that fits. @type {Fits} */
function columnsFor(units, width, pitch) {
  const most = Math.max(4, Math.floor((width + 2) / pitch));
  const wish = Math.min(units, 2 ** Math.ceil(Math.log2(Math.sqrt(units)) - 0.01));
  return wish <= most ? wish : most > 8 ? most - (most % 4) : most;
}

const between = (a, b) => Array.from({ length: Math.abs(a - b) + 1 }, (_, i) => Math.min(a, b) + i);

/** All shown layers, or those that `only` lets through. @param {View} view @param {(layer: Layer) => boolean} [only] */
export function unitMaps(view, only = null) {
  const { store } = view;
  const card = hoverCard(view);
  const legend = scaleLegend(view);
  const empty = el("p", { class: "mv-empty" }, "Choose a layer.");
  const flow = el("div", { class: "mv-flow", onscroll: () => shown && !shown.pinned && conceal() }, empty, legend.root);
  const root = el("div", { class: "mv-maps" }, flow, card.root);
  const maps = new Map();
  let [size, pitch] = [20, 22]; // px
  let anchor = -1; // last unit clicked
  let chosen = new Set(); // units that Shift+arrows or Ctrl+A marked
  let anyOff = false;
  let shown = null; // {row, pinned} of the card

  function makeMap(layer) {
    const id = `${view.uid}-${layer.start}`;
    const cell = el("div", { role: "gridcell", id });
    const canvas = el("canvas", { class: "mv-units", "data-layer": layer.name, tabindex: 0, role: "grid", "aria-multiselectable": "true",
      "aria-label": `${layer.label}, ${layer.units} units`, "aria-activedescendant": id, onkeydown: (e) => keys(e, map), onfocus: () => focused(map), onblur: () => blurred(map) },
      el("div", { role: "row" }, cell));
    const ring = el("div", { class: "mv-ring", hidden: true });
    const band = el("div", { class: "mv-band", hidden: true });
    const small = el("small");
    const node = el("figure", { class: "mv-map" }, el("h3", { title: layer.name }, layer.label, " ", small), el("div", { class: "mv-sheet" }, canvas, ring, band));
    const map = { layer, node, canvas, cell, ring, band, small, active: 0, columns: 8 };
    pointer(map);
    return map;
  }

  const rowAt = (map, event) => {
    const box = map.canvas.getBoundingClientRect();
    const column = Math.floor((event.clientX - box.left) / pitch);
    const unit = Math.floor((event.clientY - box.top) / pitch) * map.columns + column;
    return column >= 0 && column < map.columns && unit >= 0 && unit < map.layer.units ? unit : -1;
  };
  const place = (map, unit) => [(unit % map.columns) * pitch, Math.floor(unit / map.columns) * pitch];

  /** All off → on again; else those still on go off. */
  function flip(rows) {
    const on = rows.filter((row) => !store.off[row]);
    store.toggle(on.length ? on : rows);
  }

  function pointer(map) {
    const { canvas, band, layer } = map;
    let from = null;
    const end = () => {
      from = null;
      band.hidden = true;
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      unmark();
      from = { x: event.clientX, y: event.clientY, moved: false };
      if (event.pointerType !== "touch") canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!event.buttons) end();
      if (from && event.pointerType !== "touch" && !store.fixed) {
        from.moved = from.moved || Math.hypot(event.clientX - from.x, event.clientY - from.y) > 5;
        if (from.moved) drawBand(map, from, event);
      }
      const unit = from && from.moved ? -1 : rowAt(map, event);
      if (unit >= 0) reveal(map, unit);
      else if (shown && !shown.pinned) conceal();
    });
    canvas.addEventListener("pointerup", (event) => {
      const start = from;
      end();
      if (!start) return;
      if (start.moved) return flip(inside(map, start, event));
      const unit = rowAt(map, event);
      if (unit < 0) return;
      const row = layer.start + unit;
      if (event.shiftKey && anchor >= 0 && store.layer(anchor) === layer) {
        store.toggle(between(anchor, row).filter((r) => store.off[r] !== store.off[anchor]));
      } else {
        anchor = row;
        store.toggle([row]);
      }
      move(map, unit, false);
    });
    // A pointer let go where the canvas does not hear of it must not leave its band behind.
    for (const kind of ["pointercancel", "lostpointercapture"]) canvas.addEventListener(kind, end);
    canvas.addEventListener("pointerleave", () => {
      if (shown && !shown.pinned && !from) conceal();
    });
  }

  /** No selection outlives a reset or the next one: its outline would look like an ablation. */
  function unmark() {
    for (const map of maps.values()) map.band.hidden = true;
    if (!chosen.size) return;
    chosen = new Set();
    paint();
  }

  function edges(map, start, event) {
    const box = map.canvas.getBoundingClientRect();
    const sort = (a, b, low) => [Math.min(a, b) - low, Math.max(a, b) - low];
    return [sort(start.x, event.clientX, box.left), sort(start.y, event.clientY, box.top)];
  }

  function drawBand(map, start, event) {
    const [[x0, x1], [y0, y1]] = edges(map, start, event);
    map.band.hidden = false;
    Object.assign(map.band.style, { left: `${x0}px`, top: `${y0}px`, width: `${x1 - x0}px`, height: `${y1 - y0}px` });
  }

  /** Units whose cell the band touches. */
  function inside(map, start, event) {
    const [[x0, x1], [y0, y1]] = edges(map, start, event);
    const rows = [];
    for (let unit = 0; unit < map.layer.units; unit++) {
      const [x, y] = place(map, unit);
      if (x < x1 && x + size > x0 && y < y1 && y + size > y0) rows.push(map.layer.start + unit);
    }
    return rows;
  }

  function focused(map) {
    const byKeys = map.canvas.matches(":focus-visible");
    map.ring.hidden = !byKeys;
    move(map, map.active, byKeys);
  }

  function blurred(map) {
    map.ring.hidden = true;
    if (shown && !shown.pinned) conceal();
  }

  function move(map, unit, byKeys) {
    map.active = Math.max(0, Math.min(unit, map.layer.units - 1));
    describe(map);
    if (!byKeys) {
      map.ring.hidden = true;
      return;
    }
    const [x, y] = place(map, map.active);
    map.ring.hidden = false;
    Object.assign(map.ring.style, { left: `${x - 4}px`, top: `${y - 4}px`, width: `${size + 8}px`, height: `${size + 8}px` });
    map.ring.scrollIntoView({ block: "nearest", inline: "nearest" });
    reveal(map, map.active);
  }

  function describe(map) {
    const row = map.layer.start + map.active;
    say(map.cell, unitLine(store, row));
    put(map.cell, { "aria-selected": String(chosen.has(row)), "data-unit": map.active });
  }

  function reveal(map, unit, pinned = false) {
    if (shown && shown.pinned && !pinned) return;
    shown = { row: map.layer.start + unit, pinned };
    const [x, y] = place(map, unit);
    const sheet = map.canvas.getBoundingClientRect();
    const area = root.getBoundingClientRect();
    card.show(shown.row, x + sheet.left - area.left, y + sheet.top - area.top, size, pinned);
  }

  function conceal() {
    shown = null;
    card.hide();
  }

  function keys(event, map) {
    const { active, columns, layer } = map;
    const command = event.ctrlKey || event.metaKey;
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns, Home: command ? -active : -(active % columns), End: command ? layer.units : columns - 1 - (active % columns) };
    const step = steps[event.key];
    if (step !== undefined) {
      const before = layer.start + active;
      const to = Math.abs(step) === columns && event.key.startsWith("Arrow") && (active + step < 0 || active + step >= layer.units) ? active : active + step;
      move(map, to, true);
      if (event.shiftKey) for (const row of between(before, layer.start + map.active)) chosen.add(row);
      else chosen.clear();
      paint();
    } else if (event.key === "PageDown" || event.key === "PageUp") {
      const all = [...maps.values()];
      const next = all[all.indexOf(map) + (event.key === "PageDown" ? 1 : -1)];
      if (next) next.canvas.focus();
      if (next) move(next, next.active, true);
    } else if (event.key === " ") {
      const rows = chosen.size ? [...chosen] : [layer.start + active];
      anchor = layer.start + active;
      chosen = new Set();
      if (rows.length > 1) flip(rows);
      else store.toggle(rows);
    } else if (event.key === "Enter") {
      const pin = !(shown && shown.pinned);
      if (shown && shown.pinned) shown.pinned = false;
      reveal(map, map.active, pin);
    } else if (event.key === "a" && command) {
      chosen = new Set(between(layer.start, layer.start + layer.units - 1));
      paint();
    } else if (event.key === "Escape" && (shown || chosen.size)) {
      conceal();
      chosen.clear();
      paint();
    } else return;
    event.preventDefault();
  }

  function layout() {
    const names = new Set(store.state ? store.state.layers : []);
    const layers = store.study.layers.filter((l) => names.has(l.name) && (!only || only(l)));
    const units = layers.reduce((n, l) => n + l.units, 0);
    [size, pitch] = view.cell || density(units);
    for (const [name, map] of maps) {
      if (layers.includes(map.layer)) continue;
      map.node.remove();
      maps.delete(name);
    }
    flow.classList.toggle("mv-dense", size < 20);
    const width = Math.max(flow.clientWidth - (size < 20 ? 12 : 0), 120);
    const ordered = layers.map((layer) => {
      const map = maps.get(layer.name) || makeMap(layer);
      maps.delete(layer.name);
      maps.set(layer.name, map);
      map.columns = view.cell ? Math.min(layer.units, 32, Math.floor((width + 2) / pitch)) : columnsFor(layer.units, width, pitch);
      put(map.canvas, { "data-columns": map.columns, "data-pitch": pitch });
      return map.node;
    });
    empty.hidden = layers.length > 0;
    legend.root.hidden = !layers.length;
    const wanted = [empty, ...ordered, legend.root];
    // Moving a canvas would take its focus away, so only nodes out of place are put in.
    wanted.forEach((node, i) => flow.children[i] !== node && flow.insertBefore(node, flow.children[i] || null));
  }

  function paint() {
    for (const map of maps.values()) {
      drawMap(map, { store, palette: view.palette, size, pitch, chosen });
      heading(map);
      describe(map);
    }
  }

  function heading(map) {
    const { layer } = map;
    const off = store.offCount(layer);
    const dead = layer.dead ? ` · ${count(layer.dead.length)} dead` : "";
    say(map.small, `${count(layer.units)} units${off ? ` · ${count(off)} off` : ""}${dead}`);
  }

  function update(dirty) {
    if (!store.study || !["study", "state", "scores", "preview", "theme", "size"].some((kind) => dirty.has(kind))) {
      if (shown && dirty.has("sprites")) refresh();
      return;
    }
    if (dirty.has("study")) {
      conceal();
      chosen = new Set();
      anchor = -1;
    }
    if (anyOff && !store.off.includes(1)) unmark();
    anyOff = store.off.includes(1);
    layout();
    legend.update();
    paint();
    refresh();
  }

  const away = (event) => shown && !event.composedPath().includes(card.root) && conceal();
  const escape = (event) => event.key === "Escape" && shown && (conceal(), event.preventDefault());
  document.addEventListener("pointerdown", away);
  view.root.addEventListener("keydown", escape);

  /** Fill the open card anew; close it when its layer is no longer shown. */
  function refresh() {
    if (!shown) return;
    const map = maps.get(store.layer(shown.row).name);
    if (!map) return conceal();
    reveal(map, shown.row - map.layer.start, shown.pinned);
  }
  return { root, update, destroy: () => document.removeEventListener("pointerdown", away) };
}

/** Draw one layer's cells. */
function drawMap({ layer, canvas, columns }, { store, palette, size, pitch, chosen }) {
  const scale = window.devicePixelRatio || 1;
  const width = columns * pitch - (pitch - size);
  const height = Math.ceil(layer.units / columns) * pitch - (pitch - size);
  Object.assign(canvas, { width: Math.round(width * scale), height: Math.round(height * scale) });
  Object.assign(canvas.style, { width: `${width}px`, height: `${height}px` });
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  const off = store.preview || store.off;
  const [score, dead] = [store.score(), new Set(layer.dead)];
  const radius = (size / 20) * 2.6;
  const box = (x, y, inset, paintFn) => {
    pen.beginPath();
    if (size > 6) pen.roundRect(x + inset, y + inset, size - 2 * inset, size - 2 * inset, radius);
    else pen.rect(x + inset, y + inset, size - 2 * inset, size - 2 * inset);
    paintFn.call(pen);
  };
  for (let unit = 0; unit < layer.units; unit++) {
    const row = layer.start + unit;
    const x = (unit % columns) * pitch;
    const y = Math.floor(unit / columns) * pitch;
    const state = score ? score.state[row] : 0;
    const step = state ? stepOf(score.value[row] - score.low, score.max - score.low) : 0;
    if (off[row]) {
      drawOff(pen, x, y, size, palette, box, state ? palette.steps[step] : null);
    } else if (dead.has(unit)) drawDead(pen, x, y, size, palette);
    else if (state === 2) {
      pen.fillStyle = palette.steps[step];
      box(x, y, 0, pen.fill);
      if (size > 6) outline(pen, palette.edge, 1, () => box(x, y, 0.5, pen.stroke));
    } else {
      const colour = state ? palette.steps[Math.max(2, step)] : palette.line;
      pen.fillStyle = state ? hatch(pen, palette, colour, scale) : palette.paper;
      box(x, y, 0.5, pen.fill);
      outline(pen, colour, size > 6 ? 1.2 : 0.6, () => box(x, y, 0.6, pen.stroke));
    }
    if (chosen.has(row)) outline(pen, palette.ink, size > 6 ? 2 : 1, () => box(x, y, size > 6 ? 1 : 0.5, pen.stroke));
  }
}

/** @type {Outlines} */
function outline(pen, colour, width, stroke) {
  pen.strokeStyle = colour;
  pen.lineWidth = width;
  stroke();
}

/** An emptied cell with × and its score as the foot. @type {DrawsOff} */
function drawOff(pen, x, y, size, palette, box, foot) {
  pen.fillStyle = palette.paper;
  box(x, y, 0, pen.fill);
  if (size > 6) outline(pen, palette.ink, size > 12 ? 1.2 : 1, () => box(x, y, 0.6, pen.stroke));
  if (foot) {
    const thick = Math.max(1, size * 0.12);
    pen.fillStyle = foot;
    pen.fillRect(x + size * 0.07, y + size - 1.2 - thick, size * 0.86, thick);
  }
  const arm = size * (size > 6 ? 0.21 : 0.4);
  const cx = x + size / 2;
  const cy = y + size * (size > 6 ? 0.45 : 0.5);
  pen.lineCap = "round";
  const cross = new Path2D(`M${cx - arm} ${cy - arm}l${2 * arm} ${2 * arm}m0 ${-2 * arm}l${-2 * arm} ${2 * arm}`);
  outline(pen, palette.ink, size > 12 ? 1.7 : size > 6 ? 1.3 : 1, () => pen.stroke(cross));
}

/** The magnitude scale: eleven steps, ticks where there is room, the measure in words. @param {View} view */
function scaleLegend(view) {
  const steps = el("div", { class: "mv-steps", "aria-hidden": "true" }, ...Array.from({ length: 11 }, (_, i) => el("i", { style: `background:var(--mv-s${i})` })));
  const ticks = el("div", { class: "mv-ticks" });
  const [words, why] = [el("p"), el("p", { class: "mv-engine", hidden: true })];
  const root = el("div", { class: "mv-legend mv-scale" }, steps, ticks, words, why);
  function update() {
    const score = view.store.score();
    const dead = view.store.study.layers.some((l) => l.dead) ? " · dotted: dead, nothing reads it" : "";
    say(words, `${score ? score.measure || score.label : ""}${dead}`);
    const slower = (score && score.why) || ""; // which engine answers, and why
    say(put(why, { hidden: !slower, title: slower }), slower);
    const [low, max] = score ? [score.low, score.max] : [0, 0];
    const [place, kept] = [(value) => 174 * Math.sqrt((value - low) / (max - low || 1)), []];
    const decade = 10 ** Math.floor(Math.log10(max || 1));
    let last = 174;
    for (const nice of low < 0 ? [] : [10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01]) {
      const at = place(nice * decade);
      if (last - at < 30 || at < 26) continue;
      kept.push([at, nice * decade]);
      last = at;
    }
    if (low < 0 && place(0) > 30 && place(0) < 144) kept.push([place(0), 0]);
    const all = max > low ? [[0, low], ...kept.reverse(), [174, max]] : [];
    ticks.replaceChildren(...all.map(([at, value]) => el("span", { style: `left:${at}px` }, String(Number(value.toPrecision(2))).replace(/^(-?)0\./, "$1.").replace("-", "−"))));
  }
  return { root, update };
}
