// @ts-check
/** The continuation token by token: the true one, below it what the model says, and a card of chances. */
import { count, el, put, say } from "../../core/static/dom.js";
import { chance, signs, token } from "./words.js";

/** @param {View} view */
export function tokenGrid(view) {
  const { store } = view;
  const passage = () => store.extraction.passage;
  const key = el("span", { class: "mv-note" });
  const row = el("div", { role: "row" });
  const grid = el("div", { class: "mv-ex-toks", role: "grid", tabindex: 0, "aria-label": "Continuation, token by token", onkeydown: keys, onfocus: () => show(active), onblur: () => show(-1) }, row);
  const root = el("div", {}, el("div", { class: "mv-ex-key" }, key, el("span", { class: "mv-note" }, "✓ same  ✕ another")), grid);
  const card = tokenCard(view);
  let cells = [];
  let active = 0;
  let preview = null; // a length that is dragged to and not yet answered

  function cell(i) {
    const node = el("span", { class: "mv-ex-t", role: "gridcell", id: `${view.uid}-t${i}`, onpointerenter: () => show(i), onpointerleave: () => show(focused() ? active : -1), onclick: () => (move(i), grid.focus()) });
    const parts = { node, mark: el("s"), true: el("b"), ghost: el("span", { class: "mv-ex-ghost", "aria-hidden": "true" }), said: el("u") };
    node.append(el("i", {}, `${i + 1} `, parts.mark), parts.true, parts.ghost, parts.said);
    return parts;
  }
  const focused = () => /** @type {Document | ShadowRoot} */ (view.root.getRootNode()).activeElement === grid;
  function show(i) {
    cells.forEach(({ node }, at) => node.classList.toggle("mv-ex-at", at === i));
    card.show(passage() && i < cells.length ? i : -1);
  }
  function move(i) {
    active = Math.max(0, Math.min(cells.length - 1, i));
    put(grid, { "aria-activedescendant": cells.length ? `${view.uid}-t${active}` : null });
    if (focused()) show(active);
  }
  function keys(event) {
    const first = passage() ? passage().matchedAfter : 0;
    const to = { ArrowRight: active + 1, ArrowLeft: active - 1, Home: 0, End: cells.length - 1, e: first, E: first }[event.key];
    if (to === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    move(to);
  }
  /** What is known of a length that is dragged to: tokens before the first wrong one, and that one. */
  function dragged() {
    const { passage: p, curve } = store.extraction;
    if (preview === null || !curve || curve.row !== p.row || curve.units !== p.units || !curve.wrongAfter) return null;
    return { matched: curve.after[preview - 1], wrong: curve.wrongAfter[preview - 1] };
  }
  function draw() {
    const p = passage();
    if (cells.length !== p.true.length) {
      cells = p.true.map((_, i) => cell(i));
      row.replaceChildren(...cells.map((c) => c.node));
    }
    const ahead = dragged();
    cells.forEach((c, i) => {
      const first = i === (ahead ? ahead.matched : p.matchedAfter);
      const waits = ahead !== null && i > ahead.matched;
      const right = ahead ? i < ahead.matched : Boolean(p.rightAfter[i]);
      const says = !ahead ? p.saidAfter[i] : waits ? "…" : first ? ahead.wrong : p.true[i];
      say(c.true, token(p.true[i]));
      say(c.ghost, token(p.saidBefore[i]));
      say(c.said, token(says));
      say(c.mark, right ? "✓" : waits ? "" : "✕");
      c.node.className = `mv-ex-t${right ? "" : waits ? " mv-ex-wait" : " mv-ex-no"}${first ? " mv-ex-first" : ""}`;
      const how = right ? "right" : waits ? "not said yet" : "wrong";
      put(c.node, { "aria-label": `token ${i + 1}, true ${token(p.true[i])}, says ${token(says)}, ${how}${first ? ", first" : ""}` });
    });
    move(active);
  }
  /** @param {Set<string>} dirty */
  function update(dirty) {
    const p = passage();
    root.hidden = !p;
    if (!p) return;
    const off = p.units ? `, ${count(p.units)} off` : "";
    say(key, `above true, below what the model ${p.sample === null ? "says" : "says when sampled"}${off}`);
    if (["passage", "study", "prompt_curve"].some((kind) => dirty.has(kind))) draw();
    card.update();
  }
  return {
    root,
    card: card.root,
    update,
    /** Show the tokens at a length that is not answered yet. @param {number | null} length */
    at(length) {
      if (length === preview) return;
      preview = length;
      if (passage()) draw();
    },
  };
}

/** A token's chances before, with units off and with random ones. @param {View} view */
function tokenCard(view) {
  const { store } = view;
  const title = el("b");
  const of = el("small");
  const heads = [el("td"), el("th", { scope: "col" }, "before"), el("th", { scope: "col" }), el("th", { scope: "col" })];
  const body = el("tbody");
  const note = el("p", { class: "mv-note" });
  const hint = el("p", { class: "mv-note" }, "Point at a token, or focus the tokens and use the arrows: its chances stand here. ", el("span", { class: "mv-kbd" }, "E"), " jumps to the first wrong one.");
  const table = el("table", {}, el("thead", {}, el("tr", {}, ...heads)), body);
  const full = el("div", { hidden: true }, el("h3", {}, title, " ", of), table, note);
  const root = el("div", { class: "mv-ex-card", role: "status" }, hint, full);
  let at = -1;

  function update() {
    const { passage: p, nulls } = store.extraction;
    const shown = p && at >= 0 && at < p.true.length;
    hint.hidden = Boolean(shown);
    full.hidden = !shown;
    if (!shown) return;
    const drawn = nulls && nulls.row === p.row && nulls.version === p.version && nulls.chance ? nulls : null;
    say(title, `Token ${at + 1}`);
    say(of, `of ${p.true.length}`);
    say(heads[2], p.units ? `${count(p.units)} off` : "");
    say(heads[3], drawn ? `random ${count(drawn.units)}` : "");
    const names = [...new Set(p.shown[at])];
    const columns = [p.chanceBefore, p.units ? p.chanceAfter : null, drawn ? drawn.chance : null];
    const said = [p.saidBefore[at], p.saidAfter[at]];
    body.replaceChildren(...names.map((name, k) => el("tr", {}, el("th", { scope: "row" }, el("span", { class: "mv-cut" }, signs(name) || "∅"), k === 0 ? el("small", {}, " true") : null),
      ...columns.map((values, c) => el("td", {}, values ? el(said[c] === name ? "b" : "span", {}, chance(values[at * 3 + k])) : null)))));
    const rank = p.units ? `${count(p.rankBefore[at])} → ${count(p.rankAfter[at])}` : count(p.rankBefore[at]);
    const random = drawn ? `; random units keep it first in ${count(Math.round(drawn.first[at] * drawn.draws))} of ${count(drawn.draws)} draws` : "";
    const own = at > Math.min(p.matchedBefore, p.matchedAfter) ? " After its first wrong token a model reads its own words." : "";
    say(note, `Rank of the true token ${rank}${random}.${own}`);
  }
  return {
    root,
    update,
    show(i) {
      at = i;
      update();
    },
  };
}
