// @ts-check
/** The lines above the regions: title and tools, the live sentence, the choices and the busy bar. */
import { capital, count, el, icon, put, say, segment } from "./dom.js";

/** @param {View} view */
export function toolbar(view) {
  const { store } = view;
  const button = (name, words, title, type) => el("button", { class: `mv-btn mv-${name}`, type: "button", title, onclick: () => store.ask({ type }) }, icon(name), words);
  const back = "Undo (Ctrl+Z)";
  const undo = button("undo", "Undo", back, "undo");
  const redo = button("redo", "Redo", "Redo (Ctrl+Shift+Z)", "redo");
  const reset = button("reset", "Reset", "Switch every unit on again", "reset");
  const code = button("code", "Copy code", "Copy code that rebuilds this view", "code");
  const save = button("export", "Export", "Save as a page that works without a kernel", "export");
  const sep = el("span", { class: "mv-sep" });
  const name = el("b");
  const summary = el("small");
  const tools = el("div", { class: "mv-tools", role: "toolbar", "aria-label": "History and export" }, undo, redo, reset, sep, code, save);
  const root = el("div", { class: "mv-head" }, el("h2", {}, name, " ", summary), tools);
  function update() {
    const { study, state } = store;
    say(name, study ? study.name : "memviz");
    say(summary, study && study.summary ? `· ${study.summary}` : "");
    tools.hidden = store.fixed;
    sep.hidden = code.hidden = save.hidden = store.saved;
    undo.disabled = !state || !state.undo;
    undo.title = state && state.history ? `${back}. ${state.history}` : back;
    redo.disabled = !state || !state.redo;
    reset.disabled = !state || !store.off.includes(1);
    code.disabled = save.disabled = !state;
  }
  return { root, update };
}

/** The sentence: seen at once, spoken once it has settled for 300 ms. @param {View} view */
export function liveLine(view) {
  const { store } = view;
  const seen = el("p", { class: "mv-say", "aria-hidden": "true" });
  const spoken = el("output", { class: "mv-sentence mv-sr", "aria-live": "polite" });
  const error = el("p", { class: "mv-error", role: "alert" });
  const hint = el("p", { class: "mv-note mv-savednote" });
  const file = el("a", { target: "_blank" });
  const pre = el("pre", { tabindex: 0, "aria-label": "Code that rebuilds this view" });
  const copied = el("span", { class: "mv-note", role: "status" });
  const code = () => /** @type {HTMLElement} */ (view.root.querySelector(".mv-code"));
  const shut = () => {
    panel.hidden = true;
    code()?.focus();
  };
  const panel = el("div", { class: "mv-codebox", hidden: true }, pre, copied, el("button", { class: "mv-btn mv-codeclose", type: "button", onclick: shut }, "close"));
  panel.addEventListener("keydown", (event) => event.key === "Escape" && shut());
  const root = el("div", { class: "mv-live" }, seen, spoken, error, store.saved ? hint : el("p", { class: "mv-note", role: "status" }, file), panel);
  let text = "";
  let timer = 0;

  function write(sentence) {
    if (sentence === text) return;
    text = sentence;
    // Every other piece of the split is a figure such as "100 % → 43 %".
    const pieces = sentence.split(/([-−.\d][\d.,]*\s?%?\s→\s[-−]?[\d.,]*\d(?:\s?%)?)/);
    seen.replaceChildren(...pieces.map((piece, i) => (i % 2 ? el("span", { class: "mv-num" }, piece) : piece)));
    clearTimeout(timer);
    timer = setTimeout(() => say(spoken, sentence), 300);
  }

  async function copy() {
    panel.hidden = false;
    say(pre, store.code);
    try {
      await navigator.clipboard.writeText(store.code);
      say(copied, "Copied.");
    } catch {
      say(copied, "The browser refused the clipboard: select the lines and copy them.");
      getSelection()?.selectAllChildren(pre);
    }
  }

  /** @param {Set<string>} dirty */
  function update(dirty) {
    write(store.note || store.sentence || (store.study ? "Reading the model …" : "Waiting for the kernel …"));
    const wrong = store.gone ? "The kernel is gone: run this cell again." : store.error;
    say(error, wrong && `! ${wrong}`);
    say(hint, `Saved page: ${store.fixed ? view.needs : store.rule} a running kernel.`);
    if (dirty.has("exported") && store.file) {
      const { baseUrl } = JSON.parse(document.getElementById("jupyter-config-data")?.textContent || "{}");
      say(put(file, { href: baseUrl && store.file.href ? baseUrl + store.file.href : null }), store.file.text);
    }
    seen.hidden = Boolean(wrong);
    error.hidden = !wrong;
    if (dirty.has("code") && store.code !== null && view.main) copy();
  }
  return { root, update, prompt: true, destroy: () => clearTimeout(timer) };
}

