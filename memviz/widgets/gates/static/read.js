// @ts-check
/** Hard accuracy before and after, vote margins, random live gates, and what the marks mean. */
import { capital, count, el, say, svg } from "../../core/static/dom.js";
import { groupMark } from "../../core/static/palette.js";
import { groupRow } from "../../workbench/static/readout.js";

/** A margin is a whole number, or lies half-way between two. @param {any} x */
function marginWords(x) {
  return typeof x === "number" ? String(Number(x.toFixed(1))).replace("-", "−") : "…";
}

/** @param {View} view */
export function gateReadout(view) {
  const { store } = view;
  const rows = el("div", { class: "mv-rows" });
  const body = el("tbody");
  const set = el("th", { scope: "col" });
  const small = el("small");
  const chance = el("p", { class: "mv-note" });
  const truth = el("p", { class: "mv-note" });
  const nullMark = svg("svg", { class: "mv-mark", viewBox: "0 0 9 9", "aria-hidden": "true" }, svg("path", { d: "M4.5 0l4.5 4.5-4.5 4.5-4.5-4.5z", fill: "var(--mv-null)" }));
  const margins = el("div", { class: "mv-flips" }, el("div", {}, el("h3", {}, "Vote margin ", small), el("table", {}, el("thead", {}, el("tr", {}, el("td"), el("th", { scope: "col" }, "before"), set, el("th", { scope: "col" }, "random"))), body)), el("div", { class: "mv-notes" }, chance, truth));
  const root = el("section", { class: "mv-read mv-gt-read", "aria-label": "Hard accuracy and vote margins" }, el("h3", {}, "Hard accuracy ", el("small", {}, "○ before → after")), rows, margins, gateMarks());
  let known = "";
  let parts = [];

  function build(groups) {
    parts = groups.map((group) => {
      const cells = [el("td"), el("td"), el("td")];
      return { ...groupRow(group.name), cells, row: el("tr", {}, el("th", { scope: "row", title: group.name }, groupMark(group.name), " ", capital(group.name)), ...cells) };
    });
    rows.replaceChildren(...parts.map((part) => part.node));
    body.replaceChildren(...parts.map((part) => part.row));
  }

  function update(dirty) {
    const found = store.readout;
    rows.hidden = margins.hidden = !found;
    if (!found || !store.circuit || !["study", "gates", "readout", "random"].some((kind) => dirty.has(kind))) return;
    const names = found.groups.map((group) => group.name).join("\n");
    if (known !== names) build(found.groups);
    known = names;
    const random = store.random;
    say(small, `median, of ${count(store.circuit.votes)}`);
    say(set, found.units ? `${count(found.units)} set` : "now");
    const bare = (reading) => ({ ...reading, margin: null });
    found.groups.forEach((group, i) => {
      const drawn = random && random.groups.find((other) => other.name === group.name);
      parts[i].show({ ...group, before: bare(group.before), after: bare(group.after) }, drawn, random ? (random.draws ? random.units : 0) : found.units);
      [group.before.margin, group.after.margin, drawn ? drawn.margin : found.units ? null : undefined].forEach((value, k) => say(parts[i].cells[k], value === undefined ? "" : marginWords(value)));
    });
    chance.hidden = !found.units;
    chance.replaceChildren(nullMark, ` ${random ? random.words : "random live gates: drawing …"}`);
    say(truth, found.truly);
  }
  return { root, update, prompt: true };
}

/** The marks of the map; the second path of a mark is dashed. */
function gateMarks() {
  /** @type {[string[], string][]} */
  const rows = [
    [["M2 2h13v13h-13zM5.5 5l6 6M11.5 5l-6 6M3.5 13h10"], "set; its score is the foot"],
    [["M8.5 8v1", "M2 2h13v13h-13z"], "dead: nothing reads it"],
    [["M1 5h15", "M1 12h15"], "wire in, wire out"],
  ];
  const mark = (paths) => svg("svg", { width: 17, height: 17, viewBox: "0 0 17 17", "aria-hidden": "true" }, ...paths.map((d, k) => svg("path", { d, fill: "none", stroke: "var(--mv-ink)", "stroke-width": 1.4, "stroke-dasharray": k && "3 2" })));
  return el("ul", { class: "mv-marks mv-gt-marks" }, ...rows.map(([paths, words]) => el("li", {}, mark(paths), words)));
}
