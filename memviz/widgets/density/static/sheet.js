// @ts-check
/** The sheet of images: sorted by M or another measure; only the visible rows are in the page. */
import { count, el, put, say } from "../../core/static/dom.js";
import { groupMark } from "../../core/static/palette.js";
import { columnOf, nats, shortNats, valuesNow } from "./words.js";

const SHEET_COLUMNS = 4;
const SHEET_GUTTER = 8; // px between tiles
const SHEET_FOOT = 34; // px under each picture: the value, the bar and the gap
const SHEET_ROWS = 7; // visible at once

/** By key: words, measure of an image, what the tile says, and 1 where the largest comes first. @type {[string, string, (store: Store, i: number, c: number) => number, (x: number) => string, number][]} */
const SHEET_SORTS = [
  ["m", "largest M first", (store, _, c) => (c < 0 ? NaN : valuesNow(store).m[c]), shortNats, 1],
  ["less", "smallest M first", (store, _, c) => (c < 0 ? NaN : valuesNow(store).m[c]), shortNats, -1],
  ["log_p", "log p, smallest first", (store, _, c) => (c < 0 ? NaN : valuesNow(store).inside[c]), shortNats, -1],
  ["ratio", "nearest-neighbour ratio", (store, _, c) => (c < 0 || !store.densityRatios ? NaN : store.densityRatios.ratio[c]), (x) => x.toFixed(2).replace(/^0/, ""), 1],
  ["group", "by group", (store, i) => store.group[i], () => "", -1],
  ["index", "in order", (_, i) => i, (x) => count(x), -1],
];

