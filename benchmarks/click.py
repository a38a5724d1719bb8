"""From a click in the unit map to the changed figures, in a real JupyterLab, after the sweep.

    python -m benchmarks.click --json
    python -m benchmarks.click --cifar10 FOLDER --effects resnet9.safetensors

For each layer in turn one unit is clicked, then a second, then both are clicked back. ``single``
ends when the live sentence has changed, ``first_group`` when the first group of the set of two
shows no estimate any more, ``all`` when no group does. Clicks while the sweep still runs, and an
empty round trip (a message to the kernel and back), are measured beside them.

With ``--cifar10`` it is ResNet-9, its weights at random, on 2,000 images of CIFAR-10. A whole sweep
of it takes an hour of one core: the units that are clicked come from one of the first by estimate,
which is kept in a file and goes on from there, and no other runs meanwhile.
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

import memviz as mv
from benchmarks.models import subject
from memviz.data.loaders import load_cifar10
from tests.browser.conftest import ARGS, find_chromium
from tests.support.jupyter import START, JupyterLab, Notebook

# Time from a click until each test holds, seen as soon as the page changes.
TIMED = """(click, tests) => new Promise((resolve, reject) => {
    const times = tests.map(() => null);
    const start = performance.now();
    const late = setTimeout(() => reject(new Error("no answer to a click in five minutes")), 3e5);
    const look = () => {
      tests.forEach((test, i) => {
        if (times[i] === null && test()) times[i] = performance.now() - start;
      });
      if (times.includes(null)) return;
      clearTimeout(late);
      watch.disconnect();
      resolve(times);
    };
    const watch = new MutationObserver(look);
    const all = { childList: true, subtree: true, characterData: true, attributes: true };
    watch.observe(document.querySelector(".mv"), all);
    click();
    look();
  })"""
CLICKS = """async ([rounds, rest, exact]) => {
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
      const units = exact[map.dataset.layer] || [];
      if (units.length < 2 * i + 2) continue;
      const [first_unit, second_unit] = units.slice(2 * i, 2 * i + 2);
      const times = (found[map.dataset.layer] ||= { single: [], first_group: [], all: [] });
      let before = say.textContent;
      const changed = () => say.textContent !== before;
      const [single] = await timed(() => press(map, first_unit), [changed]);
      times.single.push(single);
      await sleep(rest);
      before = say.textContent;
      const told = (row) => !row.matches(".mv-guess, .mv-stale");
      const [first, all] = await timed(() => press(map, second_unit), [
        () => changed() && told(rows()[0]), () => changed() && rows().every(told)]);
      times.first_group.push(first);
      times.all.push(all);
      for (const unit of [second_unit, first_unit]) {
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
# The rows of the units that are clicked are exact before the view opens.
RESNET9 = """\
import memviz as mv
from benchmarks.click import resnet9_study
study = resnet9_study(FOLDER)
effects = mv.sweep(study, top=TOP, path=EFFECTS)
widget = mv.workbench(study, effects=effects)
widget"""
IMAGES = 2000
TOP = 100
# The units of each layer whose figures the page has: exact, and no example on the edge.
EXACT = """{layer.name: [unit.index for unit, done in zip(effects.units, effects.done.tolist())
    if done and unit.layer == layer.name
    and widget.controller.scores.singles.answers("zero", mv.UnitSet([unit]))]
    for layer in mv.layers(study) if not layer.is_output}"""
KINDS = ("single", "first_group", "all")


def resnet9_study(folder: str | Path, images: int = IMAGES) -> mv.Study:
    """ResNet-9, its weights at random, on the first images of CIFAR-10, in two halves."""
    cifar10 = load_cifar10(folder)
    inputs = cifar10.inputs()[:images]
    groups = {"memorized": range(images // 2), "clean": range(images // 2, images)}
    return mv.Study(subject("resnet9").model, inputs, cifar10.labels[:images], groups)


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


def measured(cells: list[str], rounds: int) -> dict[str, Any]:
    """Medians of the clicks, of those during the sweep if there is one to wait for."""
    found: dict[str, Any] = {}
    with in_lab("click", cells) as notebook:
        notebook.page.set_viewport_size({"width": 1400, "height": 2000})
        notebook.run_all()
        notebook.page.wait_for_selector("canvas.mv-units", timeout=300_000)
        if cells == [START]:
            names = notebook.python("[layer.name for layer in mv.layers(study)]")
            exact = {name: list(range(2 * rounds)) for name in names}
            during = notebook.page.evaluate(CLICKS, [1, 400, exact])
            found["while_sweeping_all_ms"] = medians(during)["all_ms"]
            notebook.wait_for("swept()", True, seconds=300)
        else:
            notebook.page.locator(".mv-cancel", has_text="cancel").click(timeout=300_000)
            notebook.page.locator(".mv-cancel", has_text="go on").wait_for(timeout=300_000)
            exact = notebook.python(" ".join(EXACT.split()))
            # A first set, and the rest after it, in which the first group is recorded by itself.
            notebook.python("widget.session.ablate('conv1:0,1')")
            ready = "widget.controller._answers._first_ready() is not None"
            notebook.wait_for(ready, True, seconds=300)
            notebook.python("widget.session.reset()")
            notebook.page.wait_for_timeout(15_000)
        quiet = notebook.page.evaluate(CLICKS, [rounds, 700, exact])
        empty = notebook.page.evaluate(EMPTY)
        found["examples"] = notebook.python("len(study)")
    found["empty_round_trip_ms"] = round(statistics.median(empty), 1)
    return medians(quiet) | found


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print medians."""
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.click", description=__doc__)
    arguments.add_argument("--json", action="store_true", help="print one JSON object on one line")
    arguments.add_argument("--rounds", type=int, default=5, help="clicks of each kind and layer")
    arguments.add_argument("--cifar10", help="folder of CIFAR-10: measure ResNet-9 on it")
    arguments.add_argument("--effects", help="file that keeps the sweep of ResNet-9")
    chosen = arguments.parse_args(argv)
    if (chosen.cifar10 is None) != (chosen.effects is None):
        arguments.error("give --cifar10 and --effects together")
    cell = START
    if chosen.cifar10 is not None:
        given = (chosen.cifar10, chosen.effects)
        folder, effects = (str(Path(name).absolute()) for name in given)
        mv.sweep(resnet9_study(folder), top=TOP, path=effects)
        cell = RESNET9.replace("FOLDER", repr(folder)).replace("EFFECTS", repr(effects))
        cell = cell.replace("TOP", str(TOP))
    found = measured([cell], chosen.rounds) | {"rounds": chosen.rounds}
    found |= {"cores": os.cpu_count(), "torch": torch.__version__}
    print(json.dumps(found, indent=None if chosen.json else 1))


if __name__ == "__main__":
    main()
