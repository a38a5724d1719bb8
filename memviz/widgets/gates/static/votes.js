// @ts-check
/** The votes of the traced example: a bar for each class, ○ where it stood before. */
import { svg } from "../../core/static/dom.js";

/** @param {View} view */
export function votesColumn(view) {
  const { store } = view;
  const root = svg("g");

  /** @param {any} layout */
  function draw(layout) {
    const { gateTrace: trace } = store;
    const last = layout.blocks[layout.blocks.length - 1];
    const beside = last.height / layout.classes >= 18; // each bar beside the gates that vote
    const [top, height] = beside ? [last.y, last.height + 5] : [layout.top, layout.height - layout.top];
    const each = height / layout.classes;
    const x = layout.votesAt + 18;
    const long = (votes) => (layout.votesWide * votes) / layout.votes;
    const row = (votes, k) => {
      const y = top + each * (k + 0.5) - 4;
      const [was, name] = [trace.votes_before[k], store.className(k)];
      const roles = [store.label[trace.index] === k && "given", store.truth[trace.index] === k && "true"].filter(Boolean).join(", ");
      const words = `${roles ? `${roles} · ` : ""}${was === votes ? "" : `${was} → `}${votes}`;
      const parts = [
        svg("text", { x: layout.votesAt, y: y + 4, class: k === trace.said ? "mv-bold" : "" }, name.length > 2 ? `${name.slice(0, 1)}…` : name),
        svg("rect", { x, y: y - 3, width: layout.votesWide, height: 6, fill: "var(--mv-wash)" }),
        svg("rect", { x, y: y - 3, width: long(votes), height: 6, fill: k === trace.said ? "var(--mv-s8)" : "var(--mv-s4)" }),
        svg("title", {}, `${name}: ${words}`),
      ];
      if (was !== votes) parts.push(svg("circle", { cx: x + long(was), cy: y, r: 3.5, fill: "var(--mv-paper)", stroke: "var(--mv-ink)", "stroke-width": 1.3 }));
      if (each > 22 && (roles || k === trace.said)) parts.push(svg("text", { x: x + layout.votesWide, y: y + 14, class: "mv-axis mv-tiny", "text-anchor": "end" }, words));
      return svg("g", {}, ...parts);
    };
    root.replaceChildren(...(trace ? trace.votes.map(row) : []));
  }
  return { root, draw };
}
