// @ts-check
/** The anywidget module: one store for each model, one view for each place it is shown. */
import { createStore } from "./store.js";
import { createView } from "./view.js";
import { views } from "./views.js";

// A host hands each call its own wrapper of the model, so the store is found by the model's `uid`.
const stores = new Map();

function storeKey(model) {
  return model.get("uid") || "only";
}

function openStore(model) {
  const store = createStore((msg) => model.send(msg));
  // A kernel that restarts is noticed before the next click: asking throws.
  const hears = { "msg:custom": store.receive, comm_live_update: () => store.ask({ type: "hello" }) };
  for (const name in hears) model.on(name, hears[name]);
  const close = () => {
    for (const name in hears) model.off(name, hears[name]);
    store.close();
  };
  return { store, close };
}

function initialize({ model }) {
  const key = storeKey(model);
  const opened = openStore(model);
  stores.set(key, opened.store);
  return () => {
    opened.close();
    if (stores.get(key) === opened.store) stores.delete(key);
  };
}

function render({ model, el }) {
  const shared = stores.get(storeKey(model));
  const opened = shared ? { store: shared, close: () => {} } : openStore(model);
  const close = createView(opened.store, el, model.get("part"));
  return () => {
    close();
    opened.close();
  };
}

/** Show a saved view without a kernel. `snapshot` is a list of {msg, buffers: [base64]}. @type {Mounts} */
function mount(root, part, snapshot) {
  const store = createStore(() => {}, true, views.get(part)?.alone);
  const close = createView(store, root, part);
  for (const { msg, buffers = [] } of snapshot) {
    store.receive(msg, buffers.map((text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0))));
  }
  return () => {
    close();
    store.close();
  };
}

export { mount };
export default { initialize, render };
