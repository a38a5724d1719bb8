// @ts-check
/** The cells of the gate map, on one canvas. */
import { drawDead, stepOf } from "../../core/static/palette.js";
import { cornerOf } from "./layout.js";
import { GATE_KINDS, numberNow } from "./words.js";

/** What a gate's cell shows: a step of the scale, or null where nothing is known. @param {Store} store @returns {(row: number) => number | null} */
function gateSteps(store) {
  const { circuit, gateTrace: trace, gateShow } = store;
  if (gateShow === "bit") return (row) => (trace ? Math.round(10 * trace.share[row]) : null);
  if (gateShow === "kind") return (row) => GATE_KINDS.find((kind) => kind.of.includes(numberNow(store, row))).step;
  if (gateShow === "weight") return (row) => Math.round(10 * circuit.weight[row]);
  const score = store.score();
  return (row) => (score && score.state[row] ? stepOf(score.value[row] - score.low, score.max - score.low) : null);
}

/** @param {any} canvas @param {View} view @param {any} layout */
export function drawCells(canvas, { store, palette }, layout) {
  const scale = window.devicePixelRatio || 1;
  Object.assign(canvas, { width: Math.round(layout.width * scale), height: Math.round(layout.height * scale) });
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  const { cell, inputs } = layout;
  const { live, feature } = store.circuit;
  const stepOfGate = gateSteps(store);
  const off = store.preview || store.off;
  for (const [place, { layer }] of layout.blocks.entries()) {
    for (let row = layer.start; row < layer.start + layer.units; row++) {
      const [x, y] = cornerOf(layout, place, row);
      const step = stepOfGate(row);
      if (live[row]) {
        pen.fillStyle = step === null ? palette.wash : palette.steps[step];
        if (off[row]) drawSet(pen, x, y, cell, palette, step);
        else pen.fillRect(x, y, cell, cell);
      } else drawDead(pen, x, y, cell, palette);
    }
  }
  const bits = store.gateTrace ? store.gateTrace.inputs : null;
  const size = inputs.size > 3 ? inputs.size - 1 : inputs.size;
  for (let bit = 0; bit < feature.length; bit++) {
    const one = bits && bits[bit];
    pen.globalAlpha = one ? 0.8 : 1;
    pen.fillStyle = one ? palette.ink : palette.wash;
    pen.fillRect(inputs.place[2 * bit], inputs.place[2 * bit + 1], size, size);
  }
}

/** An emptied cell with ×, its score as the foot. */
function drawSet(pen, x, y, cell, palette, step) {
  const large = cell > 6;
  pen.fillStyle = palette.paper;
  pen.fillRect(x, y, cell, cell);
  pen.strokeStyle = palette.ink;
  pen.lineWidth = large ? 1.2 : 1;
  if (large) {
    pen.fillStyle = palette.steps[step || 0];
    pen.fillRect(x + 1, y + cell - 2.4, cell - 2, 1.6);
    pen.strokeRect(x + 0.6, y + 0.6, cell - 1.2, cell - 1.2);
  }
  const inset = large ? cell * 0.28 : 0;
  const [low, high] = [inset, cell - inset];
  pen.beginPath();
  pen.moveTo(x + low, y + low);
  pen.lineTo(x + high, y + high);
  pen.moveTo(x + high, y + low);
  pen.lineTo(x + low, y + high);
  pen.stroke();
}
