// @ts-check
/** The owners: a button for each takes out all of its units at once. */
import { count, el, put, say } from "../../core/static/dom.js";
import { parseUnits } from "../../core/static/store.js";
import { pointsOf } from "./points.js";

/** @param {View} view */
export function ownersOfPoints(view) {
  const { store } = view;
  const small = el("small");
  const list = el("div", { class: "mv-cp-owners", role: "group", "aria-label": "Owners", onkeydown: keys });
  const root = el("section", { class: "mv-cp-own", "aria-label": "Owners" }, el("h3", {}, "Owners ", small), list);
  let buttons = [];
  let made = -1;
  let active = 0;

  const current = () => store.capacity.fn && store.study && store.capacity.fn.built === store.study.built;
  const rowsOf = (owner) => parseUnits(store.capacity.fn.ownerUnits[owner], store.study.layers);
  const isOff = (owner) => rowsOf(owner).every((row) => store.off[row]);
  function toggle(owner) {
    if (!current()) return;
    const [rows, off] = [rowsOf(owner), isOff(owner)];
    active = owner;
    store.toggle(store.capacity.click ? rows : rows.filter((row) => Boolean(store.off[row]) === off));
  }
  function show(owner) {
    store.capacity.shown = owner === null || !current() ? null : pointsOf(store, rowsOf(owner));
    store.emit("capacity_shown");
  }
  function keys(event) {
    const at = buttons.indexOf(event.target);
    const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, PageDown: at + 10, PageUp: at - 10, Home: 0, End: buttons.length - 1 }[event.key];
    if (to === undefined || at < 0) return;
    event.preventDefault();
    active = Math.max(0, Math.min(buttons.length - 1, to));
    buttons[active].focus();
    update();
  }
  function update() {
    const fn = store.capacity.fn;
    root.hidden = !fn || !fn.ownerUnits.length;
    if (root.hidden || !current()) return;
    if (made !== fn.built) {
      made = fn.built;
      active = 0;
      const held = fn.ownerUnits.map((_, owner) => fn.owner.reduce((n, own) => n + Number(own === owner), 0));
      buttons = held.map((points, owner) => el("button", { type: "button", class: "mv-cp-owner", "data-owner": owner, title: `${count(points)} point${points === 1 ? "" : "s"}: ${fn.ownerUnits[owner]}`,
        onclick: () => toggle(owner), onpointerenter: () => show(owner), onpointerleave: () => show(null), onfocus: () => show(owner), onblur: () => show(null) }, String(owner + 1)));
      list.replaceChildren(...buttons);
      const most = Math.max(...held);
      say(small, `${count(held.length)} in ${fn.layer}, ${Math.min(...held) === most ? "" : "at most "}${count(most)} point${most === 1 ? "" : "s"} each; hover shows them`);
    }
    for (const [owner, button] of buttons.entries()) {
      const off = isOff(owner);
      const { held } = store.capacity;
      put(button, { "data-held": Boolean(held) && held.units === fn.ownerUnits[owner], "aria-pressed": String(off), tabindex: owner === active ? 0 : -1, "aria-label": `owner ${owner + 1}, ${off ? "off" : "on"}, ${button.title}` });
      button.disabled = store.saved && !store.capacity.click;
    }
  }
  return { root, update, prompt: true };
}
