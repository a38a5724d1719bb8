"""The déjà vu explorer in a real JupyterLab: pick a pair, ablate, watch, edit the caption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.jupyter import JupyterLab
from tests.support.lab import click_unit, opened, says

pytestmark = pytest.mark.browser

START = """\
import memviz as mv
found = mv.demo("scenes")
widget = mv.deja_vu(found)
session = widget.session
widget"""
LAYER = "transformer.resblocks.1.mlp.c_fc"


def test_a_pair_is_forgotten(lab: JupyterLab, browser: Any, pictures: Path) -> None:
    notebook = opened(lab, browser, "deja-vu", [START])
    page = notebook.page
    try:
        page.wait_for_selector(".mv-dv-list [role=option] >> nth=5", timeout=90_000)
        page.wait_for_selector(".mv-dv-strip:visible .mv-dv-tile >> nth=4")
        says(notebook, "All 1,360 units are on")
        # Pick another pair with the mouse, and the next one by keyboard.
        row = page.locator(".mv-dv-list [role=option]").nth(3)
        row.click()
        notebook.wait_for("session.opened", int(row.get_attribute("data-row")))
        page.keyboard.press("ArrowUp")
        above = page.locator(".mv-dv-list [role=option]").nth(2)
        notebook.wait_for("session.opened", int(above.get_attribute("data-row")))
        caption = above.get_attribute("title")
        page.wait_for_function(
            "(words) => document.querySelector('.mv-dv-caption').textContent.includes(words)",
            arg=caption,
        )
        # Ablate units of the text tower: neighbours move, all figures change in place.
        before = page.locator("[data-measure=AUCG] .mv-now").inner_text()
        click_unit(notebook, LAYER, 7)
        notebook.wait_for("str(session.units)", f"{LAYER}:7")
        says(notebook, "text block 1 · MLP neuron 7 ablated: this pair's recall")
        # The units that hold this pair, exactly; then the top 8 of them.
        page.get_by_role("button", name="Find the units that hold this pair").click()
        page.wait_for_function(
            "() => !document.querySelector('.mv-dv-top').disabled", timeout=120_000
        )
        notebook.wait_for("(session.opened, 'zero') in widget.controller.scores.pair", True, 120)
        page.get_by_role("button", name="Ablate the top 8").click()
        notebook.wait_for("len(session.units)", 8)
        says(notebook, "8 of 1,360 units ablated")
        page.wait_for_selector(".mv-dv-tile.mv-new:visible")
        page.wait_for_selector(".mv-dv-tile.mv-lost:visible")
        assert page.locator("[data-measure=AUCG] .mv-now").inner_text() != before
        page.get_by_text("mean of 5 draws").wait_for(timeout=90_000)
        page.set_viewport_size({"width": 1400, "height": 1900})
        page.locator(".mv-undo").scroll_into_view_if_needed()
        for theme in ("Light", "Dark"):
            notebook.theme(f"JupyterLab {theme}")
            page.locator(".mv").first.screenshot(path=pictures / f"deja_vu-{theme.lower()}.png")
        # An edited caption is looked up by all three models.
        page.get_by_role("button", name="Edit the caption").click()
        page.keyboard.press("Control+a")
        page.keyboard.type("a seven <img src=x onerror='window.pwned=1'>")
        page.keyboard.press("Enter")
        page.wait_for_function(
            "() => document.querySelector('.mv-dv-caption').textContent.includes('onerror')"
        )
        page.get_by_role("button", name="Original caption").click()
        page.wait_for_function(
            "(words) => document.querySelector('.mv-dv-caption').textContent.includes(words)",
            arg=caption,
        )
        # Words of a caption find pairs; undo goes back.
        page.locator(".mv-dv-list .mv-find").fill("with a nine")
        page.wait_for_function(
            "() => [...document.querySelectorAll('.mv-dv-list [role=option]')]"
            ".every((one) => one.title.includes('nine'))"
        )
        page.get_by_role("button", name="Undo").click()
        notebook.wait_for("str(session.units)", f"{LAYER}:7")
        page.get_by_role("button", name="Reset").click()
        notebook.wait_for("str(session.units)", "")
        says(notebook, "All 1,360 units are on")
        assert page.evaluate("window.pwned") is None
        assert notebook.errors == []
    finally:
        notebook.close()
