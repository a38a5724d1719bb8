"""From a click in the unit map to the changed text, in a real JupyterLab.

    python -m benchmarks.click

Each click toggles one unit of a layer in turn; the time ends when the live sentence has changed on
the page. An empty round trip (a message to the kernel and back) is measured beside it.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
from pathlib import Path

import torch
from playwright.sync_api import sync_playwright

from tests.browser.conftest import ARGS, find_chromium
from tests.support.jupyter import START, JupyterLab, Notebook

CLICKS = """async ([each]) => {
  const say = document.querySelector(".mv-say");
  const times = {};
  for (let i = 0; i < each; i++) {
    for (const map of document.querySelectorAll("canvas.mv-units")) {
      const box = map.getBoundingClientRect();
      const pitch = Number(map.dataset.pitch);
      const place = { clientX: box.left + pitch * (1.5 + (i % 4)), clientY: box.top + pitch / 2 };
      const mouse = { bubbles: true, pointerId: 1, isPrimary: true, pointerType: "mouse" };
      const event = { ...place, ...mouse };
      const before = say.textContent;
      const start = performance.now();
      const changed = new Promise((resolve) => {
        const watch = new MutationObserver(() => {
          if (say.textContent === before) return;
          watch.disconnect();
          resolve(performance.now() - start);
        });
        watch.observe(say, { childList: true, subtree: true, characterData: true });
      });
      map.dispatchEvent(new PointerEvent("pointerdown", event));
      map.dispatchEvent(new PointerEvent("pointerup", event));
      map.dispatchEvent(new MouseEvent("click", event));
      (times[map.dataset.layer] ||= []).push(await changed);
      await new Promise((resolve) => setTimeout(resolve, 400));
    }
  }
  return times;
}"""
EMPTY = """async () => {
  const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
  const times = [];
  for (let i = 0; i < 20; i++) {
    const start = performance.now();
    await kernel.requestKernelInfo();
    times.push(performance.now() - start);
  }
  return times;
}"""


def main() -> None:
    """Measure and print medians."""
    path = find_chromium()
    if path is None:
        raise SystemExit("no Chromium: set MEMVIZ_CHROMIUM, or run `apt-get install chromium`.")
    lab = JupyterLab(Path(tempfile.mkdtemp()))
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=path, args=ARGS)
            notebook = Notebook(lab, browser, "click", [START])
            notebook.page.set_viewport_size({"width": 1400, "height": 2000})
            notebook.run_all()
            notebook.page.wait_for_selector("canvas.mv-units", timeout=60_000)
            during = notebook.page.evaluate(CLICKS, [3])
            notebook.wait_for("swept()", True, seconds=300)
            quiet = notebook.page.evaluate(CLICKS, [8])
            empty = notebook.page.evaluate(EMPTY)
            notebook.close()
    finally:
        lab.stop()
    everything = [time for times in quiet.values() for time in times]
    print(
        json.dumps(
            {
                "median_ms": round(statistics.median(everything), 1),
                "by_layer_ms": {k: round(statistics.median(v), 1) for k, v in quiet.items()},
                "while_sweeping_ms": round(
                    statistics.median(time for times in during.values() for time in times), 1
                ),
                "empty_round_trip_ms": round(statistics.median(empty), 1),
                "clicks": len(everything),
                "examples": 1797,
                "cores": os.cpu_count(),
                "torch": torch.__version__,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
