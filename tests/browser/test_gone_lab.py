"""A kernel restarts under a view, and the notebook is opened again: nothing looks alive that isn't."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.jupyter import START, JupyterLab
from tests.support.lab import click_unit, opened, says

pytestmark = pytest.mark.browser
RESTART = """async () => {
  const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
  await kernel.restart();
}"""
SAVE = "() => window.jupyterapp.commands.execute('docmanager:save')"


def test_a_restarted_kernel_and_a_reloaded_page(
    lab: JupyterLab, browser: Any, pictures: Path
) -> None:
    notebook = opened(lab, browser, "gone", [START])
    page = notebook.page
    try:
        click_unit(notebook, "conv4", 5)
        says(notebook, "conv4 unit 5 ablated")
        # The still picture is in the output, unseen, and follows the session.
        still = page.locator(".memviz-still")
        assert not still.is_visible()
        page.wait_for_function(
            "() => document.querySelector('.memviz-still')?.textContent"
            ".includes('conv4 unit 5 ablated')",
            timeout=120_000,
        )
        page.evaluate(SAVE)
        page.evaluate(RESTART)
        page.get_by_text("The kernel is gone: run this cell again.").wait_for(timeout=90_000)
        assert page.locator(".mv-grid").evaluate("node => node.inert")
        page.screenshot(path=str(pictures / "gone.png"))
        assert notebook.errors == []

        page.reload(wait_until="domcontentloaded")
        still = page.locator(".memviz-still")
        still.wait_for(timeout=120_000)
        assert "run this cell again" in still.inner_text()
        assert "conv4 unit 5 ablated" in still.inner_text()
        page.wait_for_timeout(4000)
        page.screenshot(path=str(pictures / "gone-reloaded.png"))
        assert not page.get_by_text("model not found").is_visible()
    finally:
        notebook.close()
