// @ts-check
/** The opened passage's heading and prompt, which may be shortened or edited, and how it is decoded. */
import { count, el, put, say, segment } from "../../core/static/dom.js";

const HELD = "opened passage"; // the score of the opened passage on the unit maps

/** @param {View} view */
export function passagePrompt(view) {
  const { store } = view;
  const passage = () => store.extraction.passage;
  const [name, about] = [el("span"), el("small")];
  const decode = segment("mv-ex-decode", "Decoding", (key) => ask({ key }));
  const warmth = el("input", { class: "mv-ex-num", type: "number", min: 0.1, step: 0.1, "aria-label": "temperature", onchange: sampling });
  const top = el("input", { class: "mv-ex-num", type: "number", min: 1, step: 1, placeholder: "all", "aria-label": "sample from this many tokens", onchange: sampling });
  const again = el("button", { class: "mv-btn", type: "button", onclick: () => ask({ key: "sample", again: true }) }, "Again");
  const how = el("span", { class: "mv-field mv-ex-how" }, "temperature", warmth, "top", top, again);
  const hold = el("button", { class: "mv-btn mv-ex-hold", type: "button", title: "Rank all units by what the margin of this passage loses without them", onclick: () => store.choose("score", HELD) }, "Find the units that hold this passage");
  const top8 = el("button", { class: "mv-btn", type: "button", title: "Those with the largest exact effect on this passage", onclick: () => store.top(8) }, "Ablate the top 8");
  const tools = el("div", { class: "mv-ex-hold-row" }, hold, top8);
  const [left, prompt] = [el("span", { class: "mv-ex-left" }), el("span")];
  const edit = el("button", { class: "mv-btn mv-ex-edit", type: "button", onclick: begin }, "Edit");
  const restore = el("button", { class: "mv-btn", type: "button", onclick: () => put_("") }, "Original prompt");
  const label = el("span", { class: "mv-ex-lab" }, "prompt");
  const text = el("p", { class: "mv-ex-prompt" }, label, left, prompt);
  const box = el("textarea", { rows: 2, maxlength: 4000, "aria-label": "Prompt", onkeydown: keys });
  const form = el("div", { class: "mv-ex-form", hidden: true }, box, el("button", { class: "mv-btn", type: "button", onclick: () => put_(box.value) }, "Run"));
  const root = el("div", {}, el("div", { class: "mv-ex-title" }, el("h3", {}, name, " ", about), el("span", { class: "mv-ex-tools" }, edit, restore, how, decode.root)), text, form, tools);
  let preview = null;

  function ask(request) {
    store.ask({ type: "decode", ...request });
  }
  function sampling() {
    const [temperature, k] = [Number(warmth.value), top.value === "" ? null : Math.round(Number(top.value))];
    ask({ key: passage().sample === null ? "greedy" : "sample", temperature, topK: k });
  }
  function begin() {
    form.hidden = false;
    text.hidden = true;
    box.value = passage().prompt;
    box.focus();
  }
  function close() {
    form.hidden = true;
    text.hidden = false;
    edit.focus();
  }
  function put_(words) {
    store.ask({ type: "prompt_text", text: words });
    close();
  }
  /** Every key but Enter and Escape is text, and reaches nothing else. */
  function keys(event) {
    event.stopPropagation();
    if (event.key === "Enter" && !event.shiftKey) put_(box.value);
    else if (event.key === "Escape") close();
    else return;
    event.preventDefault();
  }
  function update() {
    const p = passage();
    root.hidden = !p;
    if (!p) return;
    const copies = p.held ? "held out · " : p.copies === null ? "" : `×${count(p.copies)} ${p.copies === 1 ? "copy" : "copies"} · `;
    const length = preview ?? p.length;
    say(name, `Passage ${p.row}`);
    say(about, `${copies}${count(length)} + ${count(p.true.length)} tokens${p.edited && preview === null ? " · edited prompt" : ""}`);
    const own = !p.edited || preview !== null;
    const cut = own ? p.own.length - length : 0;
    const gap = store.study.writes ? "" : " ";
    say(left, own ? p.own.slice(0, cut).join(gap) + (cut ? gap : "") : "");
    say(prompt, own ? p.own.slice(cut).join(gap) : p.prompt);
    decode.show([{ key: "greedy", label: "greedy" }, { key: "sample", label: "sample" }], p.sample === null ? "greedy" : "sample", store.saved);
    how.hidden = p.sample === null;
    for (const [input, value] of [[warmth, p.temperature], [top, p.topK ?? ""]]) {
      const page = /** @type {Document | ShadowRoot} */ (view.root.getRootNode());
      if (page.activeElement !== input) input.value = String(value);
      input.disabled = store.saved;
    }
    again.hidden = store.saved;
    edit.hidden = tools.hidden = store.saved;
    const holds = store.state.score === HELD;
    put(hold, { "aria-pressed": String(holds) });
    top8.hidden = !holds;
    put(edit, { title: store.study.writes ? "Put another prompt before the passage" : "Give the task a tokenizer, so that text can be read" });
    edit.disabled = !store.study.writes;
    restore.hidden = store.saved || !p.edited;
  }
  return {
    root,
    update,
    /** Show the prompt at a length that is not answered yet. @param {number | null} length */
    at(length) {
      preview = length;
      update();
    },
  };
}
