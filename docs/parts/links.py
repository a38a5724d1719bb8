"""Dead links inside a built site: pages, files and anchors that are not there."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class _Page(HTMLParser):
    """What a page links to, and the anchors it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.targets: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and (name == "id" or (name == "name" and tag == "a")):
                self.anchors.add(value)
            elif value and name in {"href", "src"}:
                self.targets.add(value)


# Templates of the theme, and pages of views, whose links are made by their scripts.
NOT_OURS = {"_static", "_live"}


def dead_links(site: Path) -> list[str]:
    """One line for each link of the site's pages that leads nowhere inside it."""
    files = sorted(site.rglob("*.html"))
    ours = [path for path in files if not NOT_OURS & set(path.relative_to(site).parts)]
    pages = {path: _Page(path.read_text()) for path in ours}
    dead = []
    for path, page in pages.items():
        for target in sorted(page.targets):
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if there.is_dir():
                there /= "index.html"
            if not there.is_relative_to(site) or not there.is_file():
                dead.append(f"{path.relative_to(site)}: {target}")
            elif there in pages and unquote(parts.fragment) not in {"", *pages[there].anchors}:
                dead.append(f"{path.relative_to(site)}: {target} (no such anchor)")
    return dead
