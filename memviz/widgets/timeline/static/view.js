// @ts-check
/** The timeline as a view of its own. */
import { liveLine } from "../../core/static/header.js";
import { registerView } from "../../core/static/views.js";
import { timelineRegion } from "./timeline.js";

registerView({
  part: "timeline",
  title: "timeline",
  state: () => ({ timeline: null, rewound: null }),
  takers: (store) => ({
    timeline(msg) {
      store.timeline = msg;
    },
    rewound(msg) {
      store.rewound = msg;
    },
  }),
  dirty: ["timeline", "rewound"],
  build(view) {
    const regions = [liveLine(view), timelineRegion(view)];
    view.root.append(...regions.map((region) => region.root));
    return regions;
  },
});
