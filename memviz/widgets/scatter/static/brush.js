// @ts-check
/** Beside the scatter: what is brushed, what to do with it, and what the marks mean. */
import { count, el, say, share, svg } from "../../core/static/dom.js";
import { askAxes } from "./ask.js";

/** What is brushed, in words, and what to do with it. @param {View} view */
export function brushPanel(view, brushed, brush, focus) {
  const { store } = view;
  const button = (name, text, title, act) => el("button", { class: `mv-btn mv-${name}`, type: "button", title, onclick: act }, text);
  const rows = () => [...brushed()];
  const ablate = button("ablatebrushed", "Ablate brushed", "Switch off the brushed units that are on", () => store.toggle(rows().filter((row) => !store.off[row])));
  const toggle = button("togglebrushed", "Toggle", "Switch each brushed unit on or off", () => store.toggle(rows()));
  const clear = button("clearbrush", "Clear", "Clear the selection (Esc)", () => brush([]));
  const undo = button("undo", "Undo", "Undo (Ctrl+Z)", () => store.ask({ type: "undo" }));
  const words = el("p", { class: "mv-brushed", role: "status" });
  const lack = el("p", { class: "mv-note mv-lack" });
  const part = el("p", { class: "mv-note mv-sofar" });
  const control = el("p", { class: "mv-note mv-control", role: "status" });
  const legend = dotLegend();
  let swept = ""; // the axis of an exact score
  const rest = button("sweeprest", "Sweep the rest", "Continue the exact sweep", () => (askAxes(store, { [swept]: store.scatter[swept] }), focus()));
  const root = el("aside", { class: "mv-side", "aria-label": "Brushed units" }, el("h3", {}, "Brushed"), words,
    el("div", { class: "mv-sidetools" }, ablate, toggle, clear, undo), control, part, rest, lack, legend.root);
  function update() {
    const chosen = rows();
    const off = chosen.filter((row) => store.off[row]).length;
    const by = store.study.layers.map(({ label, start, units }) => ({ label, n: chosen.filter((row) => row >= start && row < start + units).length })).filter(({ n }) => n);
    say(words, chosen.length ? `${count(chosen.length)} unit${chosen.length > 1 ? "s" : ""}: ${by.map(({ label, n }) => `${count(n)} of ${label}`).join(", ")}${off ? `; ${count(off)} off` : ""}.` : "Drag over the dots, or move with the arrows and press Space.");
    ablate.disabled = store.saved || off === chosen.length;
    toggle.disabled = store.saved || !chosen.length;
    clear.disabled = !chosen.length;
    undo.disabled = store.saved || !store.state.undo;
    say(control, store.off.includes(1) ? controlWords(store) : "");
  }
  /** Other scores, or more of them. @param {number} n units without a value @param {string} axis that of an exact effect, or an empty text */
  function scored(n, axis) {
    legend.update(scoreKinds(store, store.scatter.x), scoreKinds(store, store.scatter.y));
    swept = axis;
    const score = axis ? store.scores.get(store.scatter[axis]) : null;
    const partial = score && score.done < score.total;
    part.hidden = !partial;
    rest.hidden = !partial || !score.cancelled || store.saved;
    if (partial) say(part, `${count(score.done)} of ${count(score.total)} units exact. ${score.cancelled || store.saved ? "The others are not drawn." : "The others appear as they are swept."}`);
    say(lack, n ? `${count(n)} unit${n > 1 ? "s have" : " has"} no value for one of the two scores and ${n > 1 ? "are" : "is"} not drawn.` : "");
  }
  return { root, update, scored };
}

/** What as many random units do, for comparison. @param {Store} store */
function controlWords(store) {
  const { random } = store;
  if (store.frame || !random) return store.saved ? "" : "Random units of the same layers: drawing …";
  if (!random.draws) return `${random.words.replace(/\.$/, "")}.`;
  const draws = `${count(random.draws)}${random.draws < random.of ? ` of ${count(random.of)}` : ""} draws`;
  return `For comparison, ${random.words} off instead (mean of ${draws}): ${random.groups.map((group) => `${group.name} ${share(group.accuracy)}`).join(", ")}.`;
}

/** What a score's values are, first what is surest; a user's own may be exact for some units alone. @param {Store} store */
function scoreKinds(store, key) {
  if (store.swept(key)) return ["exact"];
  const pick = store.study.scores.find((s) => s.key === key);
  const score = store.scores.get(key);
  const guessed = score ? score.state.includes(1) : Boolean(pick) && pick.kind === "estimate";
  if (!guessed) return ["own"];
  return score && score.state.includes(2) ? ["exact", "estimate"] : ["estimate"];
}

const KINDS = { estimate: "only estimated", exact: "computed exactly", own: "measured" };

/** Two kinds in words: "one value only estimated, the other computed exactly". @param {string} a @param {string} b */
function kindWords(a, b) {
  const [first, second] = Object.keys(KINDS).filter((kind) => kind === a || kind === b);
  return `a unit: ${second ? `one value ${KINDS[first]}, the other ${KINDS[second]}` : `both values ${KINDS[first]}`}`;
}

function dotLegend() {
  const mark = (...nodes) => svg("svg", { width: 17, height: 17, viewBox: "0 0 17 17", "aria-hidden": "true" }, ...nodes);
  const dot = (r, attrs) => svg("circle", { cx: 8.5, cy: 8.5, r, ...attrs });
  const [sure, guess] = [el("span", { class: "mv-full" }), el("span", { class: "mv-hollow" })];
  const items = [
    [sure, mark(dot(3.8, { fill: "var(--mv-s7)" }))],
    [guess, mark(dot(3.4, { fill: "none", stroke: "var(--mv-s6)", "stroke-width": 1.2 }))],
    ["switched off", mark(svg("path", { d: "M4.5 4.5l8 8M12.5 4.5l-8 8", stroke: "var(--mv-ink)", "stroke-width": 1.8, "stroke-linecap": "round" }))],
    ["brushed: what the buttons switch", mark(dot(3.8, { fill: "var(--mv-s7)" }), dot(6.4, { fill: "none", stroke: "var(--mv-ink)", "stroke-width": 1.5 }))],
    ["opened, with its pictures below; or under the keys", mark(dot(3.4, { fill: "var(--mv-s7)" }), dot(7, { fill: "none", stroke: "var(--mv-focus)", "stroke-width": 2 }))],
  ];
  const root = el("ul", { class: "mv-marks", "aria-label": "What the marks mean" }, ...items.map(([text, node]) => el("li", {}, node, text)));
  function update(x, y) {
    const pairs = x.flatMap((a) => y.map((b) => [a, b]));
    for (const [node, estimated] of [[sure, false], [guess, true]]) {
      const words = pairs.filter((pair) => pair.includes("estimate") === estimated).map(([a, b]) => kindWords(a, b));
      say(node, [...new Set(words)].join(", or "));
      node.parentElement.hidden = !words.length;
    }
  }
  return { root, update };
}
