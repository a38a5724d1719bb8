// @ts-check
/** The déjà vu explorer: a list of pairs, one pair with what its caption finds, the figures of all. */
import { count, el, put, say, throttle } from "../../core/static/dom.js";
import { listAlone, openAlone } from "./album.js";
import { gapsColumn } from "./gaps.js";

const SIDES = [["Target model", "trained on this pair"], ["Target model", ""], ["Reference model", "never saw this pair"]];

/** Draw a picture by its number; false while it is not there. @param {Store} store */
function drawTile(store, canvas, number) {
  const tile = store.tiles.get(number);
  const side = tile ? tile.side : 8;
  if (canvas.width !== side) Object.assign(canvas, { width: side, height: side });
  canvas.classList.toggle("mv-px", side <= 48);
  const pen = canvas.getContext("2d");
  pen.clearRect(0, 0, side, side);
  if (tile) pen.drawImage(tile.bitmap, tile.x, 0, side, side, 0, 0, side, side);
  return Boolean(tile);
}

/** @param {View} view */
function pairList(view) {
  const { store } = view;
  const ask = (find, more = false) => (store.album ? listAlone(store, sort.value, find, more) : store.ask({ type: "list", sort: sort.value, find, more }));
  const sort = el("select", { "aria-label": "Sort training pairs by", onchange: () => ask(find.value) });
  const search = throttle(() => ask(find.value), 150);
  const find = el("input", { class: "mv-find", type: "search", placeholder: "find in captions", "aria-label": "Find in captions", oninput: search });
  const list = el("ul", { role: "listbox", tabindex: 0, "aria-label": "Training pairs", onkeydown: keys });
  const note = el("p", { class: "mv-note" });
  const more = el("button", { class: "mv-btn mv-dv-more", type: "button", onclick: () => ask(find.value, true) }, "More");
  const root = el("div", { class: "mv-dv-list" }, el("h3", {}, "Training pairs"), el("label", { class: "mv-field" }, "by", el("span", { class: "mv-pick mv-quiet" }, sort)),
    el("div", { class: "mv-findbox" }, find), list, note, more);
  let items = [];
  let sorts = "";

  function open(row) {
    if (store.album) openAlone(store, row);
    else if (!store.saved) store.choose("open", row);
  }
  function keys(event) {
    const at = items.findIndex((item) => item.row === store.state?.opened);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: items.length - 1, PageDown: at + 8, PageUp: at - 8 }[event.key];
    if (to === undefined || !items.length) return;
    event.preventDefault();
    open(items[Math.max(0, Math.min(items.length - 1, to))].row);
  }
  function fill() {
    const { pairs, sort: by } = store.pairs;
    const largest = Math.max(1e-9, ...pairs.map((p) => Math.abs(p.value)));
    items = pairs.map(({ row, caption, value }) => {
      const canvas = el("canvas", { "aria-hidden": "true" });
      const bar = el("i", { class: value < 0 ? "mv-under" : null, style: `width:${(100 * Math.abs(value)) / largest}%` });
      const words = by.startsWith("recall_gap") ? signed(value) : by === "min_dist" ? (-value).toFixed(2).replace(/^0/, "") : String(value);
      const node = el("li", { role: "option", id: `${view.uid}-pair-${row}`, "data-row": row, title: caption, onclick: () => (open(row), list.focus()) },
        canvas, el("span", { class: "mv-cut" }, caption), el("span", { class: "mv-dv-gap" }, el("span", {}, bar), el("span", {}, words)));
      return { row, node, canvas };
    });
    list.replaceChildren(...items.map((item) => item.node));
  }
  /** @param {Set<string>} dirty */
  function update(dirty) {
    if (!store.pairs) return;
    const { sorts: known, sort: by, matching, of, pairs } = store.pairs;
    if (dirty.has("pairs") || dirty.has("album")) {
      const options = known.map((s) => s.key).join();
      if (options !== sorts) sort.replaceChildren(...known.map((s) => el("option", { value: s.key }, s.label)));
      sorts = options;
      sort.value = by;
      fill();
      const shown = pairs.length < matching ? `the first ${count(pairs.length)} of ` : "";
      const { album } = store;
      more.hidden = (store.saved && !album) || pairs.length >= matching;
      const kept = album ? [album.pairs.size < of && `${count(album.pairs.size)} pairs`, album.pictured < album.pairs.size && `the pictures of the ${count(album.pictured)}`].filter(Boolean) : [];
      const thinned = kept.length ? `; the page has ${kept.join(" and ")} with the largest recall gap` : "";
      say(note, matching ? `${shown}${count(matching)}${matching < of ? ` of ${count(of)}` : ""} pairs${thinned}` : "No caption has these words.");
    }
    sort.disabled = find.disabled = store.saved && !store.album;
    if (dirty.has("pairs") || dirty.has("tiles")) for (const item of items) drawTile(store, item.canvas, item.row);
    const opened = store.state ? store.state.opened : null;
    for (const item of items) {
      const on = item.row === opened;
      if (on && item.node.getAttribute("aria-selected") !== "true") reveal(list, item.node);
      put(item.node, { "aria-selected": String(on) });
    }
    put(list, { "aria-activedescendant": items.some((i) => i.row === opened) ? `${view.uid}-pair-${opened}` : null });
  }
  return { root, update, destroy: search.cancel };
}

