// @ts-check
/** The example inspector as a view of its own: the examples, and everything known about the opened one. */
import { liveLine } from "../../core/static/header.js";
import { registerView } from "../../core/static/views.js";
import { examples } from "../../workbench/static/examples.js";
import { inspectorRegion } from "./inspector.js";

registerView({
  part: "inspector",
  title: "example inspector",
  state: () => ({ inspected: null }),
  takers: (store) => ({
    inspected(msg, arrays) {
      if (!store.state || msg.index !== store.state.opened) return false;
      store.inspected = { ...msg, ...arrays };
    },
  }),
  dirty: ["inspected"],
  build(view) {
    const live = liveLine(view);
    const chosen = examples(view);
    const inspect = inspectorRegion(view);
    view.root.append(live.root, chosen.root, inspect.root);
    return [live, ...chosen.regions, inspect];
  },
});
