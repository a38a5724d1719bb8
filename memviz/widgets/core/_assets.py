"""The front end: plain ES modules and style sheets, joined as a notebook loads them."""

from __future__ import annotations

from functools import cache
from itertools import groupby
from pathlib import Path

from memviz.registry import folders, packages

_WIDGETS = Path(__file__).resolve().parents[1]
_CORE = _WIDGETS / "core" / "static"


def files(kind: str) -> list[Path]:
    """Files of the core, then those of every view of every package, in the order of names."""
    rooms = [room for package in packages() for room in folders("widgets", package)]
    found = [path.resolve() for room in rooms for path in sorted(room.glob(f"*/static/*.{kind}"))]
    return sorted(found, key=lambda path: path.parent != _CORE)


@cache
def script() -> str:
    """All modules in the order of their imports, the import lines between them dropped.

    An import is one line and renames nothing. A view of another package imports from the core as if
    it stood beside it: ``from "../../core/static/dom.js"``.
    """
    order: dict[Path, list[str]] = {}

    def add(path: Path) -> None:
        if path in order:
            return
        lines = path.read_text(encoding="utf-8").splitlines()
        imports = [line for line in lines if line.startswith("import ")]
        for line in imports:
            target = (path.parent / line.split('"')[1]).resolve()
            add(target if target.is_file() else _WIDGETS / target.relative_to(path.parents[2]))
        order[path] = [line for line in lines if line not in imports]

    # The core comes first: a view announces itself to it when its file is read.
    for path in (_CORE / "index.js", *files("js")):
        add(path)
    by_package = groupby(order, key=lambda path: path.parents[2])
    return "".join(
        _scope(room, [line for path in paths for line in order[path]]) for room, paths in by_package
    )


def _scope(room: Path, lines: list[str]) -> str:
    """One package's files; those of other packages in a scope of their own: no names clash."""
    if room != _WIDGETS:
        lines = ["{", *(line.removeprefix("export ") for line in lines), "}"]
    return "\n".join(lines) + "\n"


@cache
def style() -> str:
    """The style sheets, the core's first."""
    return "\n".join(path.read_text(encoding="utf-8") for path in files("css"))
