"""Pages of views that a reader can click without a kernel: ``python -m parts.views FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

import memviz as mv

MOST_BYTES = 8_000_000


def export(folder: Path) -> None:
    """Write the pages, unless they are newer than all of memviz."""
    folder.mkdir(parents=True, exist_ok=True)
    sources = [path for path in Path(mv.__file__).parent.rglob("*") if path.suffix != ".pyc"]
    newest = max(path.stat().st_mtime for path in sources if path.is_file())
    views = {"digits": (mv.workbench, "digits"), "deja_vu": (mv.deja_vu, "scenes")}
    for name, (view, study) in views.items():
        page = folder / f"{name}.html"
        if page.exists() and page.stat().st_mtime > newest:
            continue
        with view(mv.demo(study)) as shown:
            shown.export(str(page))
        if page.stat().st_size > MOST_BYTES:
            sys.exit(f"{page.name} has {page.stat().st_size:,} bytes, more than {MOST_BYTES:,}.")


if __name__ == "__main__":
    export(Path(sys.argv[1]))
