// @ts-check
/** The opened example: the image, why before and after, and the probability of each class. */
import { el, icon, put, say, share, svg } from "../../core/static/dom.js";
import { groupMark } from "../../core/static/palette.js";
import { UNKNOWN } from "../../core/static/store.js";
import { drawAttribution, drawImage } from "../../core/static/pictures.js";

const CLASSES = 12;

/** @param {View} view */
export function openedExample(view, closed) {
  const { store } = view;
  const mark = el("span", { class: "mv-markbox" });
  const name = el("b");
  const about = el("small");
  const close = el("button", { class: "mv-close", type: "button", "aria-label": "Close this example", title: "Close (Esc)", onclick: shut }, icon("close"));
  /** @param {"confirmed" | "rejected"} key */
  const judge = (key, words, letter) => el("button", { class: "mv-filter", type: "button", "data-mark": key, title: `${words} (${letter} in the gallery)`, onclick: () => store.mark(shown, key) }, words);
  const verdicts = { confirmed: judge("confirmed", "Memorized", "c"), rejected: judge("rejected", "Not memorized", "r") };
  const verdict = el("div", { class: "mv-chips mv-verdict", role: "group", "aria-label": "Is this example memorized?" }, verdicts.confirmed, verdicts.rejected);
  const frame = (words) => {
    const canvas = el("canvas", { role: "img" });
    const caption = el("figcaption", {}, words);
    return { canvas, caption, node: el("figure", {}, el("div", { class: "mv-frame" }, canvas), caption) };
  };
  const image = frame("the image");
  const before = frame("");
  const after = frame("");
  const method = el("select", { class: "mv-method", "aria-label": "Attribution method", onchange: () => store.choose("method", method.value) });
  const swatch = (sign) => el("i", { class: sign === "+" ? "mv-for" : "mv-against", "aria-hidden": "true" }, sign);
  const forWords = el("span");
  const againstWords = el("span");
  const words = el("p", { class: "mv-note mv-cut" });
  const why = el("div", { class: "mv-why mv-note" }, swatch("+"), forWords, swatch("−"), againstWords, el("span", { class: "mv-pick mv-quiet" }, method), el("span", {}, "same scale"));
  const chart = el("div", { class: "mv-probs" });
  const odds = el("div", {}, el("h3", {}, "Probability of each class ", el("small", {}, "○ before  ● after")), chart);
  const root = el("section", { class: "mv-open", "aria-label": "Opened example", hidden: true, onkeydown: keys },
    el("div", { class: "mv-openhead" }, el("h3", {}, mark, name, " ", about), close), verdict, el("div", { class: "mv-trio" }, image.node, before.node, after.node), why, words, odds);
  let study = null;
  let shown = null;

  function shut() {
    store.choose("open", null);
    closed();
  }

  function keys(event) {
    if (event.key !== "Escape") return;
    event.preventDefault();
    shut();
  }

  function heading(i) {
    const given = store.className(store.label[i]);
    const truth = store.truth && store.truth[i] !== UNKNOWN && store.truth[i] !== store.label[i] ? `, true label ${store.className(store.truth[i])}` : "";
    const was = store.before && store.className(store.before[i]);
    const now = store.after && store.className(store.after[i]);
    const said = was === null ? "" : was === now ? ` · predicted ${now}` : ` · predicted ${was}, now ${now}`;
    mark.replaceChildren(store.groupName(i) ? groupMark(store.groupName(i)) : "");
    say(name, `Example ${i}`);
    say(about, `given ${given}${truth}${said}`);
  }

  function explain(example) {
    const target = example && example.target !== undefined && example.target !== null ? example.target : store.label[store.state.opened];
    const whom = typeof target === "number" ? store.className(target) : String(target);
    say(before.caption, `why ${whom}: before`);
    say(after.caption, `why ${whom}: after`);
    say(forWords, `for ${whom}`);
    say(againstWords, `against ${whom}`);
    why.hidden = !study.methods.length || (store.saved && !example);
    for (const { part, key } of [{ part: before, key: "attr_before" }, { part: after, key: "attr_after" }]) {
      part.node.hidden = why.hidden;
      part.node.classList.toggle("mv-waiting", !(example && example[key]));
      put(part.canvas, { "aria-label": part.caption.textContent });
      if (!example || !example[key]) continue;
      const spec = example.arrays.find((a) => a.name === key);
      drawAttribution(part.canvas, example[key], spec.shape, example.largest, view.palette, part.canvas.parentElement.clientWidth || 108);
    }
  }

  /** @param {Set<string>} dirty */
  function update(dirty) {
    const i = store.study && store.state ? store.state.opened : null;
    root.hidden = i === null || i === undefined || i >= store.study.examples;
    if (root.hidden) {
      shown = null;
      return;
    }
    if (study !== store.study) {
      study = store.study;
      method.replaceChildren(...study.methods.map((m) => el("option", { value: m.key }, m.label)));
    }
    method.value = store.state.method;
    for (const [key, button] of Object.entries(verdicts)) {
      put(button, { "aria-pressed": String(store.marks.get(i) === key) });
      button.disabled = store.saved;
    }
    for (const option of method.options) option.disabled = store.saved && !store.examples.has(`${i} ${option.value}`);
    if (shown === i && !["study", "readout", "example", "theme", "size", "sprites", "state"].some((kind) => dirty.has(kind))) return;
    const saved = store.example();
    // What a saved page says of the example after is about the units that were off then.
    const example = saved && store.saved && store.frame ? { ...saved, attr_after: undefined, prob_after: undefined } : saved;
    if (example && example.largest === undefined) example.largest = largest(example.attr_before, example.attr_after);
    heading(i);
    const spec = example && example.arrays.find((a) => a.name === "image");
    if (spec && example.image) drawImage(image.canvas, example.image, spec.shape, study.image.ink, view.palette);
    else view.picture(image.canvas, i);
    put(image.canvas, { "aria-label": `example ${i}` });
    explain(example);
    say(words, example ? example.words || "" : store.saved ? "Why it is predicted so needs a running kernel." : "");
    words.title = words.textContent;
    odds.hidden = !(example && example.prob_before);
    if (!odds.hidden) chart.replaceChildren(probabilities(store, i, example));
    shown = i;
  }
  return { root, update };
}

