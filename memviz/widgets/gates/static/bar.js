// @ts-check
/** What the cells show, what gates are set to, how many of the top; and the scale below the map. */
import { busyBar } from "../../core/static/header.js";
import { count, el, figure, say, segment } from "../../core/static/dom.js";
import { topSlider } from "../../core/static/top.js";
import { GATE_KINDS, GATE_SETTINGS } from "./words.js";

const GATE_SHOWS = { votes: "votes lost", bit: "bit of the traced example", kind: "kind of gate", weight: "soft weight" };

/** @param {View} view */
export function gateBar(view) {
  const { store } = view;
  const show = () => {
    store.gateShow = select.value;
    store.emit("gate_show");
  };
  const select = el("select", { class: "mv-gt-show", onchange: show }, ...Object.entries(GATE_SHOWS).map(([value, words]) => el("option", { value }, words)));
  const to = segment("mv-gt-to", "set to", (key) => store.choose("score", key));
  const top = topSlider(view, "gates");
  const root = el("div", { class: "mv-controls mv-gt-bar" }, el("label", { class: "mv-field" }, "Show", el("span", { class: "mv-pick" }, select)), el("span", { class: "mv-field" }, "set to", to.root), top.root);

  function update(dirty) {
    top.update(dirty);
    if (!store.study || !store.state) return;
    const pick = store.study.scores.find((score) => score.key === store.state.score);
    if (pick) say(select.options[0], pick.label);
    select.value = store.gateShow;
    to.show([...GATE_SETTINGS.slice(0, 2), { key: "better", label: "better" }], store.state.score, store.saved);
  }
  return { root, update, destroy: top.destroy };
}

/** The scale of what the cells show, and what is being computed. @param {View} view */
export function gateScale(view) {
  const { store } = view;
  const row = el("div", { class: "mv-gt-scale mv-legend" });
  const busy = busyBar(view);
  const root = el("div", { class: "mv-gt-under" }, row, busy.root);
  const swatch = (step) => el("i", { class: "mv-gt-swatch", style: `background:var(--mv-s${step})` });
  const words = (text) => el("span", {}, text);

  function update(dirty) {
    busy.update();
    if (!["scores", "state", "gate_show", "study"].some((kind) => dirty.has(kind))) return;
    const score = store.score();
    const scale = (high, says) => [words("0"), ...Array.from({ length: 11 }, (_, i) => swatch(i)), words(high), words(says)];
    if (store.gateShow === "kind") row.replaceChildren(...GATE_KINDS.flatMap((kind) => [swatch(kind.step), words(kind.words)]));
    else if (store.gateShow === "bit") row.replaceChildren(...scale("1", "of the gate's places with bit 1; a dense gate has one place"));
    else if (store.gateShow === "weight") row.replaceChildren(...scale("1", "share of the chosen gate in the trained mixture"));
    else row.replaceChildren(...(score ? scale(figure(score.max), `${score.measure}; ${count(score.order.length)} live gates, exact`) : [words("Each gate alone is being measured.")]));
  }
  return { root, update };
}
