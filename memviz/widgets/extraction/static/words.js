// @ts-check
/** Tokens as they are shown: text that is only space gets a sign, and figures their usual form. */
import { count, figure, share } from "../../core/static/dom.js";

/** A token without the space before it; a sign where nothing would be seen. @param {string} text */
export function token(text) {
  const bare = text.trim();
  return bare || signs(text) || "∅";
}

/** A token to the letter: spaces and ends of line as signs. @param {string} text */
export function signs(text) {
  return text.replace(/ /g, "␣").replace(/\r?\n/g, "⏎").replace(/\t/g, "⇥");
}

/** A chance: "1.00", ".43", "2e−7". @param {number} p */
export function chance(p) {
  if (!(p > 0) || p >= 0.0005) return p === 0 ? "0" : p < 0.01 ? figure(p) : share(p);
  return p.toExponential(0).replace("-", "−");
}

/** "✓ whole" or "✕ at 23". @param {number} matched @param {number} of */
export function ending(matched, of) {
  return matched >= of ? "✓ whole" : `✕ at ${count(matched + 1)}`;
}

/** @param {number | null} x */
export function perplexity(x) {
  if (typeof x !== "number") return "…";
  return x >= 100 ? count(Math.round(x)) : x >= 10 ? x.toFixed(1) : x.toFixed(2);
}
