"""A real Chromium for the browser tests, found on this machine and shared by the whole run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_study import FakeStudy
from tests.support.jupyter import JupyterLab
from tests.support.page import serve
from tests.support.saved import SavedPages

NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"]
ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--hide-scrollbars",
]


def missing(reason: str) -> None:
    """Skip, or fail where a browser was promised."""
    if os.environ.get("MEMVIZ_REQUIRE_BROWSER") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def find_chromium() -> str | None:
    """The path of a Chromium: $MEMVIZ_CHROMIUM, else the first known name on PATH."""
    named = os.environ.get("MEMVIZ_CHROMIUM")
    if named:
        return named if os.access(named, os.X_OK) else None
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    """A headless Chromium driven by Playwright."""
    path = find_chromium()
    if path is None:
        missing("no Chromium: set MEMVIZ_CHROMIUM to its path, or run `apt-get install chromium`")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("no Playwright: run `pip install playwright`")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=ARGS)
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser):
    """A function that opens the harness; at the end no page may have thrown an error."""
    contexts, errors = [], []

    def open_one(query="", routes=(), **options):
        context = browser.new_context(viewport={"width": 1040, "height": 1200}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.route("**/*", serve)
        for pattern, answer in dict(routes).items():
            page.route(pattern, answer)
        page.goto(f"http://memviz.test/harness.html{query}")
        page.wait_for_function("window.ready")
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert errors == []


@pytest.fixture
def open_saved(browser: object) -> Iterator[Callable[..., Any]]:
    """A function that opens a saved page from its file, as ``SavedPages.open`` does."""
    pages = SavedPages(browser)
    yield pages.open
    pages.close()


@pytest.fixture(scope="module")
def fake():
    return FakeStudy()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, browser: Any) -> Iterator[JupyterLab]:
    server = JupyterLab(tmp_path_factory.mktemp("lab"))
    yield server
    server.stop()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Where screenshots go: $MEMVIZ_SCREENSHOTS, to be looked at, or a folder that is dropped."""
    folder = Path(os.environ.get("MEMVIZ_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
