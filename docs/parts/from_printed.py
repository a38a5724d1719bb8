"""Figures and tables of what takes too long for a build, from what the commands printed.

That stands in ``figures.md``. A page shows it by ``{contest-figure}``, with an ``:alt:``, and by
``{corner-table}``.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from . import printed


class ContestFigure(SphinxDirective):
    """The figure of the contest."""

    option_spec: ClassVar[dict[str, Any]] = {"alt": directives.unchanged_required}

    def run(self) -> list[nodes.Node]:
        """Draw it from the tables."""
        from memviz.probes.contest.figures import contest as drawn

        content = io.BytesIO()
        drawn(printed.contest(_printed(self))).savefig(content, dpi=150, format="png")
        name = f"_figures/{hashlib.sha256(content.getvalue()).hexdigest()[:16]}.png"
        path = Path(self.env.srcdir) / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content.getvalue())
        return [nodes.image(uri=f"/{name}", alt=self.options["alt"])]


class CornerTable(SphinxDirective):
    """The table of DV scores of corners."""

    def run(self) -> list[nodes.Node]:
        """A row for each share of the corners and seed."""
        rows = [("corners", "seed", "DV score", "held out"), *printed.corners(_printed(self))]
        lines = [f"| {' | '.join(row)} |" for row in rows]
        lines.insert(1, "| --- | --- | --- | --- |")
        return self.parse_text_to_nodes("\n".join(lines))


def _printed(directive: SphinxDirective) -> str:
    path = Path(directive.env.srcdir) / "figures.md"
    directive.env.note_dependency(str(path))
    return path.read_text(encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives."""
    app.add_directive("contest-figure", ContestFigure)
    app.add_directive("corner-table", CornerTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
