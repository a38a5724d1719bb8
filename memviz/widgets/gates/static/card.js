// @ts-check
/** The chosen gate: its truth table, how often each pair of bits is read, and what it can be set to. */
import { capital, count, el, say, segment } from "../../core/static/dom.js";
import { groupMark } from "../../core/static/palette.js";
import { GATE_SETTINGS, fixGate, gateName, numberNow, settingOf } from "./words.js";

const SHOWN = 3; // groups

/** @param {View} view */
export function gateCard(view) {
  const { store } = view;
  const [name, rank, what, weight] = [el("span"), el("small"), el("b"), el("span", { class: "mv-soft" })];
  const [head, body, note] = [el("tr"), el("tbody"), el("p", { class: "mv-note" })];
  const set = segment("mv-gt-set", "Set the gate to", (key) => fixGate(store, store.gateAt, key));
  const full = el("div", {}, el("h3", {}, name, " ", rank), el("p", { class: "mv-gt-what" }, what, " ", weight),
    el("table", {}, el("thead", {}, head), body), note, el("span", { class: "mv-field" }, "Set it to ", set.root));
  const empty = el("p", { class: "mv-empty" }, "Choose a gate to see what it reads and what it does.");
  const root = el("section", { class: "mv-gt-card", "aria-label": "The chosen gate" }, empty, full);
  const square = (value) => el("td", {}, el("span", { class: value ? "mv-gt-bit mv-on" : "mv-gt-bit" }, value));

  function update() {
    const { circuit, gateTrace: trace, gateAt: row } = store;
    const chosen = row !== null && Boolean(circuit && store.state);
    empty.hidden = chosen;
    full.hidden = !chosen;
    if (!chosen) return;
    const card = store.gateCard && store.gateCard.row === row ? store.gateCard : null;
    const [score, setting, live] = [store.score(), settingOf(store, row), Boolean(circuit.live[row])];
    say(name, capital(gateName(store, row)).replace(" gate ", " · gate "));
    say(rank, !live ? "dead" : score && score.rank[row] ? `rank ${count(score.rank[row])} of ${count(score.order.length)} live` : "");
    say(what, circuit.names[circuit.number[row]]);
    say(weight, `soft weight ${circuit.weight[row].toFixed(2).replace(/^0/, "")}${setting ? `, set to ${setting.label}` : ""}`);
    const tree = trace && trace.row === row ? trace.tree : null;
    const pair = tree ? 2 * tree.reads[0].bit + tree.reads[1].bit : -1;
    const groups = store.study.groups.slice(0, SHOWN).filter((group) => !card || card.shares[group.name]);
    head.replaceChildren(...["a", "b", "out"].map((word) => el("th", { scope: "col" }, word)), ...groups.map((group) => el("th", { scope: "col", title: group.name }, groupMark(group.name), group.name)));
    const number = numberNow(store, row);
    body.replaceChildren(...[0, 1, 2, 3].map((k) => el("tr", { class: k === pair && "mv-now", "aria-current": k === pair && "true" }, ...[k >> 1, k & 1, (number >> (3 - k)) & 1].map(square), ...groups.map((group) => shareCell(card ? card.shares[group.name] : null, k)))));
    say(note, live ? `${pair >= 0 ? "Ruled row: the traced example. " : ""}${card ? card.alone[setting ? setting.key : store.state.score] : ""}` : "Dead: nothing reads it, so taking it out changes nothing.");
    set.show([{ key: "", label: "itself" }, ...GATE_SETTINGS], setting ? setting.key : "", store.saved || !live);
  }
  return { root, update, prompt: true };
}

/** @param {number[] | null} shares @param {number} k */
function shareCell(shares, k) {
  if (!shares) return el("td", {}, "…");
  const words = `${shares[k] > 0 && shares[k] < 0.005 ? "< 1" : Math.round(100 * shares[k])} %`;
  return el("td", {}, shares[k] === Math.max(...shares) ? el("b", {}, words) : words);
}
