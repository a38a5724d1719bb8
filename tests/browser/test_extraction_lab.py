"""The extraction explorer in a real JupyterLab: pick a passage, ablate, see it break, edit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.jupyter import JupyterLab
from tests.support.lab import click_unit, opened, says

pytestmark = pytest.mark.browser

START = """\
import memviz as mv
from memviz.demos import language
study, found = mv.demo("language"), language.passages(0)
widget = mv.extraction(study, copies=found.copies, ladder=language.ladder())
session = widget.session
widget"""
HEADS = "blocks.0.attention"


def test_a_passage_breaks_and_is_whole_again(lab: JupyterLab, browser: Any, pictures: Path) -> None:
    notebook = opened(lab, browser, "extraction", [START])
    page = notebook.page
    try:
        page.wait_for_selector(".mv-ex-list [role=option] >> nth=5", timeout=120_000)
        page.wait_for_selector(".mv-ex-t >> nth=31", timeout=90_000)
        says(notebook, "71 of 112 passages are recited whole; 0 of 96 held-out ones")
        # Another passage by keyboard.
        rows = page.locator(".mv-ex-list [role=option]")
        rows.first.click()
        page.keyboard.press("ArrowDown")
        second = int(rows.nth(1).get_attribute("data-row"))
        notebook.wait_for("session.opened", second)
        page.wait_for_function(
            "(row) => document.querySelector('.mv-ex-title').textContent.includes(`Passage ${row} `)",
            arg=second,
        )
        assert page.locator(".mv-ex-no").count() == 0
        # All heads of the first block but one: passages break.
        for head in range(3):
            click_unit(notebook, HEADS, head)
        notebook.wait_for("len(session.units)", 3)
        page.wait_for_selector(".mv-ex-first", timeout=90_000)
        says(notebook, "3 of 1,164 units ablated: this passage now breaks at token")
        page.wait_for_function(
            "() => /of 20 draws/.test(document.querySelector('[data-strip=random]').textContent)",
            timeout=120_000,
        )
        page.locator(".mv-ex-ladder tbody tr >> nth=2").wait_for()
        # The units that hold this passage alone, and the passage without the first eight.
        page.get_by_role("button", name="Reset").click()
        page.get_by_role("button", name="Find the units that hold this passage").click()
        top = page.get_by_role("button", name="Ablate the top 8")
        top.wait_for()
        # Which units lead is settled once all are exact; before the first answer there is no message.
        message = "widget.controller._latest.get('scores:opened passage')"
        notebook.wait_for(f"getattr({message}, 'content', {{}}).get('done')", 1164, 120)
        top.click()
        notebook.wait_for("len(session.units)", 8)
        says(
            notebook,
            "8 of 1,164 units ablated: this passage stays whole; recited whole 71 → 71 of 112",
        )
        page.wait_for_function(
            "() => /of 20 draws/.test(document.querySelector('[data-strip=random]').textContent)",
            timeout=120_000,
        )
        page.set_viewport_size({"width": 1400, "height": 2200})
        page.locator(".mv-undo").scroll_into_view_if_needed()
        for theme in ("Light", "Dark"):
            notebook.theme(f"JupyterLab {theme}")
            page.locator(".mv").first.screenshot(path=pictures / f"extraction-{theme.lower()}.png")
        # Keys of the notebook don't fire while a prompt is written.
        page.get_by_role("button", name="Edit", exact=True).click()
        page.get_by_label("Prompt", exact=True).fill("The <img src=x>")
        page.keyboard.press("Enter")
        page.wait_for_function(
            "() => document.querySelector('.mv-ex-prompt').textContent.includes('<img src=x>')"
        )
        page.get_by_role("button", name="Original prompt").click()
        page.get_by_role("button", name="Reset").click()
        notebook.wait_for("str(session.units)", "")
        page.wait_for_function("() => !document.querySelector('.mv-ex-no')", timeout=90_000)
        assert page.locator(".mv img").count() == 0
        assert notebook.errors == []
    finally:
        notebook.close()
