// @ts-check
/** Pictures of the examples: sprite sheets, full images and attributions, drawn for the theme. */

/** One view's sprite sheets. Stroke images are re-inked for the theme; photographs never. @param {View} view */
export function createPictures(view) {
  let inked = new WeakMap(); // sheet → canvas, for the palette of `key`
  let key = "";

  function source(sheet) {
    if (!view.store.study.image.ink) return sheet.bitmap;
    if (key !== view.palette.key) inked = new WeakMap();
    key = view.palette.key;
    if (!inked.has(sheet)) {
      const { width, height } = sheet.bitmap;
      const canvas = document.createElement("canvas");
      Object.assign(canvas, { width, height });
      const pen = canvas.getContext("2d", { willReadFrequently: true });
      pen.drawImage(sheet.bitmap, 0, 0);
      const pixels = pen.getImageData(0, 0, width, height);
      reink(pixels.data, view.palette.ramp);
      pen.putImageData(pixels, 0, 0);
      inked.set(sheet, canvas);
    }
    return inked.get(sheet);
  }

  /** Draw example `i` at its own size; false while its sheet is not there. */
  return function draw(canvas, i) {
    const sheet = view.store.sheets.find((s) => i >= s.first && i < s.first + s.count) || view.store.thumbnail(i);
    const [h, w] = sheet ? sheet.tile : [8, 8];
    if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
    canvas.classList.toggle("mv-px", w <= 20);
    const pen = canvas.getContext("2d");
    pen.clearRect(0, 0, w, h);
    if (!sheet || !sheet.bitmap) return false;
    const at = i - sheet.first;
    pen.drawImage(source(sheet), (at % sheet.columns) * w, Math.floor(at / sheet.columns) * h, w, h, 0, 0, w, h);
    return true;
  };
}

/** @param {Uint8ClampedArray} data @param {Uint8ClampedArray} ramp */
function reink(data, ramp) {
  for (let p = 0; p < data.length; p += 4) {
    const v = data[p] * 3;
    data[p] = ramp[v];
    data[p + 1] = ramp[v + 1];
    data[p + 2] = ramp[v + 2];
  }
}

/** Draw a full image, uint8 [h, w, c]. @type {DrawsImage} */
export function drawImage(canvas, pixels, shape, ink, palette) {
  const [h, w, c = 1] = shape;
  Object.assign(canvas, { width: w, height: h });
  canvas.classList.toggle("mv-px", w <= 64);
  const image = new ImageData(w, h);
  for (let p = 0; p < w * h; p++) {
    for (let k = 0; k < 3; k++) image.data[p * 4 + k] = pixels[p * c + (c >= 3 ? k : 0)];
    image.data[p * 4 + 3] = 255;
  }
  if (ink && c < 3) reink(image.data, palette.ramp);
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** Draw an attribution map: blue against, orange for; strong cells that are large enough carry − or +. @type {DrawsAttribution} */
export function drawAttribution(canvas, values, shape, largest, palette, width) {
  const [h, w] = shape;
  const scale = window.devicePixelRatio || 1;
  const cell = Math.max(1, Math.round((width * scale) / w));
  Object.assign(canvas, { width: w * cell, height: h * cell });
  const pen = canvas.getContext("2d");
  pen.fillStyle = palette.a0;
  pen.fillRect(0, 0, w * cell, h * cell);
  for (let p = 0; p < w * h; p++) {
    const strength = largest > 0 ? Math.round((Math.abs(values[p]) / largest) * 5) : 0;
    if (!strength || !Number.isFinite(values[p])) continue;
    const x = (p % w) * cell;
    const y = Math.floor(p / w) * cell;
    pen.fillStyle = (values[p] > 0 ? palette.plus : palette.minus)[strength - 1];
    pen.fillRect(x, y, cell, cell);
    if (strength < 4 || cell / scale < 8) continue;
    const arm = cell * 0.2;
    const [across, down, thick] = [x + cell / 2, y + cell / 2, 1.2 * scale];
    pen.fillStyle = palette.on;
    pen.fillRect(across - arm, down - thick / 2, 2 * arm, thick);
    if (values[p] > 0) pen.fillRect(across - thick / 2, down - arm, thick, 2 * arm);
  }
}
