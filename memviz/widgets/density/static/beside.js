// @ts-check
/** Beside the opened image: its nearest training and generated images, and what the model makes of it. */
import { count, el, figure, put, say } from "../../core/static/dom.js";
import { drawImage } from "../../core/static/pictures.js";

/** @param {View} view */
export function besideRegion(view) {
  const { store } = view;
  const trained = el("div", { class: "mv-dn-four" });
  const generated = el("div", { class: "mv-dn-four" });
  const of = el("small");
  const note = el("p", { class: "mv-note" });
  const near = el("div", { class: "mv-dn-near" }, el("div", {}, el("h3", {}, "Nearest in training ", el("small", {}, "distance")), trained), el("div", {}, el("h3", {}, "Nearest generated ", of), generated));
  const nearest = el("section", { "aria-label": "Nearest images" }, near, note);
  const made = reconstructions(view);
  const root = el("div", {}, nearest, made.root);
  let shown = null;

  function neighbour(canvas, words, open) {
    const attrs = { class: "mv-picbox", title: words, "aria-label": words };
    const frame = open ? el("button", { ...attrs, type: "button", onclick: open }, canvas) : el("div", { ...attrs, role: "img" }, canvas);
    return frame;
  }
  function fill(found) {
    trained.replaceChildren(...found.trained.map((i, k) => {
      const canvas = el("canvas", { "aria-hidden": "true" });
      view.picture(canvas, i);
      const words = `image ${count(i)}, distance ${figure(found.trained_distances[k])}`;
      return el("figure", {}, neighbour(canvas, words, store.saved ? null : () => store.choose("open", i)), el("figcaption", {}, figure(found.trained_distances[k])));
    }));
    const size = found.shape.reduce((a, b) => a * b, 1);
    generated.replaceChildren(...found.generated_distances.map((distance, k) => {
      const canvas = el("canvas", { "aria-hidden": "true" });
      drawImage(canvas, found.generated.subarray(k * size, (k + 1) * size), found.shape, store.study.image.ink, view.palette);
      return el("figure", {}, neighbour(canvas, `generated image, distance ${figure(distance)}`, null), el("figcaption", {}, figure(distance)));
    }));
    say(of, `of ${count(found.of)}`);
    const [low, high] = store.densityRatios ? store.densityRatios.quartiles : [null, null];
    const half = low === null ? "" : `, and ${figure(low)} to ${figure(high)} for half of all images`;
    say(note, found.held_out_distance === null ? "" : `Held-out nearest ${figure(found.held_out_distance)}, generated nearest ${figure(found.generated_distances[0])}: ratio ${figure(found.held_out_distance / found.generated_distances[0])}${half}. The ratio does not see what M sees.`);
  }

  /** @param {Set<string>} dirty */
  function update(dirty) {
    const found = store.densityNearest;
    const opened = store.state ? store.state.opened : null;
    nearest.hidden = !found || opened === null;
    if (!nearest.hidden && (shown !== found || ["theme", "sprites", "density_ratios"].some((kind) => dirty.has(kind)))) {
      shown = found;
      fill(found);
    }
    made.update(dirty);
  }
  return { root, update };
}

/** @param {View} view */
function reconstructions(view) {
  const { store } = view;
  const row = el("div", { class: "mv-dn-four" });
  const small = el("small");
  const title = el("h3", {}, "Reconstruction ", small);
  const root = el("section", { class: "mv-dn-made", "aria-label": "Reconstruction" }, title, row);
  const parts = ["image", "before", "after", "random"].map((key) => {
    const canvas = el("canvas", { role: "img" });
    const words = el("span");
    const error = el("b");
    const node = el("figure", { "data-picture": key }, el("div", { class: "mv-picbox" }, canvas), el("figcaption", {}, words, el("br"), error));
    row.append(node);
    return { key, canvas, words, error, node };
  });

  /** @param {Set<string>} dirty */
  function update(dirty) {
    const made = store.densityReconstruction;
    root.hidden = !made || !store.state || store.state.opened === null;
    if (root.hidden || !["density_reconstruction", "theme", "state", "study"].some((kind) => dirty.has(kind))) return;
    const units = `${count(made.units)} unit${made.units === 1 ? "" : "s"} off`;
    const names = { image: "the image", before: made.units ? "before" : "reconstructed", after: units, random: made.draws ? `random ${count(made.units)}` : "" };
    say(small, made.own ? "by the study's model, squared error" : "by the model then, squared error");
    for (const { key, canvas, words, error, node } of parts) {
      const pixels = made[key];
      node.hidden = !pixels;
      if (!pixels) continue;
      drawImage(canvas, pixels, made.shape, store.study.image.ink, view.palette);
      say(words, names[key]);
      const value = made.errors[key];
      say(error, value === undefined ? "" : figure(value));
      put(canvas, { "aria-label": `${names[key]}${value === undefined ? "" : `, squared error ${figure(value)}`}` });
      node.title = key === "random" ? `the first of ${made.draws} draws; the error is their mean` : "";
    }
    root.classList.toggle("mv-stale", made.index !== store.state.opened);
  }
  return { root, update };
}