/** Scroll the list alone, never the notebook. @param {HTMLElement} list @param {HTMLElement} node */
function reveal(list, node) {
  if (node.offsetTop < list.scrollTop) list.scrollTop = node.offsetTop;
  else if (node.offsetTop + node.offsetHeight > list.scrollTop + list.clientHeight) list.scrollTop = node.offsetTop + node.offsetHeight - list.clientHeight;
}

/** @param {number} value */
function signed(value) {
  return value === 0 ? "0" : `${value > 0 ? "+" : "−"}${Math.abs(value).toFixed(2).replace(/^0/, "")}`;
}

/** @param {View} view */
function pairHead(view) {
  const { store } = view;
  const canvas = el("canvas", { role: "img" });
  const words = el("p", { class: "mv-dv-caption" });
  const input = el("input", { type: "text", "aria-label": "Caption to look up", maxlength: 2000, onkeydown: keys });
  const go = el("button", { class: "mv-btn", type: "button", onclick: () => ask(input.value) }, "Look up");
  const edit = el("button", { class: "mv-btn mv-dv-edit", type: "button", onclick: begin }, "Edit the caption");
  const restore = el("button", { class: "mv-btn", type: "button", onclick: () => ask("") }, "Original caption");
  const hold = el("button", { class: "mv-btn mv-dv-hold", type: "button", title: "Rank all units by how much this pair loses without them", onclick: () => store.choose("score", "pair") }, "Find the units that hold this pair");
  const top = el("button", { class: "mv-btn mv-dv-top", type: "button", onclick: () => store.top(8) }, "Ablate the top 8");
  const form = el("div", { class: "mv-dv-form", hidden: true }, input, go);
  const note = el("p", { class: "mv-note" });
  const chips = el("p", { class: "mv-dv-chips" });
  const why = el("p", { class: "mv-note" });
  const root = el("div", { class: "mv-dv-pair" }, canvas, el("div", {}, words, form, note, chips, why, el("div", { class: "mv-dv-tools" }, edit, restore, hold, top)));

  function begin() {
    form.hidden = false;
    input.value = store.pair ? store.pair.caption : "";
    input.focus();
  }
  function ask(text) {
    form.hidden = true;
    store.ask({ type: "caption", text });
    edit.focus();
  }
  function keys(event) {
    if (event.key === "Enter") ask(input.value);
    else if (event.key === "Escape") {
      form.hidden = true;
      edit.focus();
    } else return;
    event.preventDefault();
  }
  function update() {
    const pair = store.pair;
    root.hidden = !pair;
    if (!pair) return;
    drawTile(store, canvas, pair.row);
    const names = pair.objects.map((o) => store.study.objects[o]);
    put(canvas, { "aria-label": `Picture of the pair: ${names.join(", ") || "no object"}` });
    words.replaceChildren("“", ...marked(pair.caption, new Set(pair.private), pair.edited ? "in no training caption" : "private word"), "”");
    say(note, pair.edited ? `edited: the model was never trained on this caption${pair.cut ? "; its end was cut, as it is longer than the model's context" : ""}${pair.private.length ? "; dotted: words in none of its training captions" : ""}` : pair.private.length ? "dotted: private words, found in hardly any other caption" : "");
    const said = ` ${pair.caption.toLowerCase().split(/[^\p{L}\p{N}]+/u).join(" ")} `;
    const named = (o) => (pair.edited ? said.includes(` ${store.study.objects[o].toLowerCase()} `) : pair.named.includes(o));
    chips.replaceChildren(...pair.objects.map((o) => el("span", {}, store.study.objects[o], named(o) ? el("small", {}, " in the caption") : null)));
    say(why, pair.objects.length ? `The caption is the only query. ✓ marks objects of this picture among the ${count(pair.k)} nearest public ones. What the reference model also finds did not have to be memorized.` : "This picture shows no object of a known class: nothing can be scored.");
    edit.hidden = restore.hidden = hold.hidden = top.hidden = store.saved;
    restore.hidden ||= !pair.edited;
    const score = store.score();
    top.hidden ||= !score || score.key !== "pair";
    top.disabled = !score || !score.order.length;
    const partial = score && score.order.length && score.done < score.total;
    say(top, `Ablate the top 8${partial ? ` of ${count(score.order.length)} so far` : ""}`);
    hold.hidden ||= pair.edited;
    put(hold, { "aria-pressed": String(Boolean(score && score.key === "pair")) });
  }
  return { root, update };
}

/** The caption's words, rare ones marked; text stays text. @param {string} caption @param {Set<string>} rare @param {string} title */
function marked(caption, rare, title) {
  return caption.split(/([\p{L}\p{N}]+)/u).map((part) => (rare.has(part.toLowerCase()) ? el("span", { class: "mv-dv-private", title }, part) : part));
}

