// @ts-check
/** Everything known about the opened example: scores with rank and null, units, curve, neighbours. */
import { count, el, figure, icon, put, say, svg } from "../../core/static/dom.js";
import { groupMark } from "../../core/static/palette.js";

const NOTHING = "Choose an example to see its scores, its units and its neighbours.";
const diamond = () => svg("svg", { class: "mv-mark", viewBox: "0 0 9 9", "aria-hidden": "true" }, svg("path", { d: "M4.5 0l4.5 4.5-4.5 4.5-4.5-4.5z", fill: "var(--mv-null)" }));

/** @param {View} view */
export function inspectorRegion(view) {
  const { store } = view;
  const empty = el("p", { class: "mv-empty", role: "status" }, NOTHING);
  const scores = el("tbody");
  const table = el("table", { class: "mv-scores" }, el("thead", {}, el("tr", {}, ...["score", "value", "rank", "null"].map((word) => el("th", { scope: "col" }, word)))), scores);
  const noScores = el("p", { class: "mv-note" }, "No example scores were given: inspector(study, scores=[…]).");
  const units = el("ol", { class: "mv-critical" });
  const k = el("input", { class: "mv-k", type: "number", min: 1, max: 12, value: 5, "aria-label": "number of its units" });
  const off = el("button", { class: "mv-btn mv-takeout", type: "button", onclick: ablate }, "ablate");
  const undo = el("button", { class: "mv-btn", type: "button", title: "Undo (Ctrl+Z)", onclick: () => store.ask({ type: "undo" }) }, icon("undo"), "Undo");
  const take = el("p", { class: "mv-takeline" }, "its top ", k, " units: ", off, undo);
  const chance = el("p", { class: "mv-note" });
  const curve = el("div", { class: "mv-curve" });
  const near = el("div", { class: "mv-near" });
  const part = (title, note, ...nodes) => el("section", {}, el("h3", {}, title, " ", el("small", {}, note)), ...nodes);
  const body = el("div", { class: "mv-inspected" },
    part("Scores", "rank 1 is the highest", table, noScores),
    part("Its units", "margin lost when each is ablated alone", units, chance, take),
    part("Learning curve", "margin of its given label by epoch", curve),
    part("Nearest training examples", "by cosine similarity of the last layer's input", near));
  const root = el("section", { class: "mv-inspector", "aria-label": "Example inspector" }, empty, body);
  let shown = null;
  let digits = 2; // as many as tell the cosines apart

  function ablate() {
    const chosen = shown.units.slice(0, Math.max(1, Math.min(12, Math.round(Number(k.value)) || 1)));
    store.ask({ type: "set", units: chosen.map((u) => u.unit).join(" ") });
  }

  function build() {
    scores.replaceChildren(...shown.scores.map((s) => el("tr", {},
      el("th", { scope: "row", title: s.measure }, s.name),
      el("td", {}, s.value === null ? "–" : figure(s.value)),
      el("td", {}, s.rank === null ? "–" : `${count(s.rank)} of ${count(s.of)}`),
      el("td", { class: "mv-soft" }, s.null ? `${figure(s.null[0])} to ${figure(s.null[1])}` : "–"))));
    table.hidden = !shown.scores.length;
    noScores.hidden = !table.hidden;
    const most = Math.max(...shown.units.map((u) => u.lost), 1e-9);
    units.replaceChildren(...shown.units.map((u) => el("li", { class: u.exact ? "" : "mv-guess" }, el("span", { class: "mv-cut" }, u.unit),
      el("i", { style: `width: ${Math.max(0, (100 * u.lost) / most)}%` }), el("b", {}, figure(u.lost)), u.exact ? "" : el("small", {}, "estimate"))));
    const ends = shown.random;
    chance.replaceChildren(...(ends ? [diamond(), ` a random unit: ${figure(ends[1])}, 95 % of all units ${figure(ends[0])} to ${figure(ends[2])}`] : []));
    take.hidden = !shown.units.length;
    off.disabled = store.saved;
    if (shown.curve) curve.replaceChildren(shown.curve.epochs.length > 1 ? line(shown.curve) : el("p", { class: "mv-note" }, "The study has no checkpoints and no run was given."));
    const cosines = (shown.neighbours || []).map((n) => n.cosine);
    digits = [2, 3, 4, 5].find((d) => new Set(cosines.map((c) => c.toFixed(d))).size === cosines.length) || 6;
    if (shown.neighbours) near.replaceChildren(...(shown.neighbours.length ? shown.neighbours.map(tile) : [el("p", { class: "mv-note" }, "None: the features of some examples are all zero.")]));
    if (!shown.curve) curve.replaceChildren();
    if (!shown.neighbours) near.replaceChildren();
  }

  function tile({ index, cosine }) {
    const canvas = el("canvas", { "aria-hidden": "true" });
    view.picture(canvas, index);
    const group = store.groupName(index);
    const said = cosine.toFixed(digits).replace(/^(-?)0/, "$1").replace("-", "−");
    const words = `example ${index}, ${group || "no group"}, given ${store.className(store.label[index])}, cosine ${said}`;
    return el("button", { type: "button", class: "mv-neighbour", title: words, "aria-label": words, "data-example": index, onclick: () => store.choose("open", index) },
      canvas, el("span", {}, group ? groupMark(group) : "", ` ${store.className(store.label[index])}`), el("small", {}, said));
  }

  function line({ epochs, margin }) {
    const low = Math.min(0, ...margin);
    const high = Math.max(0.1, ...margin);
    const x = (e) => 30 + (330 * (e - epochs[0])) / (epochs[epochs.length - 1] - epochs[0]);
    const y = (m) => 6 + (84 * (high - m)) / (high - low);
    const path = margin.map((m, i) => `${i ? "L" : "M"}${x(epochs[i]).toFixed(1)} ${y(m).toFixed(1)}`).join("");
    const text = (attrs, words) => svg("text", { class: "mv-axis", ...attrs }, words);
    const last = margin[margin.length - 1];
    return svg("svg", { viewBox: "0 0 372 112", role: "img", "aria-label": `margin from ${figure(margin[0])} at epoch ${epochs[0]} to ${figure(last)} at epoch ${epochs[epochs.length - 1]}` },
      svg("path", { d: `M30 ${y(0)}H360`, stroke: "var(--mv-line)" }), text({ x: 26, y: y(0) + 4, "text-anchor": "end" }, "0"), text({ x: 26, y: y(high) + 6, "text-anchor": "end" }, figure(high)),
      svg("path", { d: path, fill: "none", stroke: "var(--mv-ink)", "stroke-width": 1.6 }),
      text({ x: x(epochs[0]), y: 106, "text-anchor": "middle" }, String(epochs[0])), text({ x: 360, y: 106, "text-anchor": "middle" }, String(epochs[epochs.length - 1])));
  }

  /** @param {Set<string>} dirty */
  function update(dirty) {
    const found = store.inspected && store.state && store.inspected.index === store.state.opened ? store.inspected : null;
    empty.hidden = Boolean(found);
    undo.disabled = store.saved || !store.state || !store.state.undo;
    say(empty, store.state && store.state.opened !== null && !store.saved ? `Reading what is known of example ${store.state.opened} …` : NOTHING);
    put(body, { hidden: !found });
    if (!found || (found === shown && !dirty.has("theme") && !dirty.has("sprites"))) return;
    shown = found;
    build();
  }
  return { root, update };
}
