"""A page with the front end and a fake model in place of a kernel, and what is done to it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from memviz.widgets.core import files, script, style

PAGE = Path(__file__).parents[1] / "browser" / "page"


EVIL = '<img src=x onerror="window.pwned=1">'


MODULES = {f"/{path.relative_to(path.parents[2]).as_posix()}": path for path in files("js")}


def serve(route):
    """The harness, the joined module, its single files and the style sheet, from this checkout."""
    name = urlsplit(route.request.url).path
    if name == "/harness.html":
        route.fulfill(body=(PAGE / name[1:]).read_text(), content_type="text/html")
    elif name == "/bundle.js":
        route.fulfill(body=script(), content_type="text/javascript")
    elif name == "/modules.js":
        route.fulfill(body=all_modules(), content_type="text/javascript")
    elif name in MODULES:
        route.fulfill(body=MODULES[name].read_text(), content_type="text/javascript")
    elif name == "/style.css":
        route.fulfill(body=style(), content_type="text/css")
    else:
        route.abort()


def all_modules():
    """A module that loads every file by itself and offers what the joined one does."""
    index = "/core/static/index.js"
    lines = [f'export * from "{index}";', f'export {{ default }} from "{index}";']
    return "\n".join(lines + [f'import "{name}";' for name in MODULES])


def play(page, *messages):
    page.evaluate("list => model.play(list)", list(messages))


def settle(page):
    page.evaluate(
        "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
    )


def begin(page, fake, part="workbench", **state):
    page.evaluate("part => start(part)", part)
    play(page, *fake.messages(**state))
    settle(page)
    return page


def sent(page, kind=None):
    messages = page.evaluate("model.sent")
    return [m for m in messages if kind in (None, m["type"])]


def focus_by_keys(page, selector):
    """Focus as the keyboard gives it, so that the ring shows."""
    page.locator(selector).focus()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    settle(page)
