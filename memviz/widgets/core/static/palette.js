// @ts-check
/** Theme: which one the host shows, its colours for canvases, and the marks of the groups. */
import { svg } from "./dom.js";

const WATCHED = ["class", "data-jp-theme-light", "data-jp-theme-name", "data-theme", "data-vscode-theme-kind", "theme"];

/** The element and everything above it, through shadow roots. */
function* ancestors(node) {
  for (let at = node; at; at = at.parentElement || (at.getRootNode() instanceof ShadowRoot ? at.getRootNode().host : null)) yield at;
}

/** True where the nearest host that says anything is dark; else what the reader's system prefers. @param {HTMLElement} node */
export function isDark(node) {
  for (const at of ancestors(node.parentElement || node)) {
    const lab = at.getAttribute("data-jp-theme-light");
    if (lab) return lab === "false";
    const said = at.getAttribute("data-theme") || at.getAttribute("theme") || "";
    const names = ["dark", "dark-theme", "vscode-dark", "vscode-high-contrast"];
    if (said === "dark" || names.some((name) => at.classList.contains(name))) return true;
    if (said === "light" || ["light", "light-theme", "vscode-light"].some((name) => at.classList.contains(name))) return false;
  }
  return matchMedia("(prefers-color-scheme: dark)").matches;
}

/** Run `fn` when the host's theme may have changed. @type {Watches} */
export function watchTheme(node, fn) {
  const observer = new MutationObserver(fn);
  for (const at of ancestors(node.parentElement || node)) observer.observe(at, { attributes: true, attributeFilter: WATCHED });
  const media = matchMedia("(prefers-color-scheme: dark)");
  media.addEventListener("change", fn);
  return () => {
    observer.disconnect();
    media.removeEventListener("change", fn);
  };
}

/** The sheet's colours as canvas styles, and the ink ramp from paper to stroke. @param {HTMLElement} root @returns {Palette} */
export function readPalette(root) {
  const style = getComputedStyle(root);
  const get = (name) => style.getPropertyValue(`--mv-${name}`).trim();
  const steps = Array.from({ length: 11 }, (_, i) => get(`s${i}`));
  /** @type {any} */
  const palette = { steps, hatches: new Map(), ramp: new Uint8ClampedArray(256 * 3), key: "" };
  for (const name of ["paper", "ink", "soft", "line", "edge", "wash", "null", "a0", "on"]) palette[name] = get(name);
  palette.plus = [1, 2, 3, 4, 5].map((i) => get(`o${i}`));
  palette.minus = [1, 2, 3, 4, 5].map((i) => get(`b${i}`));
  const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const solid = (colour) => {
    pen.fillStyle = colour;
    pen.fillRect(0, 0, 1, 1);
    return pen.getImageData(0, 0, 1, 1).data;
  };
  const paper = solid(palette.paper);
  const ink = solid(palette.ink); // drawn over the paper, so a translucent ink comes out as seen
  for (let v = 0; v < 256; v++) for (let c = 0; c < 3; c++) palette.ramp[v * 3 + c] = paper[c] + ((ink[c] - paper[c]) * v) / 255;
  palette.key = JSON.stringify([steps, palette.paper, palette.ink]);
  return palette;
}

/** Diagonal lines in one colour: the estimate's fill. @type {Hatches} */
export function hatch(ctx, palette, colour, scale) {
  const key = `${colour} ${scale}`;
  if (!palette.hatches.has(key)) {
    const size = Math.round(5 * scale);
    const tile = document.createElement("canvas");
    tile.width = tile.height = size;
    const pen = tile.getContext("2d");
    pen.strokeStyle = colour;
    pen.lineWidth = 1.1 * scale;
    for (const shift of [-size, 0, size]) {
      pen.moveTo(shift - 1, size + 1);
      pen.lineTo(shift + size + 1, -1);
    }
    pen.stroke();
    const pattern = ctx.createPattern(tile, "repeat");
    pattern.setTransform(new DOMMatrix().scale(1 / scale));
    palette.hatches.set(key, pattern);
  }
  return palette.hatches.get(key);
}

/** A dotted outline with a point: nothing reads the unit. */
export function drawDead(pen, x, y, size, palette) {
  const point = Math.max(1.4, size / 6);
  pen.fillStyle = pen.strokeStyle = palette.soft;
  pen.fillRect(x + (size - point) / 2, y + (size - point) / 2, point, point);
  if (size < 7) return;
  pen.lineWidth = 1;
  pen.setLineDash([1.5, 1.5]);
  pen.strokeRect(x + 0.5, y + 0.5, size - 1, size - 1);
  pen.setLineDash([]);
}

/** A value's step on the quiet-to-loud scale; square root, so that small values part. @param {number} value @param {number} max */
export function stepOf(value, max) {
  return max > 0 && value > 0 ? Math.min(10, Math.round(10 * Math.sqrt(value / max))) : 0;
}

/** Category colours live only inside their shape: ● memorized, ■ clean, ▲ test, ◇ others. @param {string} name */
export function groupColour(name) {
  return { memorized: "var(--mv-mem)", clean: "var(--mv-clean)", wrong: "var(--mv-wrong)", test: "var(--mv-test)" }[name.toLowerCase()] || "var(--mv-soft)";
}

/** The group's shape around (x, y), about 2r wide. @type {Shapes} */
export function groupShape(name, x, y, r) {
  const fill = groupColour(name);
  switch (name.toLowerCase()) {
    case "memorized":
      return svg("circle", { cx: x, cy: y, r, fill });
    case "clean":
      return svg("rect", { x: x - r * 0.92, y: y - r * 0.92, width: r * 1.84, height: r * 1.84, fill });
    case "test":
      return svg("path", { d: `M${x} ${y - r * 1.2}l${r * 1.12} ${r * 2}h${-r * 2.24}z`, fill });
    default:
      return svg("path", { d: `M${x} ${y - r}l${r} ${r}-${r} ${r}-${r}-${r}z`, fill: "none", stroke: fill, "stroke-width": 1.3 });
  }
}

/** @param {string} name */
export function groupMark(name) {
  return svg("svg", { class: "mv-mark", viewBox: "0 0 9 9", "aria-hidden": "true" }, groupShape(name, 4.5, name.toLowerCase() === "test" ? 4.8 : 4.5, 3.9));
}
