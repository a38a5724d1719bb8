"""CPU seconds and peak memory of every notebook of the course, each in a kernel of its own.

    python -m benchmarks notebooks                 all, one after another
    python -m benchmarks notebooks 03 --cells      one, cell by cell
    python -m benchmarks notebooks --solutions     also the hidden solutions, where they stand

Runs copies, as the tests do: the notebooks stay without outputs. Seconds are user and system time
of the kernel and its children; memory is the largest resident memory of the kernel. Both are read
from outside, from Linux's own figures, so that nothing is added to what the notebook does. A
solution that fails is named, and the command ends with 1; what it printed is shown.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

from benchmarks.report import about, parser, show

FOLDER = Path(__file__).parents[1] / "notebooks"
_TICKS = os.sysconf("SC_CLK_TCK")
_SOLUTION = re.compile(r"<details><summary>A solution</summary>(.*?)</details>", re.S)
_SHOWN = ("image/png", "text/html", "application/vnd.jupyter.widget-view+json")


def measure(
    numbers: Sequence[str] = (), *, cells: bool = False, solutions: bool = False
) -> dict[str, Any]:
    """Run notebooks one after another.

    Parameters
    ----------
    numbers : sequence of str
        Beginnings of their names, such as "03"; all unless given.
    cells : bool
        Also each cell that took a second, or peaked at a gigabyte.
    solutions : bool
        Run the hidden solutions, too, each below its exercise. The processor time of the
        notebook is without them; what the clock says and memory is not.
    """
    chosen = [p for p in sorted(FOLDER.glob("*.ipynb")) if p.name.startswith(tuple(numbers) or "")]
    if not chosen:
        raise SystemExit(f"notebooks: none in {FOLDER} begins with {', '.join(numbers)}.")
    found: dict[str, Any] = {"benchmark": "notebooks"}
    for path in chosen:
        print(f"{path.stem} ...", file=sys.stderr, flush=True)
        facts = run(path, solutions=solutions)
        found[path.stem] = facts if cells else {k: v for k, v in facts.items() if k != "cells"}
    return {**found, "threads of each kernel": os.getenv("OMP_NUM_THREADS"), "about": about()}


def run(path: Path, *, solutions: bool = False) -> dict[str, Any]:
    """Run one notebook in a kernel of its own.

    Returns
    -------
    dict
        ``cpu_seconds``; ``peak_gb``, in 10^9 bytes; ``first_seen``, seconds on the clock until the
        first picture, table or view, and ``cpu_first_seen``; ``seconds`` on the clock in all;
        ``cells``; and ``solutions``, of each the seconds, the peak and the text that it printed,
        or its error.
    """
    with tempfile.TemporaryDirectory() as folder:
        where = {"metadata": {"path": folder}}
        book = nbformat.read(path, as_version=4)
        answers = add_solutions(book) if solutions else {}
        client = NotebookClient(book, timeout=None, kernel_name="python3", resources=where)
        kept: dict[str, dict[str, float]] = {}
        began = time.monotonic()
        facts: dict[str, Any] = {"peak_gb": 0.0}

        def kernel() -> int:
            return int(client.km.provisioner.pid)

        def before(cell: Any, cell_index: int) -> None:
            # Forget the peak, so that the next one is this cell's own.
            Path(f"/proc/{kernel()}/clear_refs").write_text("5", encoding="ascii")
            kept[cell.id] = {"cpu_seconds": cpu_seconds(kernel())}

        def after(cell: Any, cell_index: int, execute_reply: Any) -> None:
            now, peak = cpu_seconds(kernel()), peak_gb(kernel())
            started = kept[cell.id]["cpu_seconds"]
            kept[cell.id] = {"cpu_seconds": round(now - started, 1), "peak_gb": round(peak, 2)}
            if cell.id in answers:
                answers[cell.id] = kept.pop(cell.id) | said(cell.outputs)
                return
            apart = sum(answer.get("cpu_seconds", 0) for answer in answers.values())
            facts["cpu_seconds"] = round(now - apart, 1)
            facts["peak_gb"] = max(facts["peak_gb"], round(peak, 2))
            if any(kind in _SHOWN for output in cell.outputs for kind in output.get("data", ())):
                facts.setdefault("first_seen", round(time.monotonic() - began, 1))
                facts.setdefault("cpu_first_seen", round(now, 1))

        client.on_cell_execute, client.on_cell_executed = before, after
        client.execute()
        facts["seconds"] = round(time.monotonic() - began, 1)
    heavy = {k: v for k, v in kept.items() if v["cpu_seconds"] >= 1 or v["peak_gb"] >= 1}
    return {**facts, "cells": heavy, **({"solutions": answers} if solutions else {})}


def add_solutions(book: nbformat.NotebookNode) -> dict[str, dict[str, Any]]:
    """Put a cell with the code of each hidden solution below it; the ids of these cells."""
    cells, added = [], {}
    for cell in book.cells:
        cells.append(cell)
        for hidden in _SOLUTION.findall(cell.source if cell.cell_type == "markdown" else ""):
            code = "\n".join(re.findall(r"```python\n(.*?)```", hidden, re.S))
            # Of one that fails the error is an output, and the others run.
            solution = nbformat.v4.new_code_cell(code, metadata={"tags": ["raises-exception"]})
            solution.id = f"{cell.id}-solution"
            added[solution.id] = {}
            cells.append(solution)
    book.cells = cells
    return added


def said(outputs: Sequence[Any]) -> dict[str, str]:
    """What a cell printed or returned, as text; or its error."""
    errors = [f"{one.ename}: {one.evalue}" for one in outputs if one.output_type == "error"]
    texts = [
        one.text if one.output_type == "stream" else one.data.get("text/plain", "")
        for one in outputs
        if one.output_type in ("execute_result", "display_data")
        or (one.output_type == "stream" and one.name == "stdout")
    ]
    return {"error": errors[0]} if errors else {"said": "\n".join(texts).strip()}


def cpu_seconds(process: int) -> float:
    """User and system time of a process and of its children that have ended."""
    line = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2]
    return sum(int(ticks) for ticks in line.split()[11:15]) / _TICKS


def peak_gb(process: int) -> float:
    """Largest resident memory of a process since its peak was last forgotten."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) * 1024 / 1e9 if found else float("nan")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    arguments = parser("notebooks", __doc__)
    arguments.add_argument("numbers", nargs="*", metavar="NUMBER", help="such as 03; all without")
    arguments.add_argument("--cells", action="store_true", help="the heavy cells, too")
    arguments.add_argument("--solutions", action="store_true", help="the hidden solutions, too")
    chosen = arguments.parse_args(argv)
    found = measure(chosen.numbers, cells=chosen.cells, solutions=chosen.solutions)
    show(found, as_json=chosen.json)
    books = [book for book in found.values() if isinstance(book, dict)]
    failed = [name for b in books for name, s in b.get("solutions", {}).items() if "error" in s]
    if failed:
        raise SystemExit(f"notebooks: these solutions fail: {', '.join(failed)}.")


if __name__ == "__main__":
    main()
