"""Pages of views that a reader can click without a kernel: ``python -m parts.views FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

import memviz as mv
from memviz.widgets.core import Message
from memviz.widgets.deja_vu import DejaVuController
from memviz.widgets.workbench import Controller

MOST_BYTES = 8_000_000


class Nobody:
    """Stands where a browser would be told something."""

    def tell(self, message: Message) -> None:
        """Nothing comes of it."""


def computed(name: str) -> Controller | DejaVuController:
    """The controller of a view that has computed all it can, so that its page needs no kernel."""
    study = mv.demo("scenes" if name == "deja_vu" else name)
    if name == "deja_vu":
        controller = DejaVuController(study, mv.Session(study.study), threaded=False)
    else:
        controller = Controller(mv.Session(study), threaded=False)
    controller.receive({"type": "hello"}, Nobody())
    controller.worker.run_until_idle()
    return controller


def export(folder: Path) -> None:
    """Write the pages, unless they are newer than all of memviz and this file."""
    folder.mkdir(parents=True, exist_ok=True)
    sources = [path for path in Path(mv.__file__).parent.rglob("*") if path.suffix != ".pyc"]
    newest = max(path.stat().st_mtime for path in [*sources, Path(__file__)] if path.is_file())
    for name in ("digits", "deja_vu"):
        page = folder / f"{name}.html"
        if not page.exists() or page.stat().st_mtime <= newest:
            controller = computed(name)
            controller.export(page)
            controller.close()
        # Of a page that was there, too: else a second build would pass.
        if page.stat().st_size > MOST_BYTES:
            sys.exit(f"{page.name} has {page.stat().st_size:,} bytes, more than {MOST_BYTES:,}.")


if __name__ == "__main__":
    export(Path(sys.argv[1]))
