// @ts-check
/** A saved page opens, sorts and finds pairs by itself: all of them came with it. */
import { presentTables } from "./alone.js";

const MORE = 200; // pairs listed at first, and added at a time

/** @param {Store} store @param {any} msg @param {any} values of each order, by pair */
export function keepAlbum(store, msg, values) {
  const pairs = new Map(msg.pairs.map((pair) => [pair.row, pair]));
  const opened = store.pair && !store.pair.edited && pairs.has(store.pair.row) ? store.pair : null; // the newest one told may not be among them
  if (opened) pairs.set(opened.row, opened); // with what random units do to it
  store.album = { pairs, values, pictured: msg.pictured, sentence: msg.sentence, told: store.sentence, first: opened ? opened.row : null };
  if (store.pairs) listAlone(store, store.pairs.sort, store.pairs.find, false); // the kernel's list also has pairs that the page lacks
}

/** @param {Store} store @param {number} row */
export function openAlone(store, row) {
  Object.assign(store.state, { opened: row });
  store.note = "";
  present(store);
  store.emit("state", "pair", "readout");
}

/** Show the opened pair and the figures as they are with the units off that are off. @param {Store} store */
export function present(store) {
  if (!store.album) return;
  const { pairs, first, told, sentence } = store.album;
  const pair = pairs.get(store.state.opened);
  if (store.tables) presentTables(store, pair);
  if (store.tables && store.state.units !== store.tables.home.units) return;
  Object.assign(store, { pair, sentence: pair && pair.row !== first ? sentence : told });
}

/** As the kernel lists them. @param {Store} store @param {string} sort @param {string} find @param {boolean} more */
export function listAlone(store, sort, find, more) {
  const { pairs, values } = store.album;
  const [measure, low] = sort.split(" ");
  const by = values[measure];
  const words = find.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = [...pairs.keys()].sort((a, b) => (low ? by[a] - by[b] : by[b] - by[a]) || a - b);
  const matching = rows.filter((row) => words.every((word) => pairs.get(row).caption.toLowerCase().includes(word)));
  const most = more ? store.pairs.pairs.length + MORE : MORE;
  const listed = matching.slice(0, most).map((row) => ({ row, caption: pairs.get(row).caption, value: by[row] }));
  store.pairs = { ...store.pairs, sort, find, matching: matching.length, pairs: listed };
  store.emit("pairs");
}
