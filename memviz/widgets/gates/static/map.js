// @ts-check
/** The circuit from the input bits to the votes: a cell for each gate, and the wires of one of them. */
import { capital, count, el, figure, put, say, svg } from "../../core/static/dom.js";
import { drawCells } from "./cells.js";
import { cornerOf, gateLayout, gateUnder } from "./layout.js";
import { votesColumn } from "./votes.js";
import { GATE_SETTINGS, WIRE_INPUT, WIRE_NOTHING, chooseGate, fixGate, gateLine, gateName, readersOf, settingOf, tellOnce } from "./words.js";

const MOST_READERS = 12; // whose wires are drawn

/** @param {View} view */
export function gateMap(view) {
  const { store } = view;
  const id = `${view.uid}-gate`;
  const canvas = el("canvas", { class: "mv-gt-cells", "aria-hidden": "true" });
  const [heads, wires, votes] = [svg("g"), svg("g"), votesColumn(view)];
  const ring = svg("rect", { class: "mv-gt-ring", rx: 3, fill: "none" });
  const over = svg("svg", { class: "mv-gt-over", "aria-hidden": "true" }, heads, votes.root, wires, ring);
  const cell = el("div", { role: "gridcell", id });
  const grid = el("div", { class: "mv-gt-grid", role: "grid", tabindex: 0, "aria-label": "Gates, layer by layer", "aria-activedescendant": id, onkeydown: keys, onfocus: () => at() < 0 && choose(0), onclick: clicked, onpointermove: (event) => hover(under(event)), onpointerleave: () => hover(-1) }, el("div", { role: "row", class: "mv-sr" }, cell));
  const area = el("div", { class: "mv-gt-area" }, canvas, over, grid);
  const scroll = el("div", { class: "mv-gt-scroll" }, area);
  const tip = el("div", { class: "mv-gt-tip", role: "tooltip", hidden: true });
  const root = el("div", { class: "mv-gt-map" }, scroll, tip);
  let layout = null;
  let hovered = -1;
  let [came, turn] = [-1, 0]; // the gate whose readers R goes through, and how many it has shown

  const at = () => store.gateAt ?? -1;
  const corner = (row) => cornerOf(layout, store.layerOf[row], row);

  function choose(row) {
    if (row === at() || row < 0 || row >= store.study.units) return;
    chooseGate(store, row);
    if (layout) ring.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  function under(event) {
    const box = area.getBoundingClientRect();
    return layout ? gateUnder(layout, event.clientX - box.left, event.clientY - box.top) : -1;
  }

  function hover(row) {
    if (row === hovered) return;
    hovered = row;
    mark();
  }

  /** Choose; a second click sets the gate, or puts it back. */
  function clicked(event) {
    const row = under(event);
    if (row >= 0 && row === at()) turnOver(row);
    else choose(row);
  }
  const turnOver = (row) => fixGate(store, row, settingOf(store, row) ? "" : store.state.score);

  function keys(event) {
    if (!layout || event.ctrlKey || event.metaKey || event.altKey) return;
    const row = Math.max(0, at());
    const place = store.layerOf[row];
    const { layer, columns } = layout.blocks[place];
    const go = (to) => choose(Math.max(layer.start, Math.min(layer.start + layer.units - 1, to)));
    const other = (step) => {
      const next = layout.blocks[place + step];
      if (next) choose(next.layer.start + Math.min(next.layer.units - 1, Math.round(((row - layer.start) * next.layer.units) / layer.units)));
    };
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const moves = { ArrowRight: () => go(row + 1), ArrowLeft: () => go(row - 1), ArrowDown: () => go(row + columns), ArrowUp: () => go(row - columns), Home: () => go(layer.start), End: () => go(Infinity), PageDown: () => other(1), PageUp: () => other(-1), r: () => nextReader(row), " ": () => turnOver(row), w: () => along(event.shiftKey ? store.circuit.b[row] : store.circuit.a[row]) };
    const setting = GATE_SETTINGS.find((s) => s.press === key);
    if (setting) fixGate(store, row, settingOf(store, row) === setting ? "" : setting.key);
    else if (moves[key]) moves[key]();
    else return;
    event.preventDefault();
  }

  function along(wire) {
    if (wire < WIRE_INPUT) choose(wire);
    else tellOnce(store, wire === WIRE_NOTHING ? "This wire comes from outside the image, where every bit is 0." : "This wire comes from an input bit: the circuit begins here.");
  }

  /** R again goes on to the next reader of the same gate. */
  function nextReader(row) {
    const readers = came >= 0 ? readersOf(store.circuit, came) : [];
    if (!turn || readers[(turn - 1) % readers.length] !== row || readers.length < 2) [came, turn] = [row, 0];
    const of = readersOf(store.circuit, came);
    if (of.length) choose(of[turn++ % of.length]);
  }

  /** Wires and words of the gate under the pointer, or else of the chosen one. */
  function mark() {
    if (!layout) return;
    const row = hovered >= 0 ? hovered : at();
    wires.replaceChildren(...(row >= 0 ? drawWires(store, layout, row) : []));
    put(ring, { visibility: at() >= 0 ? "visible" : "hidden" });
    if (at() >= 0) {
      const [x, y] = corner(at());
      put(ring, { x: x - 2.5, y: y - 2.5, width: layout.cell + 5, height: layout.cell + 5 });
      say(cell, gateLine(store, at()));
      put(cell, { "data-row": at() });
    }
    tip.hidden = hovered < 0;
    if (hovered >= 0) showTip(hovered);
  }

  function showTip(row) {
    const { circuit } = store;
    const [score, setting, readers] = [store.score(), settingOf(store, row), readersOf(circuit, row).length];
    const lost = score && score.state[row] ? ` · ${figure(score.value[row])} votes, rank ${count(score.rank[row])}` : "";
    tip.replaceChildren(el("b", {}, capital(gateName(store, row))), el("p", {}, `${circuit.names[circuit.number[row]]}${setting ? `, set to ${setting.label}` : ""}`),
      el("p", { class: "mv-note" }, circuit.live[row] ? `${count(readers)} reader${readers === 1 ? "" : "s"}${lost}` : "dead: nothing reads it"));
    const [x, y] = corner(row);
    tip.style.left = `${Math.max(0, Math.min(root.clientWidth - tip.offsetWidth, x - scroll.scrollLeft + layout.cell + 10))}px`;
    tip.style.top = `${Math.max(0, y - scroll.scrollTop - tip.offsetHeight - 8)}px`;
  }

  function update(dirty) {
    if (!store.circuit || !store.state) return;
    const anew = !layout || ["study", "size", "gates"].some((kind) => dirty.has(kind));
    if (anew) {
      layout = gateLayout(store, Math.max(320, scroll.clientWidth));
      for (const node of [area, canvas, over]) Object.assign(node.style, { width: `${layout.width}px`, height: `${layout.height}px` });
      put(grid, { "data-pitch": layout.pitch });
    }
    if (anew || ["state", "preview", "scores", "theme", "gate_show", "gate_trace"].some((kind) => dirty.has(kind))) {
      drawCells(canvas, view, layout);
      heads.replaceChildren(...headings(store, layout));
      votes.draw(layout);
      mark();
    } else if (dirty.has("gate_at")) mark();
  }
  return { root, update, watch: scroll };
}

/** @param {Store} store @param {any} layout */
function headings(store, layout) {
  const title = (x, words, small) => [svg("text", { x, y: 12, class: "mv-bold" }, words), svg("text", { x, y: 27, class: "mv-axis" }, small)];
  const ofLayer = ({ layer, x }, i) => {
    const off = store.offCount(layer);
    const dead = store.circuit.live.subarray(layer.start, layer.start + layer.units).reduce((n, live) => n - live, layer.units);
    return title(x, store.circuit.layers[i], [count(layer.units), off && `${count(off)} set`, dead && `${count(dead)} dead`].filter(Boolean).join(" · "));
  };
  const steps = layout.inputs.labels.filter(({ step }) => !Number.isNaN(step));
  return [...title(0, "input", `${count(store.circuit.feature.length)} bits`), ...layout.blocks.flatMap(ofLayer), ...title(layout.votesAt, "votes", `of ${count(layout.votes)}`),
    ...steps.map(({ y, step }) => svg("text", { x: layout.inputs.width + 5, y, class: "mv-axis" }, String(Number(step.toPrecision(2))).replace(/^0\./, ".")))];
}

/** Solid from inputs a and b, dashed to the readers. @param {Store} store @param {any} layout @param {number} row */
function drawWires(store, layout, row) {
  const { circuit, layerOf } = store;
  const { inputs, cell } = layout;
  const half = cell / 2;
  /** @returns {any} */
  const middle = (gate) => cornerOf(layout, layerOf[gate], gate).map((side) => side + half);
  const [x, y] = middle(row);
  const ink = { fill: "none", stroke: "var(--mv-ink)", "stroke-width": 1.4 };
  const wire = ([x0, y0], [x1, y1], dash) => {
    const d = `M${x0} ${y0}C${(x0 + x1) / 2} ${y0} ${(x0 + x1) / 2} ${y1} ${x1} ${y1}`;
    return [svg("path", { d, fill: "none", stroke: "var(--mv-paper)", "stroke-width": 4, opacity: 0.85 }), svg("path", { ...ink, d, "stroke-dasharray": dash && "4 3" })];
  };
  const box = ([cx, cy], size, dash) => svg("rect", { ...ink, x: cx - size / 2 - 1.5, y: cy - size / 2 - 1.5, width: size + 3, height: size + 3, rx: 2.5, "stroke-dasharray": dash && "3 2" });
  const [parts, labels] = [[], []];
  for (const [name, from] of /** @type {[string, number][]} */ ([["a", circuit.a[row]], ["b", circuit.b[row]]])) {
    if (from === WIRE_NOTHING) continue;
    const bit = 2 * (from - WIRE_INPUT);
    const size = bit < 0 ? cell : inputs.size;
    const start = bit < 0 ? middle(from) : [inputs.place[bit] + size / 2, inputs.place[bit + 1] + size / 2];
    const [fx, fy] = start;
    parts.push(...wire([fx + size / 2, fy], [x - half - 2, y], false), box(start, size, false));
    const [lx, ly] = [(fx + x) / 2 + (name === "a" ? -9 : 9), (fy + y) / 2 + Math.sign(y - fy || 1) * (name === "a" ? -6 : 6)];
    labels.push(svg("circle", { cx: lx, cy: ly, r: 7, fill: "var(--mv-paper)" }), svg("text", { x: lx, y: ly + 4, "text-anchor": "middle", class: "mv-bold" }, name));
  }
  const readers = readersOf(circuit, row);
  for (const to of readers.subarray(0, MOST_READERS)) {
    const end = middle(to);
    parts.push(...wire([x + half + 2, y], [end[0] - half - 2, end[1]], true), box(end, cell, true));
  }
  if (readers.length > MOST_READERS) labels.push(svg("text", { x: x + half + 8, y: y - 6, class: "mv-axis" }, `${count(readers.length)} readers`));
  return [...parts, box([x, y], cell, false), ...labels];
}
