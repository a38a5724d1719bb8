"""A large study in the workbench, in a real JupyterLab: peak memory, and seconds to the figures.

    python -m benchmarks large

50,000 pictures are read from a dataset with a transform, which holds none of them, and a network of
1,000 hidden units is looked at: until the first figures stand on the page, then until thumbnails
far down the gallery do, then until a click on a unit is answered. The sweep goes on meanwhile.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from playwright.sync_api import sync_playwright
from torch import nn
from torch.utils.data import Dataset

import memviz as mv
from benchmarks.report import about, parser, show
from tests.browser.conftest import ARGS, find_chromium
from tests.support.jupyter import JupyterLab, Notebook

MIB = 2**20
_CELL = """\
from benchmarks import large
widget = large.opened({examples})
widget"""


class Drawn(Dataset[Any]):
    """Pictures that are drawn from their index when they are read."""

    def __init__(self, examples: int) -> None:
        self.examples = examples
        self.targets = [index % 10 for index in range(examples)]
        self.transform: Any = lambda image: torch.tensor(np.array(image)).permute(2, 0, 1) / 255

    def __len__(self) -> int:
        return self.examples

    def __getitem__(self, index: int) -> Any:
        coarse = np.random.default_rng(index).integers(0, 256, (4, 4, 3), np.uint8)
        image = Image.fromarray(coarse).resize((32, 32))
        return image if self.transform is None else self.transform(image), self.targets[index]


def study(examples: int) -> mv.Study:
    """A network of 1,000 hidden units and so many examples, a tenth of them suspected."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 32, 4, stride=4), nn.ReLU(), nn.Flatten(),
        nn.Linear(32 * 64, 968), nn.ReLU(), nn.Linear(968, 10),
    ).eval()  # fmt: skip
    cut = [examples // 10, examples * 8 // 10]
    groups = {"memorized": range(cut[0]), "clean": range(*cut), "test": range(cut[1], examples)}
    return mv.Study(model, Drawn(examples), groups=groups, name="large")


def opened(examples: int) -> Any:
    """The workbench of that study, which keeps the size of its largest message."""
    widget: Any = mv.workbench(mv.Session(study(examples)))
    widget.largest, tell = 0, widget.tell

    def weighed(message: Any) -> None:
        widget.largest = max(widget.largest, sum(map(len, message.buffers)))
        tell(message)

    widget.tell = weighed
    return widget


class _Peak:
    """The most memory that the descendants of this process with a name had together, in MiB."""

    def __init__(self, name: str) -> None:
        self.mib, self._name, self._over = 0.0, name, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """End the watch; the peak so far."""
        self._over.set()
        self._thread.join()
        return self.mib

    def _watch(self) -> None:
        while not self._over.wait(0.3):
            own = [pid for pid in _descendants(os.getpid()) if self._name in _read(pid, "comm")]
            # Pss counts what processes share once.
            lines = [_read(pid, "smaps_rollup").split("\nPss:")[-1].split() for pid in own]
            self.mib = max(self.mib, sum(int(line[0]) for line in lines if line) / 1024)


def _descendants(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        stat = _read(int(path.name), "stat").rpartition(")")[2].split()
        if stat:
            children.setdefault(int(stat[1]), []).append(int(path.name))
    found, left = [], [root]
    while left:
        left += (below := children.get(left.pop(), []))
        found += below
    return found


def _read(pid: int, name: str) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/{name}").read_text()
    return ""


def measure(examples: int = 50_000, *, seconds: int = 900) -> dict[str, Any]:
    """Open the study, scroll, click; give up after so many seconds."""
    path = find_chromium()
    if path is None:
        raise SystemExit("no Chromium: set MEMVIZ_CHROMIUM, or run `apt-get install chromium`.")
    found: dict[str, Any] = {"benchmark": "large", "examples": examples, "units": 1000}
    lab = JupyterLab(Path(tempfile.mkdtemp()))
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=path, args=ARGS)
            peak = _Peak("chrom")
            notebook = Notebook(lab, browser, "large", [_CELL.format(examples=examples)])
            page, begun = notebook.page, time.perf_counter()
            page.set_default_timeout(seconds * 1000)
            found["browser_before_mib"] = round(peak.mib)

            def since(name: str, start: float) -> None:
                found[name] = round(time.perf_counter() - start, 1)

            notebook.run_all()
            page.wait_for_function(_FIGURES)
            since("seconds_to_figures", begun)
            page.wait_for_function(_DRAWN)
            since("seconds_to_thumbnails", begun)
            start = time.perf_counter()
            page.evaluate("document.querySelector('.mv-tiles').scrollTop = 200000")
            page.wait_for_timeout(100)
            page.wait_for_function(_DRAWN)
            since("seconds_to_thumbnails_far_down", start)
            start, said = time.perf_counter(), page.locator(".mv-say").inner_text()
            notebook.python("widget.session.toggle('3:7')")
            page.wait_for_function(
                "said => document.querySelector('.mv-say').innerText !== said", arg=said
            )
            since("seconds_to_answer", start)
            page.wait_for_timeout(10_000)  # of the sweep
            status = notebook.python("open('/proc/self/status').read()")
            found["kernel_peak_mib"] = int(status.split("VmHWM:")[1].split()[0]) // 1024
            found["browser_peak_mib"] = round(peak.stop())
            found["largest_message_mib"] = round(notebook.python("widget.largest") / MIB, 2)
            notebook.close()
    finally:
        lab.stop()
    return {**found, "about": about()}


_FIGURES = (
    "document.querySelector('.mv-say') && /%|\\d/.test(document.querySelector('.mv-say').innerText)"
)
_DRAWN = """() => {
  const shown = [...document.querySelectorAll(".mv-tile canvas")];
  const inked = (c) => c.getContext("2d").getImageData(0, 0, 1, 1).data[3] > 0;
  return shown.length > 10 && shown.every(inked);
}"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    made = parser("large", __doc__)
    made.add_argument("--examples", type=int, default=50_000)
    given = made.parse_args(arguments)
    show(measure(given.examples), as_json=given.json)


if __name__ == "__main__":
    main()
