"""The density explorer in a real JupyterLab: open an image, ablate, move through the epochs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.jupyter import JupyterLab
from tests.support.lab import click_unit, opened, says

pytestmark = pytest.mark.browser

START = """\
import memviz as mv
study = mv.demo("density")
widget = mv.density(study)
session, part = widget.session, widget.controller.parts["density"]
widget"""


def test_what_holds_the_noise_is_switched_off(
    lab: JupyterLab, browser: Any, pictures: Path
) -> None:
    notebook = opened(lab, browser, "density", [START])
    page = notebook.page
    try:
        page.wait_for_selector(".mv-dn-tile >> nth=20", timeout=90_000)
        says(notebook, "after 300 epochs: M ")
        # The images of noise that occur once come first; the second is opened by keyboard.
        tiles = page.locator(".mv-dn-tile")
        memorized = notebook.python("study.group('memorized').tolist()")
        first = [int(tiles.nth(k).get_attribute("data-example")) for k in range(6)]
        assert set(first) == set(memorized)
        tiles.first.click()
        notebook.wait_for("session.opened", first[0])
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        notebook.wait_for("session.opened", first[1])
        says(notebook, f"Image {first[1]} after 300 epochs: M ")
        # The top units by exact effect, then one more by hand; figures are the plain readout's.
        notebook.wait_for(
            "bool(widget.effects is not None and widget.effects.done.all())", True, 240
        )
        page.locator(".mv-k").fill("6")
        page.keyboard.press("Enter")
        notebook.wait_for("len(session.units)", 6)
        says(notebook, "6 units off: memorized M ")
        click_unit(notebook, "decoder.fc1", 0)
        notebook.wait_for("len(session.units) in (5, 7)", True)
        page.keyboard.press("Control+z")
        notebook.wait_for("len(session.units)", 6)
        before, after = notebook.python(
            "(lambda g: [g.before.margin, g.after.margin])"
            "(mv.readout(study, session.units, random_draws=0).groups['memorized'])"
        )
        says(notebook, f"memorized M {before:.1f} → {after:.1f}".replace("-", "−"))
        page.get_by_text("same layers, 20 draws").wait_for(timeout=120_000)
        page.locator(".mv-dn-made figure[data-picture=random]:visible").wait_for(timeout=120_000)
        page.set_viewport_size({"width": 1400, "height": 1900})
        page.mouse.move(0, 0)
        for theme in ("Light", "Dark"):
            notebook.theme(f"JupyterLab {theme}")
            page.wait_for_timeout(400)
            page.locator(".mv").first.screenshot(path=pictures / f"density-{theme.lower()}.png")
        # Back through the epochs: M, the order of the sheet and the reconstruction follow.
        page.locator(".mv-dn-epochs").focus()
        page.keyboard.press("Home")
        notebook.wait_for("part.epoch", 0)
        says(notebook, "after 10 epochs: M ")
        page.get_by_text("by the model then, squared error").wait_for(timeout=120_000)
        page.locator(".mv-dn-rate").focus()
        page.keyboard.press("Home")
        notebook.wait_for("part.rate", 0)
        assert notebook.python("sum(p.grad is not None for p in study.model.parameters())") == 0
        assert notebook.errors == []
    finally:
        notebook.close()