/** The sentence again where the units are: a click down there is answered in sight. @param {View} view */
export function echoLine(view) {
  const root = el("p", { class: "mv-echo mv-note", "aria-hidden": "true" });
  const update = () => say(root, view.store.note || view.store.sentence);
  return { root, update, prompt: true };
}

/** Slim bar with words, count and cancel; it keeps its place while idle. @param {View} view */
export function busyBar(view) {
  const { store } = view;
  const words = el("span", { class: "mv-cut" });
  const bar = el("i");
  const cancel = el("button", { class: "mv-cancel", type: "button", onclick: () => (store.progress ? store.ask({ type: "cancel" }) : store.choose("score", "effect")) });
  const meter = el("span", { class: "mv-meter", role: "progressbar", "aria-valuemin": 0 }, bar);
  const root = el("span", { class: "mv-busy" }, words, meter, cancel);
  function update() {
    const left = store.scores.get("effect");
    const job = store.progress || (left && left.cancelled && !store.saved && { ...left, words: "stopped at" });
    root.classList.toggle("mv-idle", !job);
    cancel.disabled = !job;
    if (!job) return;
    say(cancel, store.progress ? "cancel" : "go on");
    const text = /\d/.test(job.words) ? job.words : `${job.words} ${count(job.done)} of ${count(job.total)}`;
    say(words, text);
    words.title = text;
    put(meter, { "aria-valuenow": job.done, "aria-valuemax": job.total, "aria-label": text });
    bar.style.width = `${Math.min(100, (100 * job.done) / job.total)}%`;
  }
  return { root, update };
}

/** The options of a list of scores, under the names of their groups where they have one. @param {Choice[]} scores */
export function scoreOptions(scores) {
  const option = (score) => el("option", { value: score.key }, score.label);
  const groups = [...new Set(scores.map((score) => score.group).filter(Boolean))];
  const grouped = groups.map((group) => el("optgroup", { label: group }, ...scores.filter((score) => score.group === group).map(option)));
  return [...scores.filter((score) => !score.group).map(option), ...grouped];
}

/** The picker of scores with its filled or hatched swatch. @param {View} view */
function scorePicker(view) {
  const { store } = view;
  const swatch = el("i", { class: "mv-kind", "aria-hidden": "true" });
  const select = el("select", { class: "mv-score", onchange: () => store.choose("score", select.value) });
  const root = el("label", { class: "mv-field" }, "Score", el("span", { class: "mv-pick" }, swatch, select));
  let offered = null;
  function update() {
    if (!store.study || !store.state) return;
    if (offered !== store.study.scores) {
      offered = store.study.scores;
      select.replaceChildren(...scoreOptions(offered));
    }
    for (const option of select.options) option.disabled = store.saved && !store.scores.has(option.value);
    const chosen = offered.find((s) => s.key === store.state.score);
    select.value = store.state.score;
    swatch.classList.toggle("mv-est", Boolean(chosen && chosen.kind === "estimate"));
    select.title = chosen ? capital(chosen.measure || "") : "";
  }
  return { root, update };
}

/** Score, what is ablated, what replaces it; the busy bar at the end. @param {View} view */
export function controls(view) {
  const { store } = view;
  const score = scorePicker(view);
  let kept = ""; // what replaced units before "filter" was chosen
  const pick = (key) => {
    if (store.state.intervention !== "filter") kept = store.state.intervention;
    store.choose("intervention", key);
  };
  const others = () => store.study.interventions.filter((i) => i.key !== "filter");
  const what = segment("mv-what", "Ablate", (key) => pick(key === "filter" ? "filter" : kept || others()[0].key));
  const by = segment("mv-by", "Replace with", pick);
  const busy = busyBar(view);
  const takeOut = el("span", { class: "mv-field" }, "Ablate", what.root);
  const replace = el("span", { class: "mv-field" }, "replace with", by.root);
  const model = el("select", { class: "mv-variant", onchange: () => store.choose("variant", model.value) });
  const which = el("label", { class: "mv-field" }, "Model", el("span", { class: "mv-pick" }, model));
  let study = null;
  const root = el("div", { class: "mv-controls" }, which, score.root, takeOut, replace, busy.root);
  function update() {
    busy.update();
    if (!store.study || !store.state) return;
    score.update();
    if (study !== store.study) {
      study = store.study;
      const variants = study.variants || [];
      model.replaceChildren(...variants.map((v) => el("option", { value: v.key }, v.label)));
      which.hidden = variants.length < 2;
    }
    model.value = store.state.variant || "";
    model.disabled = store.saved;
    const key = store.state.intervention;
    takeOut.hidden = !store.study.interventions.some((i) => i.key === "filter");
    what.show([{ key: "unit", label: "unit" }, { key: "filter", label: "filter" }], key === "filter" ? "filter" : "unit", store.saved);
    by.show(others(), key === "filter" ? kept || others()[0]?.key : key, store.saved || key === "filter");
    replace.classList.toggle("mv-inert", key === "filter");
  }
  return { root, update };
}
