// @ts-check
/** The examples: filter, sort, and a grid of which only the visible rows are in the page. */
import { capital, count, el, put, say, svg } from "../../core/static/dom.js";
import { groupMark } from "../../core/static/palette.js";
import { UNKNOWN } from "../../core/static/store.js";

const GAP = 10;
const TEXT = 46; // px under each picture: two lines and the gap to the next row

/** @param {View} view */
export function gallery(view) {
  const { store } = view;
  const chips = el("div", { class: "mv-chips", role: "group", "aria-label": "Show" });
  const sort = el("select", { class: "mv-sort", "aria-label": "Order", onchange: () => rearrange() },
    ...[["change", "largest change first"], ["index", "in order"], ["label", "by given label"], ["prediction", "by prediction"]].map(([value, text]) => el("option", { value }, text)));
  const space = el("div", { class: "mv-space", role: "listbox", "aria-label": "Examples" });
  const scroller = el("div", { class: "mv-tiles", onscroll: () => fillRows(), onkeydown: keys }, space);
  const empty = el("p", { class: "mv-empty", hidden: true }, "No example in this group.");
  const foot = el("p", { class: "mv-note mv-foot" }, "✓ ✕ prediction agrees with the given label or not · folded corner: just flipped · ", el("u", {}, "underlined"), ": now predicts the true label · ⚑ ⊘ confirmed as memorized or rejected: c, r");
  const root = el("div", { class: "mv-gallery" }, scroller, empty, foot);
  const bar = el("div", { class: "mv-galbar" }, el("h3", {}, "Examples"), chips, el("span", { class: "mv-pick mv-quiet" }, sort));
  const tiles = new Map(); // position in `order` → tile
  let filters = [];
  let filter = "all";
  let order = [];
  let active = 0;
  let columns = 1;
  let rowHeight = 110;
  let study = null;
  let counted = null; // the marks that the filters have counted

  const says = (i) => (store.after ? store.after[i] : UNKNOWN);
  const tests = {
    all: () => true,
    flipped: (i) => store.flipped(i),
    marked: (i) => store.marks.has(i),
    wrong: (i) => store.after !== null && says(i) !== store.label[i],
  };

  function build() {
    study = store.study;
    study.groups.forEach((g, k) => (tests[`group ${k}`] = (i) => store.group[i] === k));
    const corner = svg("svg", { width: 8, height: 8, "aria-hidden": "true" }, svg("path", { d: "M0 0h8v8z", fill: "currentColor" }));
    const list = [["all", "All"], ["flipped", "Just flipped", corner], ...study.groups.map((g, k) => [`group ${k}`, capital(g.name), groupMark(g.name)]), ["wrong", "Wrong", "✕"], ["marked", "Marked", "⚑"]];
    filters = list.map(([key, words, mark]) => {
      const n = el("span");
      const button = el("button", { class: "mv-filter", type: "button", "data-filter": key, onclick: () => choose(key) }, mark, el("span", { class: "mv-cut", title: words }, words), n);
      return { key, n, button };
    });
    chips.replaceChildren(...filters.map((f) => f.button));
    filter = "all";
    active = 0;
    tiles.clear();
    space.replaceChildren();
  }

  function choose(key) {
    filter = key;
    active = 0;
    scroller.scrollTop = 0;
    rearrange();
  }

  function rearrange() {
    counted = store.marks;
    const kept = [];
    const counts = filters.map(() => 0);
    for (let i = 0; i < study.examples; i++) {
      filters.forEach((f, k) => tests[f.key](i) && counts[k]++);
      if (tests[filter](i)) kept.push(i);
    }
    filters.forEach((f, k) => {
      say(f.n, count(counts[k]));
      put(f.button, { "aria-pressed": String(f.key === filter) });
    });
    const by = { change: (i) => (store.change ? -Math.abs(store.change[i]) : 0), index: () => 0, label: (i) => store.label[i], prediction: says }[sort.value];
    order = kept.map((i) => [by(i) || 0, i]).sort((a, b) => a[0] - b[0] || a[1] - b[1]).map((pair) => pair[1]);
    active = Math.max(0, Math.min(active, order.length - 1));
    empty.hidden = order.length > 0;
    measure();
  }

  function measure() {
    const width = space.clientWidth;
    if (!width || !study) return;
    const longest = study.classes.reduce((n, name) => Math.max(n, String(name).length), 0);
    columns = Math.max(1, Math.floor((width + GAP) / ((longest > 4 ? 86 : 62) + GAP)));
    const tile = (width - GAP * (columns - 1)) / columns;
    const picture = Math.round(tile * Math.min(1.5, study.image.height / study.image.width));
    rowHeight = picture + TEXT;
    space.style.height = `${Math.ceil(order.length / columns) * rowHeight}px`;
    scroller.style.height = `${3 * rowHeight + 2}px`;
    root.style.setProperty("--mv-tile", `${tile}px`);
    root.style.setProperty("--mv-pic", `${picture}px`);
    fillRows();
  }

  function fillRows() {
    if (!study || !space.clientWidth) return;
    const first = Math.max(0, Math.floor(scroller.scrollTop / rowHeight) - 1);
    const last = first + 5;
    const wanted = new Set();
    const row = Math.floor(active / columns); // the tab stop stays in the page
    for (const r of new Set([row, ...Array.from({ length: last - first + 1 }, (_, i) => first + i)])) {
      for (let p = r * columns; p < Math.min(order.length, (r + 1) * columns); p++) wanted.add(p);
    }
    for (const [p, tile] of tiles) {
      if (wanted.has(p)) continue;
      tile.node.remove();
      tiles.delete(p);
    }
    for (const p of [...wanted].sort((a, b) => a - b)) {
      let tile = tiles.get(p);
      if (!tile) {
        tile = makeTile();
        tiles.set(p, tile);
        space.append(tile.node);
      }
      tile.node.style.transform = `translate(${(p % columns) * 100}%, ${Math.floor(p / columns) * rowHeight}px) translateX(${(p % columns) * GAP}px)`;
      tile.show(order[p], p);
    }
  }

  function makeTile() {
    const canvas = el("canvas", { "aria-hidden": "true" });
    const mark = el("span", { class: "mv-markbox" });
    const given = el("span", { class: "mv-cut" });
    const was = el("span", { class: "mv-cut mv-was" });
    const now = el("b", { class: "mv-cut" });
    const arrow = el("span", { class: "mv-arr" }, "→");
    const flag = el("span", { class: "mv-flag", "aria-hidden": "true" });
    const agrees = el("span", { class: "mv-agrees", "aria-hidden": "true" });
    const node = el("div", { class: "mv-tile", role: "option" }, el("div", { class: "mv-picbox" }, canvas, flag),
      el("div", { class: "mv-given" }, mark, given), el("div", { class: "mv-said" }, was, arrow, now, agrees));
    let at = 0;
    let drawn = "";
    let marked = null;
    node.addEventListener("click", () => {
      active = at;
      open(order[at]);
      fillRows();
      node.focus({ preventScroll: true });
    });

    function show(i, position) {
      at = position;
      const before = store.before ? store.before[i] : UNKNOWN;
      const after = says(i);
      const moved = before !== after;
      const known = after !== UNKNOWN;
      const label = store.className(store.label[i]);
      const right = after === store.label[i];
      const truly = moved && store.truth && store.truth[i] !== store.label[i] && after === store.truth[i];
      const group = store.groupName(i);
      if (marked !== group) mark.replaceChildren(group ? groupMark(group) : "");
      marked = group;
      say(given, `given ${label}`);
      say(was, known && moved ? store.className(before) : "");
      say(now, known ? store.className(after) : "");
      say(agrees, known ? (right ? "✓" : "✕") : "");
      arrow.hidden = was.hidden = !(known && moved);
      now.classList.toggle("mv-truly", Boolean(truly));
      now.classList.toggle("mv-same", !moved);
      const flipped = store.flipped(i);
      node.classList.toggle("mv-flip", flipped);
      const judged = store.marks.get(i) || "";
      say(flag, { confirmed: "⚑", rejected: "⊘", "": "" }[judged]);
      const words = [`example ${i}`, group, { confirmed: "confirmed as memorized", rejected: "rejected", "": "" }[judged], `given ${label}`, known ? (moved ? `predicted ${store.className(before)}, now ${store.className(after)}` : `predicted ${store.className(after)}`) : "",
        truly ? "its true label" : "", flipped ? "just flipped" : ""].filter(Boolean).join(", ");
      put(node, { "data-example": i, "aria-label": words, title: words, "aria-selected": String(Boolean(store.state) && store.state.opened === i), tabindex: position === active ? 0 : -1, "aria-setsize": order.length, "aria-posinset": position + 1 });
      const want = `${i} ${view.palette.key}`;
      if (drawn !== want) drawn = view.picture(canvas, i) ? want : "";
    }
    return { node, show };
  }

  function open(i) {
    store.choose("open", i);
  }

  function keys(event) {
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns, PageDown: 3 * columns, PageUp: -3 * columns, Home: -order.length, End: order.length };
    const step = steps[event.key];
    if (step !== undefined) {
      const to = active + step;
      active = Math.abs(step) === columns && columns > 1 && (to < 0 || to >= order.length) ? active : Math.max(0, Math.min(order.length - 1, to));
      const top = Math.floor(active / columns) * rowHeight;
      if (top < scroller.scrollTop) scroller.scrollTop = top;
      else if (top + rowHeight > scroller.scrollTop + scroller.clientHeight) scroller.scrollTop = top + rowHeight - scroller.clientHeight;
      fillRows();
      const tile = tiles.get(active);
      if (tile) tile.node.focus({ preventScroll: true });
    } else if ((event.key === "Enter" || event.key === " ") && order.length) open(order[active]);
    else if (event.key === "Escape" && store.state && store.state.opened !== null) open(null);
    else if ((event.key === "c" || event.key === "r") && !event.metaKey && !event.ctrlKey && !event.altKey && order.length) store.mark(order[active], event.key === "c" ? "confirmed" : "rejected");
    else return;
    event.preventDefault();
  }

  /** @param {Set<string>} dirty */
  function update(dirty) {
    if (!store.study || !store.label) return;
    if (study !== store.study) build();
    if (dirty.has("study") || dirty.has("readout") || store.marks !== counted) rearrange();
    else if (dirty.has("size")) measure();
    else if (["sprites", "state", "theme"].some((kind) => dirty.has(kind))) fillRows();
  }
  /** Put the tab stop on the opened example again, when its panel closes. */
  function focusTile() {
    const tile = tiles.get(active);
    if (tile) tile.node.focus({ preventScroll: true });
  }
  return { root, bar, watch: scroller, update, focusTile };
}
