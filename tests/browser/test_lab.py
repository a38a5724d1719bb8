"""The workbench in a real JupyterLab: mouse, keyboard, undo, an opened example, both themes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.jupyter import START, JupyterLab
from tests.support.lab import click_unit, opened, says

pytestmark = pytest.mark.browser

HOSTILE = "<img src=x onerror='window.pwned=1'>"
HOSTILE_STUDY = f"""\
import torch, memviz as mv
torch.manual_seed(0)
name = {HOSTILE!r}
model = torch.nn.Sequential(torch.nn.Linear(16, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)).eval()
groups = {{name: range(10), "b" + name: range(10, 30)}}
study = mv.Study(model, torch.randn(30, 16), torch.arange(30) % 3, groups, name=name, summary=name,
                 class_names=[name, name + "2", "c"])
session = mv.Session(study)
mv.workbench(session)"""


def test_a_first_session(lab: JupyterLab, browser: Any, pictures: Path) -> None:
    notebook = opened(lab, browser, "first", [START])
    page = notebook.page
    try:
        # Pick a layer, then units with the mouse.
        page.locator("[role=option][data-layer='conv1']").click()
        notebook.wait_for("list(session.layers)", ["conv2", "conv3", "conv4", "fc"])
        click_unit(notebook, "conv4", 5)
        notebook.wait_for("str(session.units)", "conv4:5")
        says(notebook, "conv4 unit 5 ablated")
        click_unit(notebook, "conv4", 9)
        notebook.wait_for("str(session.units)", "conv4:5,9")
        says(notebook, "2 of 320 units ablated")

        # Undo and redo, by key and by button; the key does not reach JupyterLab.
        page.keyboard.press("Control+z")
        notebook.wait_for("str(session.units)", "conv4:5")
        page.keyboard.press("Control+Shift+z")
        notebook.wait_for("str(session.units)", "conv4:5,9")
        page.locator(".mv-undo").click()
        notebook.wait_for("str(session.units)", "conv4:5")
        assert START in page.locator(".jp-CodeCell .cm-content").first.inner_text()

        # The keyboard alone: the map is one stop, arrows move, Space toggles.
        page.locator("canvas.mv-units[data-layer='fc']").focus()
        for key in ("Home", "ArrowRight", "ArrowRight", "Space"):
            page.keyboard.press(key)
        notebook.wait_for("str(session.units)", "conv4:5 fc:2")

        # The figures on the screen are those of a fresh computation.
        says(notebook, "2 of 320 units ablated")
        fresh = notebook.python(
            "{n: g.after.correct for n, g in "
            "mv.readout(study, session.units, session.how, random_draws=0).groups.items()}"
        )
        for name, correct in fresh.items():
            row = page.locator(f".mv-acc[data-group='{name}']").inner_text()
            assert f"{correct:,} of" in row

        # The exact effects arrive, and the highest units are ablated together.
        notebook.wait_for("swept()", True, seconds=120)
        page.locator(".mv-k").fill("12")
        page.locator(".mv-k").press("Enter")
        notebook.wait_for("len(session.units)", 12)
        says(notebook, "12 of 320 units ablated")
        assert notebook.python("session.study.groups['memorized'].sum().item()") == 120

        # An example opens with its attribution before and after.
        page.locator(".mv-tile").first.click()
        page.wait_for_selector(".mv-open", timeout=90_000)
        example = int(page.locator(".mv-tile").first.get_attribute("data-example"))
        notebook.wait_for("session.opened", example)
        page.wait_for_function(
            "() => document.querySelectorAll('.mv-open canvas, .mv-open svg').length >= 3",
            timeout=90_000,
        )
        page.wait_for_function(
            "() => document.querySelector('.mv-open')?.innerText.includes('Probability')",
            timeout=90_000,
        )
        page.locator("[role=option][data-layer='conv1']").click()
        page.get_by_text("units of the same layers, 20 draws").wait_for(timeout=120_000)
        page.set_viewport_size({"width": 1400, "height": 1700})
        page.locator(".mv-undo").scroll_into_view_if_needed()
        page.wait_for_timeout(500)
        for theme in ("Light", "Dark"):
            notebook.theme(f"JupyterLab {theme}")
            page.locator(".mv").first.screenshot(path=pictures / f"workbench-{theme.lower()}.png")
        assert notebook.errors == []
    finally:
        notebook.close()


def test_names_are_text(lab: JupyterLab, browser: Any) -> None:
    notebook = opened(lab, browser, "hostile", [HOSTILE_STUDY])
    try:
        notebook.page.locator(".mv-tile").first.click()
        notebook.page.wait_for_selector(".mv-open")
        click_unit(notebook, "0", 3)
        says(notebook, HOSTILE)
        assert notebook.page.evaluate("() => window.pwned") is None
        assert notebook.page.locator(".mv img[src='x']").count() == 0
        assert notebook.errors == []
    finally:
        notebook.close()


def test_parts_move_together(lab: JupyterLab, browser: Any) -> None:
    cells = [START.replace("workbench", "unit_map"), "mv.readout_view(session)"]
    notebook = opened(lab, browser, "parts", cells)
    try:
        click_unit(notebook, "conv3", 0)
        notebook.wait_for("str(session.units)", "conv3:0")
        assert notebook.python("session.ablate('conv2:1,2')") is None
        notebook.page.wait_for_function(
            "() => [...document.querySelectorAll('.mv-say')]"
            ".every((say) => say.textContent.startsWith('2 of 320'))",
            timeout=90_000,
        )
        assert notebook.errors == []
    finally:
        notebook.close()


TIME = """\
import memviz as mv
study = mv.demo("digits")
session = mv.Session(study)
mv.timeline(session)"""


def test_every_view_follows_the_timeline(lab: JupyterLab, browser: Any, pictures: Path) -> None:
    cells = [TIME, "mv.workbench(session)", "mv.inspector(session)"]
    notebook = opened(lab, browser, "time", cells)
    page = notebook.page
    try:
        page.wait_for_selector("svg.mv-time", timeout=120_000)
        chart = page.locator("svg.mv-time")
        chart.focus()
        page.keyboard.press("Home")
        page.keyboard.press("ArrowRight")
        notebook.wait_for("session.variant", "epoch 3")
        page.wait_for_function(
            "() => [...document.querySelectorAll('.mv-say')].every(n => /test 9\\d%/.test("
            "n.textContent) && !/memorized 100%/.test(n.textContent))",
            timeout=120_000,
        )
        assert page.locator("select.mv-variant").input_value() == "epoch 3"
        page.locator(".mv-rewinds input[data-layer='conv3']").fill("0")
        page.wait_for_function(
            "() => !document.querySelector('.mv-rewound').textContent.includes('1.00 → 1.00')"
        )
        page.locator(".mv-tile").first.click()
        page.wait_for_selector(".mv-critical li", timeout=120_000)
        page.wait_for_selector(".mv-neighbour", timeout=120_000)
        for theme in ("light", "dark"):
            notebook.theme(f"JupyterLab {theme.capitalize()}")
            chart.scroll_into_view_if_needed()
            page.screenshot(path=str(pictures / f"timeline-{theme}.png"))
        page.locator(".mv-takeout").click()
        notebook.wait_for("len(session.units)", 5)
    finally:
        notebook.close()
