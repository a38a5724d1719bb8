// @ts-check
/** A unit in words, in counts: the hover card and what a screen reader hears. */
import { count, el, figure, put, say } from "./dom.js";

/** [["4 of 120", " memorized examples, "], …]: numbers apart from words. @param {Store} store */
function lostWords(store, row) {
  const groups = store.study.groups;
  const lost = groups.map((g, i) => ({ ...g, n: store.lost[row * groups.length + i] }));
  const first = lost[0];
  const parts = [[`${count(first.n)} of ${count(first.count)}`, ` ${first.name} examples`]];
  const others = lost.slice(1);
  const hit = others.filter((g) => g.n > 0);
  const spared = others.filter((g) => g.n === 0).map((g) => g.name);
  hit.forEach((g, i) => {
    const and = i === hit.length - 1 && !spared.length ? ", and " : ", ";
    parts[parts.length - 1][1] += and;
    parts.push([`${count(g.n)} of ${count(g.count)}`, ` ${g.name} ones`]);
  });
  parts[parts.length - 1][1] += spared.length ? `, and no ${spared.join(" or ")} ones.` : ".";
  return parts;
}

/** @type {SaysUnit} */
export function unitWords(store, row) {
  const layer = store.layer(row);
  const score = store.score();
  const state = score ? score.state[row] : 0;
  const off = Boolean(store.off[row]);
  const known = store.lost && store.study.groups.length && (!store.lostState || store.lostState[row] === 2);
  const parts = known ? [["", "Ablated alone, it loses "], ...lostWords(store, row)] : [];
  const rank = score && score.rank[row] ? `rank ${count(score.rank[row])} of ${count(score.order.length)}` : state === 1 ? "estimate" : "";
  const value = score && state ? `${figure(score.value[row])} ${score.measure || score.label}${state === 1 ? ", estimated" : ""}` : score && score.kind === "other" ? "no value for this score" : "no score yet";
  return { name: `${layer.one} ${row - layer.start}`, rank, on: `${off ? "Off" : "On"}${layer.dead && layer.dead.includes(row - layer.start) ? ", dead: nothing reads it" : ""}. `, parts, score: value };
}

/** The same as one line of text. @param {Store} store */
export function unitLine(store, row) {
  const { name, rank, on, parts, score } = unitWords(store, row);
  return `${name}, ${on.trim().toLowerCase()} ${score}${rank ? `, ${rank}` : ""}. ${parts.map((p) => p.join("")).join("")}`.trim();
}

/** Put a card under, over or else beside the mark at (x, y, size) of the area that holds it. @param {View} view */
export function placeCard(view, root, x, y, size) {
  const area = root.parentElement;
  const [w, h] = [root.offsetWidth, root.offsetHeight];
  const from = area.getBoundingClientRect().top;
  const [below, above, right] = [y + size + 9, y - h - 9, x + size + 9];
  const room = view.root.getBoundingClientRect().bottom - from;
  const free = view.root.querySelector(".mv-live").getBoundingClientRect().bottom - from;
  const over = below + h > room;
  const flip = over && above > free;
  const beside = over && !flip;
  const centred = Math.max(0, Math.min(x + size / 2 - 100, area.clientWidth - w));
  const left = !beside ? centred : right + w < area.clientWidth ? right : x - w - 9;
  root.style.left = `${left}px`;
  root.style.top = `${beside ? room - h : flip ? above : below}px`;
  root.style.setProperty("--mv-tip", `${x + size / 2 - left}px`);
  put(root, { "data-flip": flip, "data-beside": beside });
}

/** @param {View} view */
export function hoverCard(view) {
  const { store } = view;
  const name = el("span");
  const rank = el("span", { class: "mv-soft mv-rank" });
  const words = el("p", { class: "mv-words" });
  const score = el("p", { class: "mv-note" });
  const thumbs = el("div", { class: "mv-thumbs" });
  const most = el("div", {}, el("p", { class: "mv-note" }, "Largest losses"), thumbs);
  const key = (text) => el("span", { class: "mv-kbd" }, text);
  const verb = el("span");
  const hold = el("span");
  const hint = el("p", { class: "mv-note mv-hint" }, key("Space"), " ", verb, "\u2002", key("Enter"), " ", hold);
  const root = el("div", { class: "mv-tip", role: "tooltip", hidden: true }, el("h3", {}, name, rank), words, score, most, hint);

  function fill(row, pinned) {
    const w = unitWords(store, row);
    say(name, w.name);
    say(rank, w.rank);
    words.replaceChildren(w.on, ...w.parts.flatMap(([n, text]) => [el("b", {}, n), text]));
    say(score, w.score);
    say(verb, store.off[row] ? "on" : "off");
    say(hold, pinned ? "unpin" : "pin");
    hint.hidden = store.fixed;
    const worst = store.most && w.parts.length ? Array.from(store.most.subarray(row * 6, row * 6 + 6)).filter((i) => i < store.study.examples) : [];
    most.hidden = !worst.length;
    thumbs.replaceChildren(...worst.map((i) => {
      const canvas = el("canvas", { "aria-hidden": "true" });
      view.picture(canvas, i);
      return el("button", { type: "button", tabindex: pinned ? 0 : -1, title: `example ${i}, given ${store.className(store.label[i])}`, onclick: () => store.choose("open", i) }, canvas);
    }));
    root.classList.toggle("mv-pinned", pinned);
  }

  /** Show the card of `row` beside the cell at (x, y, size) of the maps' area. */
  function show(row, x, y, size, pinned) {
    root.hidden = false;
    fill(row, pinned);
    placeCard(view, root, x, y, size);
  }
  return { root, show, hide: () => (root.hidden = true) };
}
