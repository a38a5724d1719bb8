// @ts-check
/** Small DOM helpers. Text only ever enters the page as a text node. */

const SVG = "http://www.w3.org/2000/svg";

/** Put attributes on an element: `on…` functions listen, false or null leaves the attribute out. @param {any} node @param {object} attrs */
export function put(node, attrs) {
  for (const [key, value] of Object.entries(attrs)) {
    if (key === "style") node.style.cssText = value;
    else if (typeof value === "function") node.addEventListener(key.slice(2), value);
    else if (value === false || value === null || value === undefined) node.removeAttribute(key);
    else if (node.getAttribute(key) !== String(value)) node.setAttribute(key, value === true ? "" : String(value));
  }
  return node;
}

/** @type {Makes} */
export function el(tag, attrs = {}, ...children) {
  const node = put(document.createElement(tag), attrs);
  for (const child of children) if (child !== null && child !== undefined) node.append(child instanceof Node ? child : String(child));
  return node;
}

/** The same for SVG. @type {Makes} */
export function svg(tag, attrs = {}, ...children) {
  const node = put(document.createElementNS(SVG, tag), attrs);
  for (const child of children) if (child !== null) node.append(child);
  return node;
}

/** Set text only where it differs, so that nothing is announced or laid out twice. @param {Node} node */
export function say(node, text) {
  const words = String(text);
  if (node.textContent !== words) node.textContent = words;
}

const ICONS = {
  undo: "M3 6h6.5a3.5 3.5 0 0 1 0 7H6M3 6l3-3M3 6l3 3",
  redo: "M13 6H6.5a3.5 3.5 0 0 0 0 7H10M13 6l-3-3M13 6l-3 3",
  reset: "M3.5 8a4.5 4.5 0 1 0 1.4-3.3M4.9 1.8v3h3",
  code: "M5.5 4 2 8l3.5 4M10.5 4 14 8l-3.5 4",
  export: "M8 10V2.5M5 5l3-3 3 3M3 9v4.5h10V9",
  find: "M7 2.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9M10.4 10.4 14 14",
  close: "M4 4l8 8M12 4l-8 8",
};

/** @param {keyof typeof ICONS} name */
export function icon(name) {
  return svg("svg", { viewBox: "0 0 16 16", class: "mv-icon", "aria-hidden": "true" }, svg("path", { d: ICONS[name] }));
}

/** "1,080" @param {number} n */
export function count(n) {
  return Number(n).toLocaleString("en-US");
}

/** A share as "1.00" or ".43"; "…" where there is none yet. */
export function share(x) {
  if (typeof x !== "number" || !Number.isFinite(x)) return "…";
  const roundsAway = (x > 0 && x < 0.005) || (x < 1 && x >= 0.995); // 1.00 says all, .00 says none
  return x.toFixed(roundsAway ? 3 : 2).replace(/^0\./, ".");
}

/** A measure with two or three figures and a true minus sign. */
export function figure(x) {
  if (typeof x !== "number" || !Number.isFinite(x)) return "…";
  const size = Math.abs(x);
  const digits = size >= 100 ? 0 : size >= 10 ? 1 : size >= 0.1 || size === 0 ? 2 : size >= 0.001 ? 3 : 4;
  return x.toFixed(digits).replace(/^(-?)0\./, "$1.").replace("-", "−");
}

/** @param {string} text */
export function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** One choice of several: a radio group with one tab stop; arrows choose. @type {Segments} */
export function segment(name, label, pick) {
  const root = el("span", { class: `mv-seg ${name}`, role: "radiogroup", "aria-label": label });
  let buttons = [];
  const step = (event) => {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    const next = buttons[(buttons.indexOf(event.target) + by + buttons.length) % buttons.length];
    next.focus();
    next.click();
  };
  root.addEventListener("keydown", step);
  const show = (options, chosen, disabled) => {
    if (buttons.map((b) => b.dataset.key).join("\n") !== options.map((o) => o.key).join("\n")) {
      buttons = options.map((o) => el("button", { type: "button", role: "radio", "data-key": o.key, onclick: () => pick(o.key) }, o.label));
      root.replaceChildren(...buttons);
    }
    for (const [i, button] of buttons.entries()) {
      const on = button.dataset.key === chosen;
      put(button, { "aria-checked": String(on), tabindex: on || (i === 0 && !options.some((o) => o.key === chosen)) ? 0 : -1 });
      button.disabled = disabled;
    }
  };
  return { root, show };
}

/** Call `fn` at most once in `wait` ms, the last call always. @type {Throttles} */
export function throttle(fn, wait) {
  let last = 0;
  let timer = 0;
  const run = (...args) => {
    clearTimeout(timer);
    const left = last + wait - performance.now();
    if (left <= 0) {
      last = performance.now();
      fn(...args);
    } else timer = setTimeout(() => run(...args), left);
  };
  run.cancel = () => clearTimeout(timer);
  return run;
}
