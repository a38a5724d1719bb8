// @ts-check
/** What it forgot and what that cost: accuracy before → after, with interval and null, and flips. */
import { capital, count, el, figure, put, say, share, svg } from "../../core/static/dom.js";
import { groupColour, groupMark, groupShape } from "../../core/static/palette.js";

const LEFT = 6;
const SPAN = 220;
const onAxis = (x) => LEFT + SPAN * Math.max(0, Math.min(1, x));
const real = (x) => typeof x === "number" && Number.isFinite(x);

/** @param {string} name */
export function groupRow(name) {
  const colour = groupColour(name);
  const n = el("span", { class: "mv-n" });
  const was = el("span", { class: "mv-before" });
  const now = el("span", { class: "mv-now" });
  const random = el("span", { class: "mv-rnd" });
  const margin = el("p", { class: "mv-note mv-margin" });
  const path = (attrs) => svg("path", attrs);
  const travel = path({ stroke: colour, "stroke-width": 1.5, opacity: 0.55 });
  const band = path({ stroke: colour, "stroke-width": 3.5, opacity: 0.35 });
  const hollow = svg("circle", { cy: 11, r: 4, fill: "var(--mv-paper)", stroke: colour, "stroke-width": 1.5 });
  const solid = svg("g", {}, groupShape(name, 0, name.toLowerCase() === "test" ? 11.6 : 11, 5));
  const nullBand = path({ stroke: "var(--mv-null)", "stroke-width": 3.5, opacity: 0.4 });
  const nullMark = path({ fill: "var(--mv-null)" });
  const axis = path({ d: `M${LEFT} 33h${SPAN}` + [0, 0.25, 0.5, 0.75, 1].map((t) => `M${onAxis(t)} 33v3`).join(""), stroke: "var(--mv-line)", fill: "none" });
  const labels = [[0, "0", "start"], [0.5, ".5", "middle"], [1, "1", "end"]].map(([t, text, anchor]) =>
    svg("text", { class: "mv-axis", x: onAxis(Number(t)), y: 47, "text-anchor": anchor }, String(text)));
  const chart = svg("svg", { viewBox: "0 0 232 38", width: 232, height: 38, role: "img" }, axis, travel, band, nullBand, nullMark, hollow, solid, ...labels);
  const node = el("div", { class: "mv-acc", "data-group": name },
    el("div", { class: "mv-lab" }, groupMark(name), el("b", { title: name }, capital(name)), n),
    el("div", { class: "mv-big" }, was, el("span", { class: "mv-arr" }, "→"), now, random), chart, margin);

  function show(group, chance, units) {
    const { before, after } = group;
    say(n, `${count(after.correct)} of ${count(group.n)}`);
    say(was, share(before.accuracy));
    say(now, `${group.guess ? "≈ " : ""}${share(after.accuracy)}`);
    node.classList.toggle("mv-guess", Boolean(group.guess));
    const a = onAxis(before.accuracy);
    const b = onAxis(after.accuracy);
    put(travel, { d: `M${a} 11H${b}` });
    put(band, { d: real(after.low) ? `M${onAxis(after.low)} 11H${onAxis(after.high)}` : "M0 0" });
    put(hollow, { cx: a });
    put(solid, { transform: `translate(${b} 0)` });
    const known = chance && real(chance.accuracy);
    say(random, units ? `random ${count(units)}: ${known ? share(chance.accuracy) : "…"}` : "");
    const c = known ? onAxis(chance.accuracy) : 0;
    put(nullMark, { d: known ? `M${c} 20.5l4.5 4.5-4.5 4.5-4.5-4.5z` : "M0 0" });
    put(nullBand, { d: known && real(chance.low) ? `M${onAxis(chance.low)} 25H${onAxis(chance.high)}` : "M0 0" });
    put(chart, { "aria-label": `${name} accuracy ${share(before.accuracy)} to ${group.guess ? "about " : ""}${share(after.accuracy)}${known ? `, random units ${share(chance.accuracy)}` : ""}` });
    say(margin, real(after.margin) ? `margin ${figure(before.margin)} → ${group.guess ? "≈ " : ""}${figure(after.margin)}${real(after.margin_low) ? ` (${figure(after.margin_low)} to ${figure(after.margin_high)})` : ""}` : "");
  }
  return { node, show };
}

