"""The front end: plain ES modules and style sheets, joined as a notebook loads them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

WIDGETS = Path(__file__).parents[1]
CORE = WIDGETS / "core" / "static"


def files(kind: str) -> list[Path]:
    """Files of the core, then those of every view, each folder in the order of names."""
    views = sorted(path for path in WIDGETS.glob(f"*/static/*.{kind}") if path.parent != CORE)
    return [*sorted(CORE.glob(f"*.{kind}")), *views]


@cache
def script() -> str:
    """All modules in the order of their imports, the import lines between them dropped."""
    order: dict[Path, list[str]] = {}

    def add(path: Path) -> None:
        if path in order:
            return
        lines = path.read_text(encoding="utf-8").splitlines()
        imports = [line for line in lines if line.startswith("import ")]
        for line in imports:
            add((path.parent / line.split('"')[1]).resolve())
        order[path] = [line for line in lines if line not in imports]

    # The core comes first: a view announces itself to it when its file is read.
    for path in (CORE / "index.js", *files("js")):
        add(path.resolve())
    return "\n".join(line for lines in order.values() for line in lines) + "\n"


@cache
def style() -> str:
    """The style sheets, the core's first."""
    return "\n".join(path.read_text(encoding="utf-8") for path in files("css"))
