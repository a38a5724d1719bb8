"""The gate map in a real JupyterLab: choose gates, set them, trace an example, undo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.jupyter import JupyterLab
from tests.support.lab import opened, says

pytestmark = pytest.mark.browser

START = """\
import memviz as mv
from tests.support.gates import CURVES, gate_study
study = gate_study()
view = mv.gates(study, CURVES)
session = view.session
view"""


def test_gates_are_set_traced_and_undone(lab: JupyterLab, browser: Any, pictures: Path) -> None:
    notebook = opened(lab, browser, "gates", [START], ".mv-gt-grid")
    page = notebook.page
    try:
        says(notebook, "Every gate is as trained: memorized 100%")
        grid = page.locator(".mv-gt-grid")
        cell = grid.locator("[role=gridcell]")
        # The chosen gate is set by keys; the figures are those of the plain readout.
        chosen = notebook.python("view.controller.chosen")
        unit = f"4.gates:{chosen - 50}"
        grid.focus()
        page.keyboard.press("0")
        notebook.wait_for(f"session.settings == {{{chosen}: 'zero'}}", True)
        after = notebook.python(
            f"mv.readout(study, '{unit}', 'zero', random_draws=0).groups['clean'].after.correct"
        )
        before = notebook.python("session.circuits.before.groups['clean'].correct")
        says(notebook, f"clean {before} → {after} of 50" if before != after else "clean")
        page.keyboard.press("n")
        notebook.wait_for(f"session.settings == {{{chosen}: 'negation'}}", True)
        page.keyboard.press("Control+z")
        notebook.wait_for(f"session.settings == {{{chosen}: 'zero'}}", True)
        page.keyboard.press("Control+z")
        notebook.wait_for("session.settings == {}", True)
        # Along wire a, and on to the next example.
        page.keyboard.press("w")
        notebook.wait_for("20 <= view.controller.chosen < 50", True)
        assert cell.inner_text().startswith("layer 2 gate ")
        page.keyboard.press("]")
        notebook.wait_for("session.opened", 1)
        page.get_by_text("Example 1, bit by bit").wait_for()
        # The top gates, with random ones beside them.
        notebook.wait_for("view.controller.scores.done", True)
        page.locator(".mv-k").fill("5")
        page.keyboard.press("Enter")
        notebook.wait_for("len(session.settings)", 5)
        says(notebook, "live gates set: ")
        page.get_by_text("200 draws").wait_for(timeout=120_000)
        page.set_viewport_size({"width": 1400, "height": 1500})
        page.mouse.move(0, 0)
        for theme in ("Light", "Dark"):
            notebook.theme(f"JupyterLab {theme}")
            page.wait_for_timeout(400)
            page.locator(".mv").first.screenshot(path=pictures / f"gates-{theme.lower()}.png")
        page.locator(".mv-code").click()
        page.locator(".mv-codebox pre", has_text="view = mv.gates(study, curves)").wait_for()
        assert notebook.errors == []
    finally:
        notebook.close()
