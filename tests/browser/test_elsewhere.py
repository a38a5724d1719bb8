"""The workbench outside JupyterLab: Notebook 7, Voilà, marimo, a host that knows anywidget only."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.jupyter import START, JupyterLab, Marimo, Voila
from tests.support.lab import click_unit, opened, says
from tests.support.page import play, sent, settle

pytestmark = pytest.mark.browser
# Notebook 7.6.5 throws this by itself, about settings; no view has a schema.
OWN = "Cannot read properties of undefined (reading 'schema')"
PAGE = "memviz-digits.html"  # where the button Export puts it, beside the notebook


def installed(module: str) -> None:
    if find_spec(module) is None:
        pytest.skip(f"no {module}: run `pip install {module}`")


def exports(shown: Any, folder: Path) -> None:
    """The button writes a page, which shows the units in any browser, without the server."""
    shown.page.locator(".mv-export").click()
    shown.page.locator(".mv-live").get_by_text(PAGE).wait_for(timeout=90_000)
    page = shown.page.context.new_page()
    page.goto((folder / PAGE).as_uri())
    page.wait_for_selector("canvas.mv-units", timeout=90_000)
    assert "conv4 unit 5" in page.locator(".mv-say").inner_text()
    page.close()


def test_notebook_7_shows_answers_and_exports(tmp_path: Path, browser: Any) -> None:
    installed("notebook")
    server = JupyterLab(tmp_path, "notebook")
    try:
        notebook = opened(server, browser, "first", [START])
        click_unit(notebook, "conv4", 5)
        notebook.wait_for("str(session.units)", "conv4:5")
        says(notebook, "conv4 unit 5 ablated")
        exports(notebook, tmp_path)
        assert [error for error in notebook.errors if error != OWN] == []
        notebook.close()
    finally:
        server.stop()


def test_voila_shows_answers_and_exports(tmp_path: Path, browser: Any) -> None:
    installed("voila")
    server = Voila(tmp_path, [START])
    context = browser.new_context(viewport={"width": 1400, "height": 1200})
    shown = SimpleNamespace(page=context.new_page())
    errors: list[str] = []
    shown.page.on("pageerror", lambda error: errors.append(str(error)))
    try:
        # Voilà answers once the kernel has run the notebook; on busy cores that takes its time.
        shown.page.goto(
            f"http://127.0.0.1:{server.port}/", wait_until="domcontentloaded", timeout=300_000
        )
        shown.page.wait_for_selector("canvas.mv-units", timeout=90_000)
        click_unit(shown, "conv4", 5)
        says(shown, "conv4 unit 5 ablated")
        exports(shown, tmp_path)
        shown.page.locator(".mv-undo").click()
        says(shown, "No unit is ablated")
        assert errors == []
    finally:
        context.close()
        server.stop()


def test_marimo_shows_and_answers_in_two_views_of_a_session(tmp_path: Path, browser: Any) -> None:
    installed("marimo")
    first = START + "\nreturn mv, widget"
    server = Marimo(tmp_path, [(first, ""), ("mv.timeline(widget.session)", "mv, widget")])
    context = browser.new_context(viewport={"width": 1400, "height": 1200})
    shown = SimpleNamespace(page=context.new_page())
    errors: list[str] = []
    shown.page.on("pageerror", lambda error: errors.append(str(error)))

    def reads(words: str) -> None:  # marimo puts each output into a shadow root
        shown.page.locator(".mv-say", has_text=words).first.wait_for(timeout=90_000)

    try:
        shown.page.goto(f"http://127.0.0.1:{server.port}/", timeout=90_000)
        shown.page.wait_for_selector("canvas.mv-units", timeout=120_000)
        shown.page.wait_for_selector("svg.mv-time", timeout=120_000)
        click_unit(shown, "conv4", 5)
        reads("conv4 unit 5 ablated")
        shown.page.locator("canvas.mv-units[data-layer=conv4]").focus()
        for key in ("ArrowRight", "Space"):
            shown.page.keyboard.press(key)
        reads("2 of 320 units ablated")
        shown.page.keyboard.press("Control+z")
        reads("conv4 unit 5 ablated")
        assert errors == []
    finally:
        context.close()
        server.stop()


# What a view may know of marimo, Colab, VS Code or any other host of anywidget: a model, and an
# element somewhere, here inside a shadow root. No theme, no variables and no sheet of Jupyter's.
SHADOW = """async (part) => {
  delete document.body.dataset.jpThemeLight;
  document.querySelectorAll("style, link").forEach((node) => node.remove());
  const root = document.getElementById("a").attachShadow({ mode: "open" });
  const sheet = document.createElement("style");
  sheet.textContent = await (await fetch("/style.css")).text();
  const el = document.createElement("div");
  root.append(sheet, el);
  const { default: view } = await import("/bundle.js");
  window.model = new FakeModel(part, part);
  const wrapper = () => Object.freeze(window.model.wrapper());
  const ends = [await view.initialize({ model: wrapper() }), await view.render({ model: wrapper(), el })];
  window.end = () => ends.reverse().forEach((fn) => fn());
}"""
PARTS = ["workbench", "timeline", "inspector", "scatter", "gates", "capacity"]
PARTS += ["deja_vu", "density", "extraction"]


def test_a_host_that_knows_anywidget_alone_is_enough(open_page: Any, fake: Any) -> None:
    page = open_page(color_scheme="dark")
    page.evaluate(SHADOW, "workbench")
    play(page, *fake.messages())
    settle(page)
    assert page.locator(".mv").get_attribute("data-mv-theme") == "dark"
    canvas = page.locator("canvas.mv-units[data-layer='conv4']")
    canvas.focus()
    for key in ("Home", "ArrowRight", "Space"):
        page.keyboard.press(key)
    settle(page)
    assert sent(page)[0]["type"] == "hello" and sent(page)[-1]["type"] == "toggle"
    page.evaluate("end()")
    assert page.locator(".mv").count() == 0 and page.evaluate("model.listeners()") == 0


@pytest.mark.parametrize("part", PARTS)
def test_every_view_waits_in_any_host_for_its_kernel(open_page: Any, part: str) -> None:
    page = open_page()
    page.evaluate(SHADOW, part)
    settle(page)
    assert "Waiting for the kernel" in page.locator(".mv").inner_text()
    assert [message["type"] for message in sent(page)] == ["hello"]