/** @param {View} view */
export function readoutColumn(view) {
  const { store } = view;
  const rows = el("div", { class: "mv-rows" });
  const body = el("tbody");
  const how = el("p", { class: "mv-note" });
  const chance = el("p", { class: "mv-note" });
  const chanceMark = svg("svg", { class: "mv-mark", viewBox: "0 0 9 9", "aria-hidden": "true" }, svg("path", { d: "M4.5 0l4.5 4.5-4.5 4.5-4.5-4.5z", fill: "var(--mv-null)" }));
  const chanceWords = el("span");
  chance.append(chanceMark, " ", chanceWords);
  const truth = el("p", { class: "mv-note" });
  const flips = el("div", { class: "mv-flips" }, el("div", {}, el("h3", {}, "Flips ", el("small", {}, "predictions that changed sides")),
    el("table", {}, el("thead", {}, el("tr", {}, el("td"), el("th", { scope: "col" }, "right → wrong"), el("th", { scope: "col" }, "wrong → right"))), body)),
    el("div", { class: "mv-notes" }, how, chance, truth));
  const waiting = el("p", { class: "mv-empty" }, "No figures yet.");
  const head = el("h3", {}, "Accuracy ", el("small", {}, "○ before → after, with interval"));
  const root = el("section", { class: "mv-read", "aria-label": "Accuracy before and after" }, head, waiting, rows, flips);
  let known = "";
  let parts = [];

  function build(groups) {
    parts = groups.map((g) => {
      const cells = [el("td"), el("td")];
      const row = el("tr", {}, el("th", { scope: "row", title: g.name }, capital(g.name)), ...cells);
      return { ...groupRow(g.name), cells, row };
    });
    rows.replaceChildren(...parts.map((p) => p.node));
    body.replaceChildren(...parts.map((p) => p.row));
  }

  /** @param {Set<string>} dirty */
  function update(dirty) {
    const frame = store.frame;
    const r = frame || store.readout;
    waiting.hidden = Boolean(r);
    rows.hidden = flips.hidden = !r;
    if (!r || !["study", "readout", "ahead", "random"].some((kind) => dirty.has(kind))) return;
    const names = r.groups.map((g) => g.name).join("\n");
    if (known !== names) build(r.groups);
    known = names;
    const random = frame ? null : store.random;
    r.groups.forEach((whole, i) => {
      const ahead = store.ahead && store.ahead.groups.find((g) => g.name === whole.name);
      const group = ahead || whole;
      // What is not answered yet still shows the set before: dimmed, so that nobody reads it as new.
      const stale = Boolean(!frame && store.ahead && !ahead);
      parts[i].node.classList.toggle("mv-stale", stale);
      parts[i].row.classList.toggle("mv-stale", stale);
      parts[i].show(group, random && random.groups.find((g) => g.name === group.name), random ? (random.draws ? random.units : 0) : store.saved ? 0 : r.units);
      const about = group.guess ? "≈ " : "";
      say(parts[i].cells[0], `${about}${count(group.right_to_wrong)}`);
      say(parts[i].cells[1], `${about}${count(group.wrong_to_right)}`);
    });
    const added = frame && frame.guess ? `≈ single effects added up: an estimate${store.saved ? `. ${store.adding}` : " until the exact figures are here."}` : "";
    say(how, added || (r.units ? `${count(r.units)} of ${count(r.of)} units off: ${r.intervention_words}.` : "All units are on."));
    chance.hidden = !r.units;
    say(chanceWords, random ? sentence(random.words || `${count(random.units)} random units of the same layers`, random) : `random units of the same layers: ${store.saved ? "they need a running kernel." : "drawing …"}`);
    const now = r.groups.filter((g) => g.now_true > 0 && g.right_to_wrong > 0);
    say(truth, now.map((g) => `${count(g.now_true)} of the ${count(g.right_to_wrong)} ${g.name} examples that turned wrong now get their true label.`).join(" "));
  }
  return { root, update, prompt: true };
}

/** Python's words, with the draws so far unless it names them itself. @param {string} words @param {RandomUnits} random */
function sentence(words, random) {
  const draws = /draw/.test(words) || !random.draws ? "" : `, ${count(random.draws)}${random.draws < random.of ? ` of ${count(random.of)}` : ""} draws`;
  return `${words.replace(/\.$/, "")}${draws}.`;
}
