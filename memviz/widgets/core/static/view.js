// @ts-check
/** One view on the page: its regions, the keys, the theme, and when to draw. */
import { el } from "./dom.js";
import { isDark, readPalette, watchTheme } from "./palette.js";
import { createPictures } from "./pictures.js";
import { views } from "./views.js";

// What the store itself takes; a view adds its own.
const DIRTY = ["study", "state", "scores", "readout", "ahead", "random", "progress"];
const PROMPT = ["readout", "ahead"];

let made = 0; // only numbers the ids, so that two views on a page never share one

/** Draw one view of the store in `host`. @type {CreatesView} */
export function createView(store, host, part) {
  const kind = views.get(part);
  if (!kind) {
    host.textContent = `memviz has no view called “${part}”.`;
    return () => {};
  }
  const root = el("section", { class: `mv mv-part-${part}${store.saved ? " mv-saved" : ""}`, "aria-label": `memviz ${kind.title}`, "data-lm-suppress-shortcuts": "true" });
  /** @type {View} */
  const view = { store, root, part, main: kind.main, cell: kind.cell, needs: kind.needs, uid: `mv${++made}`, palette: /** @type {any} */ ({ steps: [], key: "" }), picture: null };
  view.picture = createPictures(view);
  const regions = kind.build(view);
  host.replaceChildren(root);

  const dirty = new Set([...DIRTY, ...kind.dirty]);
  const prompt = [...PROMPT, ...kind.prompt];
  let frame = 0;
  let stopTheme = () => {};
  let placed = false;
  let widths = "";

  function schedule(kinds) {
    for (const kind of kinds) dirty.add(kind);
    // The answer to a click is not kept waiting for a frame and the drawing of everything else.
    if (placed && prompt.some((kind) => kinds.includes(kind))) for (const region of regions) if (region.prompt) region.update(new Set(kinds));
    if (!frame) frame = requestAnimationFrame(draw);
  }
  function draw() {
    frame = 0;
    if (!placed) return; // the first ResizeObserver call draws
    const kinds = new Set(dirty);
    dirty.clear();
    for (const region of regions) region.update(kinds);
    if (store.gone) for (const node of root.children) /** @type {HTMLElement} */ (node).inert = !node.matches(".mv-live");
  }
  function retheme() {
    root.dataset.mvTheme = isDark(root) ? "dark" : "light";
    view.palette = readPalette(root);
    schedule(["theme"]);
  }
  // An output is often drawn before it is attached, and moved or hidden later.
  const sizes = new ResizeObserver(() => {
    if (!root.isConnected) return;
    if (!placed) {
      placed = true;
      stopTheme = watchTheme(root, retheme);
      retheme();
    }
    const now = watched.map((node) => node.clientWidth).join();
    if (now !== widths) schedule(["size"]);
    widths = now;
  });
  const watched = [root, ...regions.map((region) => region.watch).filter(Boolean)];
  for (const node of watched) sizes.observe(node);
  root.addEventListener("keydown", (event) => keys(view, event));
  root.addEventListener("keyup", (event) => event.stopPropagation());
  const stop = store.subscribe(schedule);
  store.hello();

  return () => {
    stop();
    stopTheme();
    sizes.disconnect();
    cancelAnimationFrame(frame);
    for (const region of regions) if (region.destroy) region.destroy();
    root.remove();
  };
}

/** Undo, redo and "/" act here; no key leaves the widget, so that the notebook's shortcuts stay out. @param {View} view @param {KeyboardEvent} event */
function keys({ store, root }, event) {
  event.stopPropagation();
  const writing = event.target instanceof HTMLInputElement && event.target.type === "search";
  const command = (event.ctrlKey || event.metaKey) && !event.altKey;
  const key = event.key.toLowerCase();
  const find = /** @type {HTMLElement} */ (root.querySelector(".mv-find"));
  if (command && !writing && (key === "z" || key === "y")) store.ask({ type: key === "y" || event.shiftKey ? "redo" : "undo" });
  else if (event.key === "/" && find && !(event.target instanceof HTMLInputElement)) find.focus();
  else if (event.key === "Escape" && !event.defaultPrevented && store.progress && !writing) store.ask({ type: "cancel" });
  else return;
  event.preventDefault();
}
