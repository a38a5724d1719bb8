"""The front end: plain ES modules, joined into the one module that a notebook loads."""

from __future__ import annotations

from functools import cache
from pathlib import Path

STATIC = Path(__file__).parent / "static"


@cache
def script() -> str:
    """All modules in the order of their imports, the import lines between them dropped."""
    order: list[str] = []

    def add(name: str) -> None:
        if name in order:
            return
        for line in (STATIC / name).read_text(encoding="utf-8").splitlines():
            if line.startswith("import "):
                add(line.split('"./')[1].split('"')[0])
        order.append(name)

    add("index.js")
    lines = [
        line
        for name in order
        for line in (STATIC / name).read_text(encoding="utf-8").splitlines()
        if not line.startswith("import ")
    ]
    return "\n".join(lines) + "\n"


@cache
def style() -> str:
    """The style sheets, one after the other."""
    sheets = ("memviz.css", "deja_vu.css")
    return "\n".join((STATIC / name).read_text(encoding="utf-8") for name in sheets)
