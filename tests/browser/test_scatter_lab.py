"""The scatter in a real JupyterLab beside a unit map: brush, ablate, undo, open a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.jupyter import JupyterLab
from tests.support.lab import opened, says

pytestmark = pytest.mark.browser

SCATTER = """\
import memviz as mv
from memviz.probes.encoders.units import unit_mem
from memviz.widgets import score_scatter
study = mv.demo("digits")
session = mv.Session(study)
scatter = score_scatter(session, scores={"UnitMem": unit_mem(study, progress=False)})
scatter"""
CUT_SHORT = """\
import time
def cut_short():
    session.use("mean")
    while "mean" not in scatter.controller.effects or not scatter.controller.effects["mean"].done.any():
        time.sleep(0.005)
    scatter.controller.cancel()"""


def cancel_and_go_on(notebook: Any, pictures: Path) -> None:
    """Estimate against exact effect, where the sweep of another intervention is cut short."""
    page = notebook.page
    page.locator(".mv-part-scatter select[data-axis=x]").select_option("estimate")
    notebook.python("cut_short()")
    page.wait_for_selector(".mv-sweeprest:visible", timeout=90_000)
    words = page.locator(".mv-sofar").inner_text()
    done = notebook.python("int(scatter.controller.effects['mean'].done.sum())")
    assert words == f"{done} of 320 units exact. The others are not drawn." and 0 < done < 320
    dots = page.locator("canvas.mv-dots")
    assert dots.get_attribute("aria-label").startswith(f"{done} units, ")
    for theme in ("Light", "Dark"):
        notebook.theme(f"JupyterLab {theme}")
        page.wait_for_timeout(400)
        shot = pictures / f"scatter-cancelled-{theme.lower()}.png"
        page.locator(".mv-part-scatter").screenshot(path=shot)
    page.locator(".mv-sweeprest").click()
    notebook.wait_for("bool(scatter.controller.effects['mean'].done.all())", True, seconds=60)
    page.wait_for_selector(".mv-sofar", state="hidden", timeout=90_000)
    assert dots.get_attribute("aria-label").startswith("320 units, ")


def test_brush_ablate_undo_and_open(
    lab: JupyterLab,
    browser: Any,
    pictures: Path,
) -> None:
    cells = [SCATTER, CUT_SHORT, "mv.unit_map(session)", "mv.example_gallery(session)"]
    notebook = opened(lab, browser, "scatter", cells)
    page = notebook.page
    try:
        page.wait_for_selector("canvas.mv-dots")
        swept = "bool(scatter.controller.effects) and bool(scatter.controller.effects['zero'].done.all())"
        notebook.wait_for(swept, True, seconds=120)
        page.wait_for_timeout(300)
        # A rectangle over the upper half: the units that memorized examples need most.
        box = page.locator("canvas.mv-dots").bounding_box()
        page.mouse.move(box["x"] + 60, box["y"] + 12)
        page.mouse.down()
        page.mouse.move(box["x"] + 200, box["y"] + 100, steps=3)
        page.mouse.move(box["x"] + box["width"] - 20, box["y"] + box["height"] * 0.6, steps=3)
        page.mouse.up()
        count = int(page.locator(".mv-brushed").inner_text().split()[0].replace(",", ""))
        assert 0 < count < 320
        page.locator(".mv-ablatebrushed").click()
        notebook.wait_for("len(session.units)", count)
        words = notebook.python("mv.readout(study, session.units, random_draws=0).sentence")
        says(notebook, words)
        # The unit map follows: as many are off there.
        offs = page.locator(".mv-part-units .mv-map h3 small").all_inner_texts()
        assert sum(int(t.split(" · ")[1].split()[0]) for t in offs if " off" in t) == count
        page.locator("canvas.mv-dots").focus()
        page.keyboard.press("Control+z")
        notebook.wait_for("len(session.units)", 0)
        page.keyboard.press("Control+Shift+z")
        notebook.wait_for("len(session.units)", count)

        # The last unit in the order of UnitMem, by the keys alone, and one of its pictures.
        page.keyboard.press("End")
        page.keyboard.press("Enter")
        page.wait_for_selector(".mv-fire", timeout=90_000)
        told = notebook.python(
            "[str(scatter.controller.parts['scatter'].unit), *map(int, "
            "__import__('memviz.engine.activations._top_examples', fromlist=['x']).top_examples(study).of("
            "scatter.controller.parts['scatter'].unit)[0])]"
        )
        layer, unit = told[0].rsplit(":", 1)
        assert f"{layer} unit {unit} fires most on" in page.locator(".mv-firing h3").inner_text()
        shown = [int(t.get_attribute("data-example")) for t in page.locator(".mv-fire").all()]
        assert shown == told[1:]
        page.locator(".mv-fire").first.click()
        notebook.wait_for("session.opened", shown[0])
        page.wait_for_selector(".mv-part-examples .mv-open", timeout=90_000)
        page.mouse.move(0, 0)
        for theme in ("Light", "Dark"):
            notebook.theme(f"JupyterLab {theme}")
            page.wait_for_timeout(400)
            shot = pictures / f"scatter-{theme.lower()}.png"
            page.locator(".mv-part-scatter").screenshot(path=shot)
        cancel_and_go_on(notebook, pictures)
        assert notebook.errors == []
    finally:
        notebook.close()
