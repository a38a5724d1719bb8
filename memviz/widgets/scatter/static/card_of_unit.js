// @ts-check
/** A unit of the scatter in words: the hover card and what a screen reader hears. */
import { el, figure, say } from "../../core/static/dom.js";
import { placeCard, unitWords } from "../../core/static/card.js";

/** A unit's name, state and both scores, as words. @param {Store} store */
export function scatterWords(store, row) {
  const { name, on } = unitWords(store, row);
  const value = (key) => {
    const score = store.scores.get(key);
    return score && score.state[row] ? `${score.label} ${figure(score.value[row])}${score.state[row] === 1 ? ", estimated" : ""}` : "";
  };
  return [name, on.trim().replace(".", "").toLowerCase(), value(store.scatter.x), value(store.scatter.y)].filter(Boolean);
}

/** The hover card: both scores, and what the unit alone takes with it. @param {View} view */
export function scatterCard(view) {
  const { store } = view;
  const name = el("span");
  const words = el("p", { class: "mv-words" });
  const scores = el("div");
  const key = (text) => el("span", { class: "mv-kbd" }, text);
  const hint = el("p", { class: "mv-note mv-hint" }, key("Space"), " brush\u2002", key("Enter"), " its examples");
  const root = el("div", { class: "mv-tip", role: "tooltip", hidden: true }, el("h3", {}, name), words, scores, hint);
  function show(row, x, y, size) {
    const [title, , ...values] = scatterWords(store, row);
    const { on, parts } = unitWords(store, row);
    say(name, title);
    words.replaceChildren(on, ...parts.flatMap(([n, text]) => [el("b", {}, n), text]));
    scores.replaceChildren(...values.map((text) => el("p", { class: "mv-note" }, text)));
    hint.hidden = store.saved;
    root.hidden = false;
    placeCard(view, root, x, y, size);
  }
  return { root, show, hide: () => (root.hidden = true) };
}
