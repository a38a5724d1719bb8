// @ts-check
/** The list of layers: which are shown, how many units each has, its best score, how many are off. */
import { el, icon, put, say, svg } from "../../core/static/dom.js";

/** @param {View} view */
export function layerList(view) {
  const { store } = view;
  const find = el("input", { class: "mv-find", type: "search", placeholder: "Find a layer", "aria-label": "Find a layer", oninput: filter });
  const list = el("ul", { role: "listbox", "aria-multiselectable": "true", "aria-label": "Layers", onkeydown: keys });
  const nothing = el("p", { class: "mv-note", hidden: true }, "No layer matches.");
  const root = el("div", { class: "mv-layers" }, el("label", { class: "mv-findbox" }, icon("find"), find), list, nothing, marksLegend());
  let items = [];
  let study = null;

  function build() {
    study = store.study;
    items = study.layers.map((layer, i) => {
      const off = el("span", { class: "mv-offs" });
      const bar = el("i");
      const node = el(
        "li",
        { role: "option", "data-layer": layer.name, tabindex: i ? -1 : 0, title: `${layer.name} · ${layer.kind}`, onclick: () => toggle(layer.name) },
        el("span", { class: "mv-box", "aria-hidden": "true" }), el("span", { class: "mv-name" }, layer.label),
        el("span", { class: "mv-n" }, off, layer.units), el("span", { class: "mv-bar" }, bar),
      );
      return { layer, node, off, bar };
    });
    list.replaceChildren(...items.map((item) => item.node));
    filter();
  }

  function filter() {
    const words = find.value.trim().toLowerCase();
    for (const { layer, node } of items) node.hidden = !`${layer.label} ${layer.name}`.toLowerCase().includes(words);
    nothing.hidden = !items.length || items.some(({ node }) => !node.hidden);
    rove(items.find(({ node }) => !node.hidden && node.tabIndex === 0) || items.find(({ node }) => !node.hidden));
  }

  function rove(item) {
    if (item) for (const { node } of items) node.tabIndex = node === item.node ? 0 : -1;
  }

  function toggle(name) {
    const shown = new Set(store.state ? store.state.layers : []);
    if (!shown.delete(name)) shown.add(name);
    rove(items.find(({ layer }) => layer.name === name));
    store.choose("layers", study.layers.map((l) => l.name).filter((n) => shown.has(n)));
  }

  function keys(event) {
    const seen = items.filter(({ node }) => !node.hidden);
    const at = seen.findIndex(({ node }) => node === event.target);
    if (at < 0) return;
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: seen.length - 1 }[event.key];
    if (to !== undefined) {
      rove(seen[to]);
      if (seen[to]) seen[to].node.focus();
    } else if (event.key === " " || event.key === "Enter") toggle(seen[at].layer.name);
    else if (event.key === "a" && (event.ctrlKey || event.metaKey)) store.choose("layers", seen.map(({ layer }) => layer.name));
    else return;
    event.preventDefault();
  }

  /** @param {Set<string>} dirty */
  function update(dirty) {
    if (!store.study) return;
    if (study !== store.study) build();
    if (!["study", "state", "scores", "preview"].some((kind) => dirty.has(kind))) return;
    const shown = new Set(store.state ? store.state.layers : []);
    const score = store.score();
    for (const { layer, node, off, bar } of items) {
      const n = store.offCount(layer);
      put(node, { "aria-selected": String(shown.has(layer.name)), "aria-label": `${layer.label}, ${layer.units} units${n ? `, ${n} off` : ""}` });
      say(off, n ? `✕${n}` : "");
      let best = score ? score.low : 0;
      let estimate = true;
      for (let i = layer.start; score && i < layer.start + layer.units; i++) {
        if (score.state[i] === 2) estimate = false;
        if (score.state[i] && score.value[i] > best) best = score.value[i];
      }
      bar.style.width = `${score && score.max > score.low ? 100 * Math.sqrt((best - score.low) / (score.max - score.low)) : 0}%`;
      bar.classList.toggle("mv-est", estimate);
    }
  }
  return { root, update, find };
}

/** What the marks mean, in the marks themselves. */
export function marksLegend() {
  const cell = (attrs, ...more) => svg("svg", { width: 17, height: 17, viewBox: "-1 -1 17 17", "aria-hidden": "true" },
    svg("rect", { x: 0, y: 0, width: 15, height: 15, rx: 2.2, ...attrs }), ...more);
  const lines = svg("path", { d: "M0 5 5 0M0 10 10 0M0 15 15 0M5 15 15 5M10 15l5-5", stroke: "var(--mv-s6)" });
  const foot = svg("path", { d: "M1 13.2h13", stroke: "var(--mv-s8)", "stroke-width": 2.2 });
  const cross = svg("path", { d: "M4 3l7 7M11 3l-7 7", stroke: "var(--mv-ink)", "stroke-width": 1.7, "stroke-linecap": "round" });
  const rows = [
    ["exact value", cell({ fill: "var(--mv-s7)" })],
    ["estimate", cell({ fill: "none", stroke: "var(--mv-s6)", "stroke-width": 1.2 }, lines)],
    ["off; its score is the bar below", cell({ fill: "var(--mv-paper)", stroke: "var(--mv-ink)", "stroke-width": 1.2 }, foot, cross)],
    ["keyboard focus", cell({ x: 2.5, y: 2.5, width: 10, height: 10, fill: "var(--mv-s4)" }, svg("rect", { x: 0, y: 0, width: 15, height: 15, rx: 3.5, fill: "none", stroke: "var(--mv-focus)", "stroke-width": 2 }))],
  ];
  return el("ul", { class: "mv-marks", "aria-label": "What the marks mean" }, ...rows.map(([words, mark]) => el("li", {}, mark, words)));
}
