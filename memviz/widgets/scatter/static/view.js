// @ts-check
/** The scatter of two unit scores, as a view of its own: the plot, and the pictures of the opened unit. */
import { liveLine } from "../../core/static/header.js";
import { registerView } from "../../core/static/views.js";
import { firingRegion } from "./firing.js";
import { scatterRegion } from "./scatter.js";

registerView({
  part: "scatter",
  title: "scatter of unit scores",
  state: () => ({ scatter: null, firing: null, brushed: new Set() }),
  takers: (store) => ({
    study() {
      store.brushed = new Set();
    },
    scatter(msg) {
      store.scatter = { ...msg };
    },
    firing(msg, arrays) {
      store.firing = { ...msg, ...arrays };
    },
  }),
  dirty: ["scatter", "firing"],
  build(view) {
    const regions = [liveLine(view), scatterRegion(view), firingRegion(view)];
    view.root.append(...regions.map((region) => region.root));
    return regions;
  },
});
