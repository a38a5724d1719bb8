"""Figures and tables of what takes too long for a build, from what the commands printed.

That stands in ``figures.md``. A page shows it by ``{printed-figure} NAME``, with an ``:alt:``, and
by ``{corner-table}``. The names are the functions of :data:`DRAWN`.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from . import printed, printed_gaps

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def contest(text: str) -> Figure:
    """Who finds the planted units."""
    from memviz.probes.contest.figures import contest as drawn

    return drawn(printed.contest(text))


def mitigation(text: str) -> Figure:
    """Memorization of image-caption models against their utility."""
    from memviz.probes.deja_vu.figures import mitigation as drawn

    return drawn(printed_gaps.directions(text), utilities=("utility", "linear probe"))


def neighbours(text: str) -> Figure:
    """Gaps against the number of neighbours."""
    from memviz.probes.deja_vu.figures import curve

    return curve(printed_gaps.neighbours(text))


def first_pairs(text: str) -> Figure:
    """A gap over the first pairs of each sort order."""
    from memviz.probes.deja_vu.figures import most_memorized

    return most_memorized(printed_gaps.first_pairs(text))


DRAWN: dict[str, Callable[[str], Figure]] = {
    "contest": contest,
    "mitigation": mitigation,
    "neighbours": neighbours,
    "first-pairs": first_pairs,
}


class PrintedFigure(SphinxDirective):
    """One of the figures, by its name."""

    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {"alt": directives.unchanged_required}

    def run(self) -> list[nodes.Node]:
        """Draw it from the tables."""
        (wanted,) = self.arguments
        if wanted not in DRAWN:
            raise self.error(f"there is no figure {wanted!r}; there are {', '.join(DRAWN)}")
        content = io.BytesIO()
        DRAWN[wanted](_printed(self)).savefig(content, dpi=150, format="png")
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
    app.add_directive("printed-figure", PrintedFigure)
    app.add_directive("corner-table", CornerTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
