"""A real Chromium for the browser tests, found on this machine and shared by the whole run."""

import os
import shutil
from collections.abc import Iterator

import pytest

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
