// @ts-check
/** Who recites the opened passage already: a row for each size, a cell for each checkpoint. */
import { count, el, say, share } from "../../core/static/dom.js";

/** "31 k" @param {number} n */
function weightsOf(n) {
  const [size, unit] = n >= 1e9 ? [n / 1e9, " B"] : n >= 1e6 ? [n / 1e6, " M"] : n >= 1e3 ? [n / 1e3, " k"] : [n, ""];
  return `${size >= 100 || !unit ? Math.round(size) : Number(size.toPrecision(2))}${unit} weights`;
}

/** @param {View} view */
export function ladderTable(view) {
  const { store } = view;
  const head = el("tr");
  const body = el("tbody");
  const note = el("p", { class: "mv-note" });
  const root = el("section", { class: "mv-ex-ladder", "aria-label": "Who recites this already", hidden: true },
    el("div", {}, el("h3", {}, "Who recites this already ", el("small", {}, "tokens right before the first wrong one")), el("table", {}, el("thead", {}, head), body)), note);

  function cell(matched) {
    const of = store.study.continuation;
    if (matched === null || matched < 0) return el("td", {}, matched === null ? "…" : "");
    const bar = el("i", { class: matched >= of ? "mv-ex-now" : "mv-ex-part", style: `width:${(100 * matched) / of}%` });
    return el("td", {}, el("span", { class: "mv-ex-bar", "aria-hidden": "true" }, bar), el("span", { class: "mv-soft" }, matched >= of ? `✓ ${count(of)}` : count(matched)));
  }
  /** @param {Set<string>} dirty */
  function update(dirty) {
    const told = store.study && store.extraction.ladder; // a view that is shown again may hear news before the study
    root.hidden = !told;
    if (!told || !["study", "recited_ladder"].some((kind) => dirty.has(kind))) return;
    head.replaceChildren(el("td"), ...told.columns.map((name) => el("th", { scope: "col" }, name || "tokens")), ...["recited", "precision", "recall"].map((name) => el("th", { scope: "col", class: "mv-ex-r" }, name)));
    body.replaceChildren(...told.rows.map((row) => el("tr", {}, el("th", { scope: "row" }, row.name, el("small", {}, weightsOf(row.weights))), ...row.cells.map(cell),
      ...[row.recited, row.precision, row.recall].map((value, i) => el("td", { class: "mv-ex-r" }, value === null ? (i && row.recited !== null ? "–" : "…") : share(value))))));
    const chance = told.chance === null ? "" : ` Sets drawn at random would give precision ${share(told.chance)}.`;
    say(note, `✓ whole passage. Recited: share of all ${count(store.study.trained)}. Precision, recall: the passages a model recites, taken as a forecast of ${told.name}’s own.${chance}`);
  }
  return { root, update };
}
