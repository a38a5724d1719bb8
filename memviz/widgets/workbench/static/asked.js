// @ts-check
/** Thumbnails of a large study, asked for as they are missed; and marks, by which a person judges examples. */

const AGAIN = 5000; // ms until a thumbnail is asked for again
const SHEETS = 64; // kept, the last used; 64 thumbnails each

/** Takers of thumbnails and marks, for `registerView`. @param {Store} store @returns {Record<string, Taker>} */
export function thumbnailsAndMarks(store) {
  const sheets = []; // the last used at the end
  const wanted = new Map(); // example → when it was asked for, or Infinity: not yet
  let timer = 0;

  /** Together with all that are missed in the same moment. */
  function want(i) {
    if (!store.study.image.asked || performance.now() - (wanted.get(i) ?? -AGAIN) < AGAIN) return;
    wanted.set(i, Infinity);
    timer ||= setTimeout(ask, 30);
  }

  function ask() {
    timer = 0;
    const now = performance.now();
    for (const [i, when] of wanted) if (when !== Infinity && now - when > AGAIN) wanted.delete(i);
    const examples = [...wanted.keys()].filter((i) => wanted.get(i) === Infinity);
    for (const i of examples) wanted.set(i, now);
    store.ask({ type: "pictures", examples });
  }

  /** The sheet of example `i`, whose `first` is such that `i` stands at its place. */
  store.thumbnail = (i) => {
    const index = sheets.findLastIndex((sheet) => sheet.at.has(i));
    if (index < 0) return void want(i);
    const [sheet] = sheets.splice(index, 1);
    sheets.push(sheet);
    sheet.first = i - sheet.at.get(i);
    return sheet;
  };
  /** Mark an example as memorized or not; the same mark again takes it away. */
  store.mark = (i, key) => {
    if (store.saved || !store.state) return;
    const marks = new Map(store.marks);
    const next = marks.get(i) === key ? "" : key;
    if (next) marks.set(i, next);
    else marks.delete(i);
    store.marks = marks;
    store.ask({ type: "mark", examples: [i], key: next });
    store.emit("state");
  };
  return {
    study() {
      sheets.length = 0;
      wanted.clear();
    },
    thumbnails(msg, { png, examples }) {
      const sheet = { tile: msg.tile, columns: msg.columns, first: 0, bitmap: null, at: new Map(Array.from(examples, (example, place) => [example, place])) };
      createImageBitmap(new Blob([png], { type: "image/png" })).then(
        (bitmap) => {
          sheet.bitmap = bitmap;
          sheets.push(sheet);
          if (sheets.length > SHEETS) sheets.shift().bitmap.close();
          store.emit("sprites");
        },
        () => undefined, // a picture that cannot be read leaves its frame empty
      );
    },
    state(msg) {
      const now = ["confirmed", "rejected"].flatMap((word) => (msg[word] || []).map((example) => [example, word]));
      // The same map while no mark has changed: the gallery counts anew when it is another.
      if (now.length !== store.marks.size || now.some(([example, word]) => store.marks.get(example) !== word)) store.marks = new Map(now);
    },
  };
}