/** @param {View} view */
export function imageSheet(view) {
  const { store } = view;
  const sort = el("select", { class: "mv-dn-sort", "aria-label": "Sort images by", onchange: () => rearrange(true) }, ...SHEET_SORTS.map(([key, words]) => el("option", { value: key }, words)));
  const find = el("input", { class: "mv-find", type: "search", placeholder: "number or group", "aria-label": "Find an image by number or group", oninput: () => rearrange(true) });
  const space = el("div", { class: "mv-space", role: "listbox", "aria-label": "Images" });
  const scroller = el("div", { class: "mv-dn-tiles", onscroll: fillRows, onkeydown: keys }, space);
  const small = el("small");
  const words = el("span");
  const key = el("span", { class: "mv-dn-key" });
  const note = el("p", { class: "mv-note" }, words, " ", key);
  const root = el("section", { class: "mv-dn-list", "aria-label": "Image sheet" }, el("h3", {}, "Images ", small),
    el("label", { class: "mv-field" }, "Sort", el("span", { class: "mv-pick" }, sort)), el("div", { class: "mv-findbox" }, find), scroller, note);
  const tiles = new Map(); // position in `order` → tile
  let order = [];
  let active = 0;
  let rowHeight = 86;
  let largest = 1;

  const chosen = () => SHEET_SORTS.find(([key]) => key === sort.value) || SHEET_SORTS[0];
  const measure = (i) => chosen()[2](store, i, columnOf(store, i));

  /** @param {boolean} [anew] whether the user asked for another order */
  function rearrange(anew = false) {
    if (!store.density || !valuesNow(store)) return;
    const wanted = find.value.trim().toLowerCase();
    const held = order[active];
    const [by, , , , sign] = chosen();
    const kept = [];
    for (let i = 0; i < store.study.examples; i++) {
      const covered = columnOf(store, i) >= 0;
      if (!covered && by !== "group" && by !== "index" && !wanted) continue;
      if (wanted && String(i) !== wanted.replace(/,/g, "") && !store.groupName(i).toLowerCase().includes(wanted)) continue;
      kept.push([measure(i), i]);
    }
    const known = kept.filter(([x]) => !Number.isNaN(x)); // what has no value comes last
    const none = kept.filter(([x]) => Number.isNaN(x));
    known.sort((a, b) => (a[0] === b[0] ? a[1] - b[1] : sign * (b[0] > a[0] ? 1 : -1)));
    order = [...known, ...none].map(([, i]) => i);
    largest = kept.reduce((most, [x]) => (Number.isFinite(x) && Math.abs(x) > most ? Math.abs(x) : most), 1e-9);
    if (anew) scroller.scrollTop = 0;
    active = anew ? 0 : Math.max(0, order.indexOf(held));
    say(small, `${count(store.density.examples.length)}, M in nats`);
    say(words, order.length ? `${count(order.length)} of ${count(store.study.examples)}. ${legend()}` : "No image has this number or group.");
    key.replaceChildren(...store.study.groups.flatMap((group) => [groupMark(group.name), ` ${group.name}  `]));
    layOut();
  }

  function legend() {
    const [by] = chosen();
    if (by === "ratio" && !store.densityRatios) return "The neighbours are still looked for, or can't be.";
    if (by === "ratio") return "Above 1: nearer to a generated image than to a held-out one.";
    return by === "log_p" ? "Log of the mean density over trainings that had the image." : "";
  }

  function layOut() {
    const width = space.clientWidth;
    if (!width || !store.study) return;
    const tile = (width - SHEET_GUTTER * (SHEET_COLUMNS - 1)) / SHEET_COLUMNS;
    const picture = Math.round(tile * Math.min(1.5, store.study.image.height / store.study.image.width));
    rowHeight = picture + SHEET_FOOT;
    space.style.height = `${Math.ceil(order.length / SHEET_COLUMNS) * rowHeight}px`;
    scroller.style.height = `${SHEET_ROWS * rowHeight + 4}px`;
    root.style.setProperty("--mv-tile", `${tile}px`);
    root.style.setProperty("--mv-pic", `${picture}px`);
    fillRows();
  }

  function fillRows() {
    if (!store.density || !space.clientWidth) return;
    const first = Math.max(0, Math.floor(scroller.scrollTop / rowHeight) - 1);
    const rows = new Set([Math.floor(active / SHEET_COLUMNS), ...Array.from({ length: SHEET_ROWS + 3 }, (_, i) => first + i)]); // the tab stop stays in the page
    const wanted = new Set();
    for (const r of rows) for (let p = r * SHEET_COLUMNS; p < Math.min(order.length, (r + 1) * SHEET_COLUMNS); p++) wanted.add(p);
    for (const [p, tile] of tiles) {
      if (wanted.has(p)) continue;
      tile.node.remove();
      tiles.delete(p);
    }
    for (const p of [...wanted].sort((a, b) => a - b)) {
      if (!tiles.has(p)) {
        tiles.set(p, makeTile());
        space.append(tiles.get(p).node);
      }
      const tile = tiles.get(p);
      tile.node.style.transform = `translate(${(p % SHEET_COLUMNS) * 100}%, ${Math.floor(p / SHEET_COLUMNS) * rowHeight}px) translateX(${(p % SHEET_COLUMNS) * SHEET_GUTTER}px)`;
      tile.show(order[p], p);
    }
  }

  function makeTile() {
    const canvas = el("canvas", { "aria-hidden": "true" });
    const value = el("b");
    const mark = el("span");
    const times = el("small");
    const bar = el("i");
    const node = el("div", { class: "mv-tile mv-dn-tile", role: "option" }, el("div", { class: "mv-picbox" }, canvas), el("div", { class: "mv-dn-value" }, value, times, mark), el("div", { class: "mv-dn-bar" }, bar));
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
      const x = measure(i);
      const column = columnOf(store, i);
      const group = store.groupName(i);
      say(value, Number.isNaN(x) ? "–" : chosen()[3](x));
      bar.style.width = `${Number.isNaN(x) || ["group", "index"].includes(chosen()[0]) ? 0 : Math.min(100, (100 * Math.abs(x)) / largest)}%`;
      bar.classList.toggle("mv-under", x < 0);
      if (marked !== group) mark.replaceChildren(group ? groupMark(group) : "");
      marked = group;
      const seen = column < 0 ? 1 : store.density.times[column];
      say(times, seen > 1 ? `×${count(seen)}` : "");
      const now = valuesNow(store);
      const words = [`image ${count(i)}`, column < 0 ? "held out" : `M ${nats(now ? now.m[column] : NaN)} nats`, seen > 1 ? `${count(seen)} times in training` : "", group].filter(Boolean).join(", ");
      put(node, { "data-example": i, "aria-label": words, title: words, "aria-selected": String(Boolean(store.state) && store.state.opened === i), tabindex: position === active ? 0 : -1, "aria-setsize": order.length, "aria-posinset": position + 1 });
      const want = `${i} ${view.palette.key}`;
      if (drawn !== want) drawn = view.picture(canvas, i) ? want : "";
    }
    return { node, show };
  }

  function open(i) {
    if (!store.saved) store.choose("open", i);
  }

  function keys(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: SHEET_COLUMNS, ArrowUp: -SHEET_COLUMNS, PageDown: SHEET_ROWS * SHEET_COLUMNS, PageUp: -SHEET_ROWS * SHEET_COLUMNS, Home: -order.length, End: order.length }[event.key];
    if (step !== undefined) {
      const to = active + step;
      active = Math.abs(step) === SHEET_COLUMNS && (to < 0 || to >= order.length) ? active : Math.max(0, Math.min(order.length - 1, to));
      const top = Math.floor(active / SHEET_COLUMNS) * rowHeight;
      if (top < scroller.scrollTop) scroller.scrollTop = top;
      else if (top + rowHeight > scroller.scrollTop + scroller.clientHeight) scroller.scrollTop = top + rowHeight - scroller.clientHeight;
      fillRows();
      const tile = tiles.get(active);
      if (tile) tile.node.focus({ preventScroll: true });
    } else if ((event.key === "Enter" || event.key === " ") && order.length) open(order[active]);
    else return;
    event.preventDefault();
  }

  /** @param {Set<string>} dirty */
  function update(dirty) {
    if (!store.density || !store.label) return;
    const slice = dirty.has("density_values") && !order.length;
    const ranked = dirty.has("density_ratios") && sort.value === "ratio";
    if (slice || ranked || ["study", "density", "density_at"].some((kind) => dirty.has(kind))) rearrange();
    else if (dirty.has("size")) layOut();
    else if (["sprites", "state", "theme"].some((kind) => dirty.has(kind))) fillRows();
  }
  return { root, watch: scroller, update };
}
