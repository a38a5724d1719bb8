"""The capacity playground in a real JupyterLab: build, take owners out, change the network, undo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.jupyter import JupyterLab
from tests.support.lab import click_unit, opened, says

pytestmark = pytest.mark.browser

START = """\
import memviz as mv
widget = mv.capacity()
widget"""


def test_owners_lose_their_points_and_another_network_is_built(
    lab: JupyterLab, browser: Any, pictures: Path
) -> None:
    notebook = opened(lab, browser, "capacity", [START])
    page = notebook.page
    try:
        page.wait_for_selector(".mv-cp-owner >> nth=4", timeout=120_000)
        says(notebook, "24 points in 5 + 5 units: 24 of 24 are right.")
        page.locator("[data-owner='1']").click()
        notebook.wait_for("str(widget.session.units)", "layer2:1")
        says(notebook, "every other point moves by 1")
        click_unit(notebook, "layer2", 2)
        notebook.wait_for("str(widget.session.units)", "layer2:1,2")
        says(notebook, "the other 14 keep their value")
        page.wait_for_selector(".mv-cp-table tbody tr >> nth=7", timeout=120_000)
        page.locator(".mv-cp-read path[d*='l4.2']").first.wait_for(timeout=120_000)
        page.set_viewport_size({"width": 1400, "height": 1800})
        page.locator(".mv-undo").scroll_into_view_if_needed()
        page.mouse.move(0, 0)  # no tip over the pictures
        for theme in ("Light", "Dark"):
            notebook.theme(f"JupyterLab {theme}")
            page.locator(".mv").first.screenshot(path=pictures / f"capacity-{theme.lower()}.png")
        page.get_by_role("radio", name="Certified").click()
        notebook.wait_for("widget.memorizer.method", "yu")
        says(notebook, "24 points in 312 hidden units: 24 of 24 are right.")
        page.locator(".mv-cp-n").focus()
        page.keyboard.press("PageDown")
        notebook.wait_for("len(widget.inputs)", 14)
        for _ in range(2):
            page.get_by_role("button", name="Undo").click()
        notebook.wait_for("[len(widget.inputs), str(widget.session.units)]", [24, "layer2:1,2"])
        assert notebook.errors == []
    finally:
        notebook.close()
