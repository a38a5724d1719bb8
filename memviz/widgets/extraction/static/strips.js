// @ts-check
/** Where the passage breaks: a strip of its tokens before, with units off, and with random ones. */
import { count, el, put, say, svg } from "../../core/static/dom.js";

const STRIP = 244;

/** @param {string} name */
function stripOf(name) {
  const [label, end] = [el("span", {}, name), el("span")];
  const chart = svg("svg", { viewBox: `0 0 ${STRIP} 14`, width: STRIP, height: 14, role: "img" });
  const root = el("div", { class: "mv-ex-strip", "data-strip": name }, el("div", {}, label, end), chart);

  /** Shares that are right, from 0 to 1; the first wrong one where it is known. */
  function show(right, matched, words, colour) {
    const n = right.length;
    const pitch = Math.min(12, STRIP / Math.max(1, n));
    const w = Math.max(1, pitch - Math.min(1.4, pitch / 4));
    const marks = Array.from(right, (share, i) => {
      const x = i * pitch;
      if (i === matched) {
        const [a, b] = [x + w * 0.22, x + w * 0.78];
        return [svg("rect", { x: x - 0.4, y: 1.2, width: w + 0.8, height: 11.6, rx: 1.5, fill: "var(--mv-paper)", stroke: "var(--mv-ink)", "stroke-width": 1.3 }),
          svg("path", { d: `M${a} 4.8L${b} 9.2M${b} 4.8L${a} 9.2`, stroke: "var(--mv-ink)", "stroke-width": 1.4 })];
      }
      const late = matched !== null && i > matched;
      if (late) return [svg("rect", { x: x + 0.5, y: 2.5, width: Math.max(0.5, w - 1), height: 9, rx: 1.5, fill: share ? "var(--mv-s3)" : "none", stroke: "var(--mv-line)" })];
      return [svg("rect", { x, y: 2, width: w, height: 10, rx: 1.5, fill: colour, opacity: 0.15 + 0.85 * share })];
    });
    chart.replaceChildren(...marks.flat());
    say(end, words);
    end.classList.toggle("mv-bold", matched !== null && matched < n);
    put(chart, { "aria-label": `${label.textContent}: ${words}` });
  }
  return { root, label, show };
}

/** @param {View} view */
export function breaks(view) {
  const { store } = view;
  const about = el("small");
  const rows = ["before", "off", "random"].map(stripOf);
  const [before, off, random] = rows;
  const root = el("div", { class: "mv-ex-break" }, el("h3", {}, "Where it breaks ", about), ...rows.map((r) => r.root));

  function update() {
    const { passage: p, nulls } = store.extraction;
    root.hidden = !p;
    if (!p) return;
    const n = p.true.length;
    const end = (matched) => (matched >= n ? "whole" : `first wrong at ${matched + 1}`);
    say(about, `${count(n)} tokens, ${p.sample === null ? "greedy" : "sampled"}`);
    before.show(p.rightBefore, p.matchedBefore, end(p.matchedBefore), "var(--mv-s7)");
    off.root.hidden = !p.units;
    say(off.label, `${count(p.units)} off`);
    off.show(p.rightAfter, p.matchedAfter, end(p.matchedAfter), "var(--mv-s7)");
    const drawn = nulls && nulls.row === p.row && nulls.version === p.version ? nulls : null;
    random.root.hidden = !p.units;
    say(random.label, `random ${count(drawn ? drawn.units : p.units)}`);
    if (drawn && drawn.draws) random.show(drawn.right, null, `whole in ${count(drawn.whole)} of ${count(drawn.draws)} draws`, "var(--mv-null)");
    else random.show([], null, nulls && !nulls.draws ? "none to draw" : "drawing …", "var(--mv-null)");
  }
  return { root, update };
}
