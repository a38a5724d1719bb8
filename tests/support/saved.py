"""Saved pages in a real browser, each opened from its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class SavedPages:
    """Opens saved pages, and remembers what they complained of and asked for."""

    def __init__(self, browser: Any) -> None:
        self._browser = browser
        self._contexts: list[Any] = []
        self._files: set[str] = set()
        self._errors: list[str] = []
        self._requests: list[str] = []

    def open(
        self,
        path: Path,
        *,
        drawn: str = ".mv canvas.mv-units",
        refusals: list[str] | None = None,
        **options: Any,
    ) -> Any:
        """The page, once it has drawn; what the console says goes to ``refusals`` if that is given.

        ``drawn`` is what to wait for; ``options`` are those of Playwright's context.
        """
        said = self._errors if refusals is None else refusals
        context = self._browser.new_context(
            **{"viewport": {"width": 1040, "height": 1100}} | options
        )
        self._contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: self._errors.append(str(error)))
        page.on("console", lambda m: said.append(m.text) if m.type != "log" else None)
        page.on("dialog", lambda dialog: self._errors.append(dialog.message))
        page.on("request", lambda request: self._requests.append(request.url))
        self._files.add(path.as_uri())
        page.goto(path.as_uri())
        page.wait_for_selector(drawn)
        # Two frames, so that what was received is drawn.
        page.evaluate(
            "() => new Promise((f) => requestAnimationFrame(() => requestAnimationFrame(f)))"
        )
        return page

    def close(self) -> None:
        """Close all; none may have complained, or asked for anything but its own file."""
        for context in self._contexts:
            context.close()
        assert self._errors == []
        inside = ("data:", "blob:")
        others = [url for url in self._requests if not url.startswith(inside)]
        assert [url for url in others if url not in self._files] == []