/** @param {View} view */
function strip(view, which) {
  const { store } = view;
  const [name, about] = SIDES[which];
  const more = el("small", {}, about);
  const figures = el("span", { class: "mv-dv-figures" });
  const tiles = el("div", { class: "mv-dv-tiles", role: "list" });
  const root = el("section", { class: "mv-dv-strip", "aria-label": name }, el("div", { class: "mv-dv-head" }, el("h3", {}, name, " ", more), figures), tiles);
  const cells = [];

  function cell(i) {
    if (!cells[i]) {
      const canvas = el("canvas", { "aria-hidden": "true" });
      const mark = el("p", { class: "mv-dv-mark" });
      const objects = el("p", { class: "mv-dv-objects" });
      cells[i] = { node: el("div", { class: "mv-dv-tile", role: "listitem" }, canvas, mark, objects), canvas, mark, objects };
      tiles.append(cells[i].node);
    }
    return cells[i];
  }
  function change(pair, i) {
    if (!pair.units) return ["", ""];
    if (which === 0) return pair.lost[i] ? ["− drops out", "mv-lost"] : ["", ""];
    if (which === 2) return ["", ""];
    const from = pair.came[i];
    if (from < 0) return ["+ new", "mv-new"];
    return from === i ? ["", ""] : [`${from > i ? "↑" : "↓"} from ${ordinal(from + 1)}`, ""];
  }
  function update() {
    const pair = store.pair;
    const side = pair && pair.sides[which];
    root.hidden = !side || (which === 1 && !pair.units);
    if (root.hidden) return;
    if (which === 1) {
      const how = store.study.interventions.find((i) => i.key === store.state.intervention);
      root.querySelector("h3").firstChild.data = `Target model, ${count(pair.units)} unit${pair.units === 1 ? "" : "s"} off`;
      say(more, how ? how.label : "");
    } else if (which === 0) say(more, pair.edited ? "" : about);
    const figure = (x) => el("b", {}, x === null ? "–" : x === 1 ? "1.00" : x.toFixed(2).replace(/^0/, ""));
    const chance = which === 1 && store.chance && store.chance.version === pair.version && typeof store.chance.recall === "number" ? store.chance : null;
    figures.replaceChildren("precision ", figure(side.precision), "  recall ", figure(side.recall), chance ? el("span", { class: "mv-rnd" }, `  random ${count(chance.units)}: `, figure(chance.recall)) : "");
    side.pictures.forEach((number, i) => {
      const { node, canvas, mark, objects } = cell(i);
      const drawn = drawTile(store, canvas, number);
      const [words, state] = change(pair, i);
      node.className = `mv-dv-tile ${state}`;
      say(mark, drawn || !store.saved ? words : `${words} not in the page`.trim());
      objects.replaceChildren(...side.objects[i].map((o) => (pair.objects.includes(o)
        ? el("span", { class: "mv-dv-own" }, `✓ ${store.study.objects[o]}`) : el("span", {}, `· ${store.study.objects[o]}`))));
    });
    for (const { node } of cells.splice(side.pictures.length)) node.remove();
  }
  return { root, update };
}

/** @param {number} n */
function ordinal(n) {
  const last = n % 100 > 10 && n % 100 < 14 ? 0 : n % 10;
  return `${n}${["th", "st", "nd", "rd"][last] || "th"}`;
}

/** @param {View} view */
export function dejaVuRegion(view) {
  const { store } = view;
  const list = pairList(view);
  const head = pairHead(view);
  const strips = [0, 1, 2].map((which) => strip(view, which));
  const gaps = gapsColumn(view);
  const hint = el("p", { class: "mv-note" });
  const legend = el("p", { class: "mv-note" });
  const waiting = el("p", { class: "mv-empty" }, "Embedding captions and pictures …");
  const middle = el("div", { class: "mv-dv-middle" }, waiting, head.root, strips[0].root, strips[1].root, strips[2].root, hint, legend);
  const root = el("div", { class: "mv-dv" }, list.root, middle, gaps.root);
  /** @param {Set<string>} dirty */
  function update(dirty) {
    if (!store.study || !["study", "state", "pairs", "pair", "gaps", "chance", "tiles", "album", "scores", "readout", "theme", "size"].some((kind) => dirty.has(kind))) return;
    waiting.hidden = Boolean(store.pair);
    list.update(dirty);
    head.update();
    for (const one of strips) one.update();
    gaps.update();
    const pair = store.pair;
    hint.hidden = !pair || pair.units > 0 || store.fixed;
    say(hint, `Ablate ${store.saved ? "a unit" : "units"} below; what the caption then finds appears between the two models.`);
    legend.replaceChildren(el("b", { class: "mv-dv-own" }, "✓ name"), " also in the private picture · name: not in it. ", pair && pair.top ? `Only the ${count(pair.top)} objects that most of the ${count(pair.k)} neighbours show are counted.` : pair ? `Every object of the ${count(pair.k)} neighbours is counted.` : "");
    legend.hidden = !pair;
  }
  return { root, update, prompt: true, destroy: list.destroy };
}
