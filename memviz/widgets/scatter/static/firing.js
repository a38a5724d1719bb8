// @ts-check
/** The pictures that the opened unit fires on most, with the marks of their groups. */
import { count, el, figure, icon, put, say } from "../../core/static/dom.js";
import { groupColour, groupMark } from "../../core/static/palette.js";
import { askUnit } from "./ask.js";

/** @param {View} view */
export function firingRegion(view) {
  const { store } = view;
  const title = el("span");
  const note = el("small");
  const shut = el("button", { class: "mv-close", type: "button", "aria-label": "Close the unit", title: "Close (Esc)", onclick: () => askUnit(store, "") }, icon("close"));
  const tiles = el("div", { class: "mv-fires", role: "group", "aria-label": "Examples it fires on most", onkeydown: keys });
  const words = el("p", { class: "mv-note", role: "status" });
  const groups = el("p", { class: "mv-note mv-firegroups" });
  const body = el("div", {}, el("div", { class: "mv-openhead" }, el("h3", {}, title, " ", note), shut), words, tiles, groups);
  const empty = el("p", { class: "mv-empty" }, "Open a unit to see the examples it fires on most.");
  const root = el("section", { class: "mv-firing", "aria-label": "Examples of the opened unit" }, empty, body);
  let shown = null;

  function tile(index, value, i) {
    const canvas = el("canvas", { "aria-hidden": "true" });
    view.picture(canvas, index);
    const group = store.groupName(index);
    const label = store.className(store.label[index]);
    const text = `example ${index}, ${group || "no group"}, given ${label}, activation ${figure(value)}`;
    return el("button", { type: "button", class: "mv-fire", title: text, "aria-label": text, tabindex: i ? -1 : 0, "data-example": index, onclick: () => store.choose("open", index) },
      canvas, el("span", { class: "mv-given" }, group ? groupMark(group) : "", el("span", { class: "mv-cut" }, label)), el("small", {}, figure(value)));
  }

  /** The marks of these pictures; one mark may stand for several groups, or for none. */
  function explain(examples) {
    const there = new Set(Array.from(examples, (index) => store.groupName(index)));
    const marked = new Map(); // mark → names
    for (const { name } of store.study.groups) {
      const key = groupColour(name);
      if (there.has(name)) marked.set(key, [...(marked.get(key) || []), name]);
    }
    groups.replaceChildren(...[...marked.values()].map((names) => el("span", {}, groupMark(names[0]), names.join(" or "))));
    if (there.has("") && marked.size) groups.append(el("span", {}, "no mark: in no group"));
    groups.hidden = !marked.size;
  }

  function keys(event) {
    const all = [...tiles.children];
    const at = all.indexOf(event.target);
    const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: all.length - 1 }[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    const next = all[Math.max(0, Math.min(all.length - 1, to))];
    all.forEach((node) => put(node, { tabindex: node === next ? 0 : -1 }));
    next.focus();
  }

  /** @param {Set<string>} dirty */
  function update(dirty) {
    const unit = store.scatter ? store.scatter.unit : "";
    const row = store.study && unit ? store.rowOf(unit) : -1;
    empty.hidden = row >= 0;
    body.hidden = row < 0;
    if (row < 0) return;
    const layer = store.layer(row);
    const found = store.firing;
    const here = Boolean(found && found.unit === unit);
    say(title, `${layer.one} ${row - layer.start} fires most on`);
    say(note, layer.kind === "conv" ? "activation, mean over positions" : "activation");
    // The old pictures stay, dimmed, until the new ones come.
    tiles.classList.toggle("mv-stale", !here);
    say(words, here ? found.words : store.saved ? "This unit was not opened when the page was saved." : "Reading activations …");
    words.hidden = here && !found.words;
    if (found && (found !== shown || dirty.has("theme") || dirty.has("sprites"))) {
      shown = found;
      tiles.replaceChildren(...Array.from(found.examples || [], (index, i) => tile(index, found.values[i], i)));
      explain(found.examples || []);
      put(tiles, { "aria-label": `${count(tiles.children.length)} examples it fires on most, strongest first` });
    }
    const opened = store.state ? store.state.opened : null;
    for (const node of tiles.children) put(node, { "aria-current": Number(node.dataset.example) === opened ? "true" : false });
  }
  return { root, update };
}
