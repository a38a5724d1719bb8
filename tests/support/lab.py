"""What a person does in JupyterLab: open, click, read."""

from __future__ import annotations

from typing import Any

from tests.support.jupyter import JupyterLab, Notebook


def opened(
    lab: JupyterLab, browser: Any, name: str, cells: list[str], shown: str = "canvas.mv-units"
) -> Notebook:
    """A notebook that has run, once its view is there and shows its units."""
    notebook = Notebook(lab, browser, name, cells)
    notebook.run_all()
    notebook.page.wait_for_selector(".mv-say", timeout=120_000)
    notebook.page.wait_for_selector(shown, timeout=120_000)
    return notebook


def click_unit(shown: Any, layer: str, unit: int, **options: Any) -> None:
    """Click a unit of the map, in a notebook or on any other page that has `page`."""
    canvas = shown.page.locator(f"canvas.mv-units[data-layer='{layer}']")
    canvas.scroll_into_view_if_needed()
    columns = int(canvas.get_attribute("data-columns"))
    pitch = float(canvas.get_attribute("data-pitch"))
    place = {"x": unit % columns * pitch + pitch / 2, "y": unit // columns * pitch + pitch / 2}
    canvas.click(position=place, **options)


def says(shown: Any, words: str) -> None:
    """Wait until the live sentence says this, and no estimate stands in for the figures."""
    shown.page.wait_for_function(
        "(words) => document.querySelector('.mv-say')?.textContent.includes(words)"
        " && !document.querySelector('.mv-guess')",
        arg=words,
        timeout=90_000,
    )
