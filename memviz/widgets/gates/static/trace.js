// @ts-check
/** One example bit by bit: the chosen gate, what it reads, and what that reads. */
import { count, el, put, say, svg } from "../../core/static/dom.js";
import { groupMark } from "../../core/static/palette.js";
import { UNKNOWN } from "../../core/static/store.js";
import { chooseGate, readersOf } from "./words.js";

const [BOX, BOX_TALL, BOX_STEP, TRACE_TALL] = [112, 34, 138, 180]; // px

/** Open the example before or after, group by group; those of no group come last. @param {Store} store @param {number} by */
export function stepExample(store, by) {
  if (!store.state || store.saved) return;
  const order = Array.from(store.group.keys()).sort((i, j) => store.group[i] - store.group[j] || i - j);
  const at = order.indexOf(store.state.opened ?? -1);
  store.choose("open", order[at < 0 ? 0 : (at + by + order.length) % order.length]);
}

/** @param {View} view */
export function traceRegion(view) {
  const { store } = view;
  const picture = el("canvas", { class: "mv-gt-pic", "aria-hidden": "true" });
  const [title, mark, words, hint] = [el("span"), el("span"), el("small"), el("p", { class: "mv-empty" })];
  const chart = svg("svg", { class: "mv-gt-wires", role: "img", viewBox: `0 0 ${2 * BOX_STEP + BOX + 84} ${TRACE_TALL}` });
  const button = (label, by, name) => el("button", { class: "mv-btn", type: "button", "aria-label": `${name} example`, onclick: () => stepExample(store, by) }, label);
  const buttons = [button("‹", -1, "previous"), button("›", 1, "next")];
  const key = (text) => el("span", { class: "mv-kbd" }, text);
  const note = el("p", { class: "mv-note" }, "solid line 1, dotted line 0 · ", key("W"), " ", key("⇧W"), " along a, b · ", key("R"), " to a reader · ", key("["), " ", key("]"), " other examples");
  const root = el("section", { class: "mv-gt-trace", "aria-label": "One example, bit by bit" }, el("div", { class: "mv-gt-th" }, picture, el("h3", { class: "mv-gt-title" }, title, " ", mark, " ", words), ...buttons), hint, chart, note);

  function update(dirty) {
    const { gateTrace: trace, study, state } = store;
    if (!study || !state) return;
    picture.hidden = !trace;
    for (const one of buttons) one.disabled = store.saved;
    if (trace && ["sprites", "gate_trace", "theme"].some((kind) => dirty.has(kind))) view.picture(picture, trace.index);
    const tree = trace && trace.row === store.gateAt ? trace.tree : null;
    hint.hidden = Boolean(trace && trace.tree);
    say(hint, trace ? "Choose a gate to follow its bits back." : "Press ] to trace the first example.");
    chart.style.display = hint.hidden ? "" : "none";
    say(title, trace ? `Example ${count(trace.index)}, bit by bit` : "No example is traced");
    const group = trace ? store.groupName(trace.index) : "";
    mark.replaceChildren(...(group ? [groupMark(group)] : []));
    if (!trace) return;
    const [given, truth] = [store.label[trace.index], store.truth[trace.index]];
    say(words, `${group ? `${group} · ` : ""}given ${store.className(given)}${truth === given || truth === UNKNOWN ? "" : `, truly ${store.className(truth)}`} · ${store.off.includes(1) ? "now says" : "says"} ${store.className(trace.said)}`);
    if (tree && ["gate_trace", "gate_at", "gates"].some((kind) => dirty.has(kind))) draw(trace, tree);
  }

  function draw(trace, tree) {
    const parts = [];
    const place = (node, level, y, slot) => {
      const x = level * BOX_STEP;
      node.reads.forEach((read, k) => {
        const from = y + (k ? slot : -slot);
        parts.push(wire(x - BOX_STEP + BOX, from, x, y + (k ? 5 : -5), read.bit));
        place(read, level - 1, from, slot / 2);
      });
      parts.push(box(node, x, y));
    };
    const depth = depthOf(tree);
    place(tree, depth, TRACE_TALL / 2, TRACE_TALL / 4);
    const x = depth * BOX_STEP + BOX;
    const text = (y, says) => svg("text", { x: x + 28, y: TRACE_TALL / 2 + y, class: "mv-val" }, says);
    chart.replaceChildren(...parts, wire(x, TRACE_TALL / 2, x + 22, TRACE_TALL / 2, tree.bit), ...outcome(tree).map((says, k) => text(14 * k - 3, says)));
    put(chart, { "aria-label": `trace of example ${trace.index}: ${spoken(tree)}` });
  }

  /** What the gate's bit does, in two lines. */
  function outcome(tree) {
    const { start } = store.study.layers[store.study.layers.length - 1];
    const readers = readersOf(store.circuit, tree.row).length;
    if (tree.row < start) return [store.circuit.live[tree.row] ? "read by" : "unused by", `${count(readers)} gate${readers === 1 ? "" : "s"}`];
    const voted = store.className(Math.floor((tree.row - start) / store.circuit.votes));
    return [tree.bit ? "1 vote" : "no vote", `for ${voted.length > 8 ? `${voted.slice(0, 7)}…` : voted}`];
  }

  function box(node, x, y) {
    const chosen = node.row !== null && node.row === store.gateAt;
    const [first, second = ""] = node.words.split("\n");
    return svg("g", node.row === null || chosen ? {} : { style: "cursor: pointer", onclick: () => chooseGate(store, node.row) },
      svg("rect", { x, y: y - BOX_TALL / 2, width: BOX, height: BOX_TALL, rx: 4, fill: "var(--mv-card)", stroke: chosen ? "var(--mv-focus)" : "var(--mv-line)", "stroke-width": chosen ? 2 : 1 }),
      svg("text", { x: x + 7, y: y - 3, class: "mv-axis" }, first), svg("text", { x: x + 7, y: y + 10, class: "mv-val" }, second),
      svg("rect", { x: x + BOX - 24, y: y - 8, width: 16, height: 16, rx: 2, fill: node.bit ? "var(--mv-ink)" : "var(--mv-card)", stroke: "var(--mv-ink)", "stroke-width": 1.2 }),
      svg("text", { x: x + BOX - 16, y: y + 4, class: "mv-val mv-bold", "text-anchor": "middle", style: `fill:var(--mv-${node.bit ? "paper" : "ink"})` }, String(node.bit)));
  }
  return { root, update, prompt: true };
}

/** @param {TracedBit} node @returns {number} */
function depthOf(node) {
  return node.reads.length ? 1 + Math.max(...node.reads.map(depthOf)) : 0;
}

/** A bit and what it comes from, for a screen reader. @param {TracedBit} node @returns {string} */
function spoken(node) {
  const own = `${node.words.replace("\n", ", ").replace(" · ", " gate ")} is ${node.bit}`;
  return node.reads.length ? `${own} (${node.reads.map(spoken).join("; ")})` : own;
}

/** Solid where the bit is 1. */
function wire(x0, y0, x1, y1, bit) {
  const middle = (x0 + x1) / 2;
  return svg("path", { d: `M${x0} ${y0}C${middle} ${y0} ${middle} ${y1} ${x1} ${y1}`, fill: "none", stroke: "var(--mv-ink)", "stroke-width": bit ? 2 : 1, "stroke-dasharray": !bit && "3 3", opacity: bit ? 1 : 0.6 });
}
