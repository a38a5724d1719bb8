"""The gate map of the demo: its first picture, and from a click to the changed figures.

    python -m benchmarks gate_click

``first_picture_cpu_seconds`` is the CPU time of ``mv.gates(study)`` and its still picture in a new
process, once the study is there; ``first_picture_seconds`` goes from the start of a cell in a real
JupyterLab until the browser shows the map with its figures. There a gate is then clicked twenty
times, to set it: ``set_ms`` ends when the live sentence has changed; ``trace_ms`` goes from a key
that moves to the next gate until that gate's bits are traced back.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.click import EMPTY, TIMED, in_lab
from benchmarks.report import about, parser, show, significant

STUDY = """\
import time, memviz as mv
study = mv.demo("gates")"""
VIEW = """\
began = time.time()
view = mv.gates(study)
view"""
ALONE = f"""{STUDY}
began = time.process_time()
mv.gates(study)._repr_mimebundle_()
print(time.process_time() - began)
"""
# Called as soon as the page is there: the time of day at which the map with its figures is drawn.
FIRST = """() => new Promise((resolve) => {
  const drawn = () => {
    const [say, cells] = [".mv-say", ".mv-gt-cells"].map((name) => document.querySelector(name));
    const ready = say && cells && say.textContent.includes("Every gate") && cells.width > 300;
    if (ready) resolve(Date.now() / 1000);
    else requestAnimationFrame(drawn);
  };
  drawn();
})"""
CLICKS = """async (rounds) => {
  const timed = TIMED;
  const [grid, say] = [".mv-gt-grid", ".mv-say"].map((name) => document.querySelector(name));
  const cell = grid.querySelector("[role=gridcell]");
  const until = async (test) => {
    const end = performance.now() + 60_000;
    while (!test()) {
      if (performance.now() > end) throw new Error("nothing came in a minute");
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  };
  const press = (key) => grid.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  const click = () => {
    const box = document.querySelector(".mv-gt-ring").getBoundingClientRect();
    const place = { clientX: box.x + box.width / 2, clientY: box.y + box.height / 2 };
    grid.dispatchEvent(new MouseEvent("click", { bubbles: true, ...place }));
  };
  const quiet = () => new Promise((resolve) => setTimeout(resolve, 400));
  const trace = () => document.querySelector(".mv-gt-wires").getAttribute("aria-label");
  const found = { trace: [], set: [] };
  for (let i = 0; found.set.length < rounds; i++) {
    let before = trace();
    const key = ["PageUp", "ArrowRight", "ArrowRight", "PageDown"][i % 4];
    const [moved] = await timed(() => press(key), [() => trace() !== before]);
    found.trace.push(moved);
    await quiet();
    if (cell.textContent.includes("dead")) continue;
    before = say.textContent;
    const [set] = await timed(click, [() => say.textContent !== before]);
    found.set.push(set);
    // Random gates are drawn in the background; the next click comes when they are there.
    await until(() => document.querySelector(".mv-gt-read").textContent.match(/(?<!of )200 draws/));
    before = say.textContent;
    click();
    await until(() => say.textContent !== before);
    await quiet();
  }
  return found;
}""".replace("TIMED", TIMED)


def measure(*, clicks: int = 20, repeats: int = 3) -> dict[str, Any]:
    """Times of the first picture, and medians over clicks."""
    command = [sys.executable, "-c", ALONE]
    alone = [float(subprocess.check_output(command, text=True)) for _ in range(repeats)]
    with in_lab("gate_click", [STUDY, VIEW]) as notebook:
        notebook.page.set_viewport_size({"width": 1400, "height": 1500})
        notebook.run_all()
        shown = notebook.page.evaluate(FIRST)
        first = shown - notebook.python("began")
        notebook.wait_for("view.controller.scores.done", True, seconds=120)
        found = notebook.page.evaluate(CLICKS, clicks)
        empty = notebook.page.evaluate(EMPTY)
        facts = notebook.python("[view.controller.circuits.circuit.gates, len(study)]")
    return {
        "benchmark": "gate_click",
        "gates": facts[0],
        "examples": facts[1],
        "first_picture_cpu_seconds": significant(statistics.median(alone)),
        "first_picture_seconds": significant(first),
        "set_ms": significant(statistics.median(found["set"])),
        "set_slowest_ms": significant(max(found["set"])),
        "trace_ms": significant(statistics.median(found["trace"])),
        "clicks": len(found["set"]),
        "empty_round_trip_ms": significant(statistics.median(empty)),
        "about": about(),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    arguments = parser("gate_click", __doc__)
    arguments.add_argument("--clicks", type=int, default=20)
    arguments.add_argument("--repeats", type=int, default=3, help="new processes")
    chosen = arguments.parse_args(argv)
    show(measure(clicks=chosen.clicks, repeats=chosen.repeats), as_json=chosen.json)


if __name__ == "__main__":
    main()
