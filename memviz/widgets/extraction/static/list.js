// @ts-check
/** The passages: sorted, searched, each with its bar of tokens before the first wrong one. */
import { count, el, put, say, throttle } from "../../core/static/dom.js";
import { ending } from "./words.js";

/** @param {View} view */
export function passageList(view) {
  const { store } = view;
  const ask = (more = false) => store.ask({ type: "list", sort: sort.value, find: find.value, more });
  const search = throttle(() => ask(), 150);
  const about = el("small");
  const find = el("input", { class: "mv-find", type: "search", placeholder: "Find a passage", "aria-label": "Find a passage", oninput: search });
  const sort = el("select", { "aria-label": "Sort passages", onchange: () => ask() });
  const list = el("ul", { role: "listbox", tabindex: 0, "aria-label": "Passages", onkeydown: keys });
  const note = el("p", { class: "mv-note" });
  const more = el("button", { class: "mv-btn mv-ex-more", type: "button", onclick: () => ask(true) }, "More");
  const swatch = (step) => el("i", { class: "mv-ex-sw", style: `background:var(--mv-s${step})` });
  const off = el("span");
  const legend = el("p", { class: "mv-note" }, el("span", { class: "mv-ex-copies" }, "×64: copies in training. "), "Bar: tokens right before the first wrong one, ", swatch(3), " before ", swatch(8), " ", off);
  const root = el("div", { class: "mv-ex-list" }, el("h3", {}, "Passages ", about), el("div", { class: "mv-findbox" }, find, el("span", { class: "mv-kbd", "aria-hidden": "true" }, "/")),
    el("label", { class: "mv-field" }, "Sort", el("span", { class: "mv-pick" }, sort)), list, note, more, legend);
  let items = [];
  let sorts = "";

  const open = (row) => store.saved || store.choose("open", row);
  function keys(event) {
    const at = items.findIndex((item) => item.row === store.state?.opened);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: items.length - 1, PageDown: at + 10, PageUp: at - 10 }[event.key];
    if (event.key === "Enter") /** @type {HTMLElement} */ (view.root.querySelector(".mv-ex-toks"))?.focus();
    else if (to === undefined || !items.length) return;
    else open(items[Math.max(0, Math.min(items.length - 1, to))].row);
    event.preventDefault();
  }
  function fill() {
    items = store.extraction.list.passages.map(({ row, line, text, copies, held }) => {
      const [was, now] = [el("i", { class: "mv-ex-was" }), el("i", { class: "mv-ex-now" })];
      const state = el("span", { class: "mv-ex-state" });
      const times = copies === undefined ? "" : `×${count(copies)}`;
      const node = el("li", { role: "option", id: `${view.uid}-passage-${row}`, "data-row": row, title: text, onclick: () => (open(row), list.focus()) },
        el("span", { class: "mv-cut" }, line || "(empty)"), el("span", { class: "mv-ex-bar", "aria-hidden": "true" }, was, now),
        el("span", { class: "mv-n", "aria-label": copies === undefined ? null : `${copies} copies` }, held ? "held out" : times), state);
      return { row, node, was, now, state };
    });
    list.replaceChildren(...items.map((item) => item.node));
  }
  function mark({ row, was, now, state, node }) {
    const { recited } = store.extraction;
    if (!recited) return;
    const of = store.study.continuation;
    const [before, after] = [recited.matchedBefore[row], recited.matchedAfter[row]];
    was.style.width = `${(100 * before) / of}%`;
    now.style.width = `${(100 * Math.min(before, after)) / of}%`;
    // A passage that was never whole says how far it came.
    say(state, before >= of || before === after ? ending(after, of) : `${count(before)} → ${count(after)}`);
    state.classList.toggle("mv-bold", before >= of && after < of);
    node.classList.toggle("mv-ex-moved", before !== after);
  }
  /** @param {Set<string>} dirty */
  function update(dirty) {
    const { list: told, recited } = store.extraction;
    if (!told) return;
    if (dirty.has("passages")) {
      const options = told.sorts.map((s) => s.key).join("\n");
      if (options !== sorts) sort.replaceChildren(...told.sorts.map((s) => el("option", { value: s.key }, s.label)));
      sorts = options;
      sort.value = told.sort;
      fill();
      const first = told.passages.length < told.matching ? `the first ${count(told.passages.length)} of ` : "";
      more.hidden = store.saved || told.passages.length >= told.matching;
      say(note, told.matching ? `${first}${count(told.matching)}${told.matching < told.of ? ` of ${count(told.of)}` : ""} passages` : "No passage has these words.");
      legend.firstElementChild.toggleAttribute("hidden", !told.passages.some((p) => p.copies !== undefined));
    }
    sort.disabled = find.disabled = store.saved;
    for (const item of items) mark(item);
    const row = recited && recited.rows.recited;
    say(about, row ? `${count(row.of)}, recited ${count(row.counts[0])}${recited.units ? ` → ${count(row.counts[1])}` : ""}` : count(told.of));
    say(off, recited && recited.units ? `with ${count(recited.units)} off.` : "with units off.");
    const opened = store.state ? store.state.opened : null;
    for (const { row, node } of items) {
      const on = row === opened;
      if (on && node.getAttribute("aria-selected") !== "true") bringUp(list, node);
      put(node, { "aria-selected": String(on) });
    }
    put(list, { "aria-activedescendant": items.some((i) => i.row === opened) ? `${view.uid}-passage-${opened}` : null });
  }
  return { root, update, destroy: search.cancel };
}

/** Scroll the list alone, never the notebook. @param {HTMLElement} list @param {HTMLElement} node */
function bringUp(list, node) {
  const [top, bottom] = [node.offsetTop - list.offsetTop, node.offsetTop - list.offsetTop + node.offsetHeight];
  if (top < list.scrollTop) list.scrollTop = top;
  else if (bottom > list.scrollTop + list.clientHeight) list.scrollTop = bottom - list.clientHeight;
}