function largest(...maps) {
  let top = 0;
  for (const map of maps) if (map) for (const v of map) if (Math.abs(v) > top) top = Math.abs(v);
  return top;
}

/** The given class, the true class and the largest others, at most twelve, in order. @param {Store} store */
function chooseClasses(store, i, before, after) {
  const must = [store.label[i], store.truth ? store.truth[i] : UNKNOWN].filter((c) => c < before.length);
  const rest = Array.from(before, (p, c) => c).sort((a, b) => Math.max(before[b], after[b]) - Math.max(before[a], after[a]));
  return [...new Set([...must, ...rest])].slice(0, CLASSES).sort((a, b) => a - b);
}

/** ○ before, ● after: upright for short class names, in rows for long ones. @param {Store} store */
function probabilities(store, i, { prob_before: was, prob_after: now = was }) {
  const classes = chooseClasses(store, i, was, now);
  const role = (c) => [c === store.label[i] ? "given" : "", store.truth && c === store.truth[i] && store.truth[i] !== store.label[i] ? "true" : ""].filter(Boolean).join(", ");
  const long = classes.some((c) => store.className(c).length > 4);
  const width = 348;
  const step = long ? 17 : width / classes.length;
  const height = long ? classes.length * step + 4 : 104;
  const along = (p) => (long ? 118 + 190 * p : 76 - 66 * p);
  const dots = classes.map((c, k) => {
    const cross = (k + 0.5) * step;
    const at = (p) => (long ? [along(p), cross] : [cross, along(p)]);
    const [x0, y0] = at(was[c]);
    const [x1, y1] = at(now[c]);
    const name = store.className(c);
    const bold = role(c) ? "mv-bold" : "mv-dim";
    const cut = long && name.length > 15 ? `${name.slice(0, 14)}…` : name;
    const text = (attrs, words) => svg("text", attrs, words);
    const parts = [svg("title", {}, `${name}: ${share(was[c])} to ${share(now[c])}`),
      svg("path", { d: `M${x0} ${y0}L${x1} ${y1}`, stroke: now[c] > was[c] ? "var(--mv-up)" : "var(--mv-down)", "stroke-width": 2 }),
      svg("circle", { cx: x0, cy: y0, r: 3.2, fill: "var(--mv-paper)", stroke: "var(--mv-ink)", "stroke-width": 1.2 }),
      svg("circle", { cx: x1, cy: y1, r: 3.2, fill: "var(--mv-ink)" })];
    if (long) parts.push(text({ class: bold, x: 0, y: cross + 4 }, cut), text({ class: "mv-dim mv-tiny", x: 346, y: cross + 4, "text-anchor": "end" }, role(c)));
    else parts.push(text({ class: bold, x: cross, y: 92, "text-anchor": "middle" }, cut), text({ class: "mv-dim mv-tiny", x: cross, y: 103, "text-anchor": "middle" }, role(c)));
    const peak = Math.max(was[c], now[c]);
    if (peak >= 0.1 && !long) parts.push(text({ class: now[c] >= was[c] ? "mv-val" : "mv-val mv-dim", x: cross - 7, y: along(peak) + 4, "text-anchor": "end" }, share(peak)));
    return svg("g", {}, ...parts);
  });
  const base = svg("path", { d: long ? `M118 0V${height}M308 0V${height}` : `M0 76.5H${width}`, stroke: "var(--mv-line)" });
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": `class probabilities before and after: ${classes.filter((c) => Math.max(was[c], now[c]) >= 0.05).map((c) => `${store.className(c)} ${share(was[c])} to ${share(now[c])}`).join("; ")}` }, base, ...dots);
}
