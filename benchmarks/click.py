"""From a click in the unit map to the changed figures, in a real JupyterLab, after the sweep.

    python -m benchmarks.click --json

For each layer in turn one unit is clicked, then a second, then both are clicked back. ``single``
ends when the live sentence has changed, ``first_group`` when the first group of the set of two
shows no estimate any more, ``all`` when no group does. Clicks while the sweep still runs, and an
empty round trip (a message to the kernel and back), are measured beside them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from playwright.sync_api import sync_playwright

from tests.browser.conftest import ARGS, find_chromium
from tests.support.jupyter import START, JupyterLab, Notebook

# Time from a click until each test holds, seen as soon as the page changes.
TIMED = """(click, tests) => new Promise((resolve) => {
    const times = tests.map(() => null);
    const start = performance.now();
    const look = () => {
      tests.forEach((test, i) => {
        if (times[i] === null && test()) times[i] = performance.now() - start;
      });
      if (times.includes(null)) return;
      watch.disconnect();
      resolve(times);
    };
    const watch = new MutationObserver(look);
    const all = { childList: true, subtree: true, characterData: true, attributes: true };
    watch.observe(document.querySelector(".mv"), all);
    click();
    look();
  })"""
CLICKS = """async ([rounds, rest]) => {
  const say = document.querySelector(".mv-say");
  const rows = () => [...document.querySelectorAll(".mv-acc")];
  const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  const press = (map, unit) => {
    const box = map.getBoundingClientRect();
    const [pitch, columns] = [Number(map.dataset.pitch), Number(map.dataset.columns)];
    const x = box.left + pitch * ((unit % columns) + 0.5);
    const y = box.top + pitch * (Math.floor(unit / columns) + 0.5);
    const mouse = { bubbles: true, pointerId: 1, isPrimary: true, pointerType: "mouse" };
    const event = { clientX: x, clientY: y, ...mouse };
    map.dispatchEvent(new PointerEvent("pointerdown", event));
    map.dispatchEvent(new PointerEvent("pointerup", event));
    map.dispatchEvent(new MouseEvent("click", event));
  };
  const timed = TIMED;
  const found = {};
  for (let i = 0; i < rounds; i++) {
    for (const map of document.querySelectorAll("canvas.mv-units")) {
      const times = (found[map.dataset.layer] ||= { single: [], first_group: [], all: [] });
      let before = say.textContent;
      const changed = () => say.textContent !== before;
      const [single] = await timed(() => press(map, 2 * i), [changed]);
      times.single.push(single);
      await sleep(rest);
      before = say.textContent;
      const exact = (row) => !row.matches(".mv-guess, .mv-stale");
      const [first, all] = await timed(() => press(map, 2 * i + 1), [
        () => changed() && exact(rows()[0]), () => changed() && rows().every(exact)]);
      times.first_group.push(first);
      times.all.push(all);
      for (const unit of [2 * i + 1, 2 * i]) {
        await sleep(rest);
        press(map, unit);
      }
      await sleep(rest);
    }
  }
  return found;
}""".replace("TIMED", TIMED)
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


KINDS = ("single", "first_group", "all")


def medians(times: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    """Medians of each kind over all layers, and layer by layer.

    Examples
    --------
    >>> medians({"fc": {"single": [1.0, 3.0], "first_group": [4.0], "all": [5.0]}})["single_ms"]
    2.0
    """
    found: dict[str, Any] = {}
    for kind in KINDS:
        everything = [time for of_layer in times.values() for time in of_layer[kind]]
        found[f"{kind}_ms"] = round(statistics.median(everything), 1)
    for kind in KINDS:
        by_layer = {name: round(statistics.median(t[kind]), 1) for name, t in times.items()}
        found[f"{kind}_by_layer_ms"] = by_layer
    return found


@contextmanager
def in_lab(name: str, cells: list[str]) -> Iterator[Notebook]:
    """A notebook in a JupyterLab of its own, which ends with the block."""
    path = find_chromium()
    if path is None:
        raise SystemExit("no Chromium: set MEMVIZ_CHROMIUM, or run `apt-get install chromium`.")
    lab = JupyterLab(Path(tempfile.mkdtemp()))
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=path, args=ARGS)
            notebook = Notebook(lab, browser, name, cells)
            yield notebook
            notebook.close()
    finally:
        lab.stop()


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print medians."""
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.click", description=__doc__)
    arguments.add_argument("--json", action="store_true", help="print one JSON object on one line")
    arguments.add_argument("--rounds", type=int, default=5, help="clicks of each kind and layer")
    chosen = arguments.parse_args(argv)
    with in_lab("click", [START]) as notebook:
        notebook.page.set_viewport_size({"width": 1400, "height": 2000})
        notebook.run_all()
        notebook.page.wait_for_selector("canvas.mv-units", timeout=60_000)
        during = notebook.page.evaluate(CLICKS, [1, 400])
        notebook.wait_for("swept()", True, seconds=300)
        quiet = notebook.page.evaluate(CLICKS, [chosen.rounds, 700])
        empty = notebook.page.evaluate(EMPTY)
    found = medians(quiet)
    found["while_sweeping_all_ms"] = medians(during)["all_ms"]
    found["empty_round_trip_ms"] = round(statistics.median(empty), 1)
    found |= {"rounds": chosen.rounds, "examples": 1797}
    found |= {"cores": os.cpu_count(), "torch": torch.__version__}
    print(json.dumps(found, indent=None if chosen.json else 1))


if __name__ == "__main__":
    main()
