// @ts-check
/** Where everything of the circuit stands, in px: input bits, a block of cells for each layer, the votes. */

const TOP_ROOM = 40; // for the headings
const MOST_TALL = 560; // of the cells, before they are as small as they get
const EVER_TALL = 12_000; // then; longer layers get wider instead
const PITCHES = [12, 10, 8, 7, 6, 5];
const [INPUT_WIDE, VOTES_WIDE, LEAST_WIDE] = [88, 104, 78];
const CLASS_GAP = 5; // between the gates of two classes

/** @param {Store} store @param {number} width */
export function gateLayout(store, width) {
  const { layers } = store.study;
  const { classes, votes } = store.circuit;
  const gap = layers.length > 4 ? 26 : 42;
  const room = Math.max(LEAST_WIDE, Math.floor((width - INPUT_WIDE - VOTES_WIDE) / layers.length) - gap);
  const shape = (layer, pitch) => {
    const isLast = layer === layers[layers.length - 1];
    const wish = Math.min(Math.floor((room + 1) / pitch), Math.round(Math.sqrt(layer.units * 0.6)));
    const columns = Math.max(4, wish, Math.ceil((layer.units * pitch) / EVER_TALL));
    const each = isLast ? Math.ceil(votes / columns) : Math.ceil(layer.units / columns);
    return { layer, columns, each, split: isLast, height: each * pitch * (isLast ? classes : 1) + (isLast ? (classes - 1) * CLASS_GAP : 0) };
  };
  const pitch = PITCHES.find((p) => layers.every((layer) => shape(layer, p).height <= MOST_TALL)) || PITCHES[PITCHES.length - 1];
  const blocks = layers.map((layer) => ({ ...shape(layer, pitch), x: 0, y: 0 }));
  const tallest = Math.max(240, ...blocks.map((block) => block.height));
  let x = INPUT_WIDE;
  for (const block of blocks) {
    Object.assign(block, { x, y: TOP_ROOM + Math.round((tallest - block.height) / 2) });
    x += Math.max(LEAST_WIDE, block.columns * pitch) + gap;
  }
  const full = Math.max(width, x + VOTES_WIDE - gap + 14);
  return { pitch, cell: pitch - 1, blocks, top: TOP_ROOM, height: TOP_ROOM + tallest, width: full, inputs: inputGrids(store, Math.min(tallest, MOST_TALL)), votesAt: full - VOTES_WIDE + 10, votesWide: VOTES_WIDE - 32, votes, classes };
}

/** One grid of bits for each threshold and channel. @param {Store} store @param {number} height */
function inputGrids(store, height) {
  const { image, feature, above } = store.circuit;
  const values = image.reduce((n, side) => n * side, 1);
  const side = Math.ceil(Math.sqrt(values));
  const [channels, rows, columns] = image.length === 3 ? image : [1, Math.ceil(values / side), side];
  const steps = [...new Set(above)];
  const grids = steps.length * channels;
  const pitch = height / grids;
  const size = Math.max(1, Math.min(7, Math.floor(58 / columns), Math.floor((pitch - 10) / rows)));
  const start = TOP_ROOM + Math.max(0, (pitch - rows * size) / 2);
  const place = new Int32Array(feature.length * 2);
  feature.forEach((value, bit) => {
    const at = value % (rows * columns);
    const grid = Math.floor(value / (rows * columns)) * steps.length + steps.findIndex((step) => Object.is(step, above[bit]));
    place[2 * bit] = (at % columns) * size;
    place[2 * bit + 1] = Math.round(start + grid * pitch) + Math.floor(at / columns) * size;
  });
  const labels = Array.from({ length: grids }, (_, i) => ({ y: Math.round(start + i * pitch) + rows * size - 3, step: steps[i % steps.length] }));
  return { size, place, labels, width: columns * size };
}

/** The corner of a gate's cell. @param {any} layout @param {number} place of its layer @param {number} row */
export function cornerOf({ blocks, pitch, votes }, place, row) {
  const { layer, x, y, columns, each, split } = blocks[place];
  const gate = row - layer.start;
  const group = split ? Math.floor(gate / votes) : 0;
  const at = gate - group * votes;
  return [x + (at % columns) * pitch, y + (group * each + Math.floor(at / columns)) * pitch + group * CLASS_GAP];
}

/** The gate under a point, or −1. @param {any} layout @param {number} x @param {number} y */
export function gateUnder({ blocks, pitch, votes }, x, y) {
  for (const { layer, x: left, y: top, columns, each, split, height } of blocks) {
    const column = Math.floor((x - left) / pitch);
    if (column < 0 || column >= columns || y < top || y >= top + height) continue;
    const tall = each * pitch + CLASS_GAP;
    const group = split ? Math.floor((y - top) / tall) : 0;
    const at = Math.floor((y - top - group * tall) / pitch) * columns + column;
    return at < (split ? votes : layer.units) ? layer.start + group * votes + at : -1;
  }
  return -1;
}
