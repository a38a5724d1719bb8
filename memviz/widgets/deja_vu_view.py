"""The déjà vu explorer: which picture a caption brings back, and which units hold it."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape

from memviz.probes.deja_vu_retrieval import Retrieval
from memviz.scores import Scores
from memviz.session import Session
from memviz.widgets.deja_vu_controller import DejaVuController
from memviz.widgets.view import View


class DejaVuView(View):
    """The explorer; ``retrieval`` holds the models and the pairs, ``session`` the ablation."""

    controller: DejaVuController  # type: ignore[assignment]

    @property
    def retrieval(self) -> Retrieval:
        """What it looks at."""
        return self.controller.retrieval

    @property
    def effects(self) -> None:
        """The explorer sweeps the recall gap, not margins: ``deja_vu_units.unit_effects``."""
        return None

    def __repr__(self) -> str:
        told = self.controller.snapshot_sentence
        return f"memviz déjà vu explorer of {self.session.study.name!r}. {told}"

    def _still(self) -> str:
        """The opened pair and its neighbours as a picture, and a line of text."""
        from memviz.plots.deja_vu_neighbours import neighbours

        controller, row = self.controller, self.session.opened
        controller.ready()
        row = self.session.opened
        words = escape(repr(self), quote=True)
        if controller.shown is None or row is None or row >= len(self.retrieval.training):
            return f"<p>{words}</p>"
        found, pairs = controller.shown.found, self.retrieval.training
        drawn = {
            int(i) for side in (found.target, found.reference) for i in side.neighbours.ids[row, :5]
        }
        public = {i: controller.thumbnail(len(pairs) + i) for i in drawn}
        out = io.BytesIO()
        figure = neighbours(
            found, row, controller.thumbnail(row), public, pairs.class_names, pairs.captions[row]
        )
        figure.savefig(out, format="png", dpi=110)
        image = base64.b64encode(out.getvalue()).decode()
        return (
            f'<p>{words}</p><img alt="{words}" src="data:image/png;base64,{image}" '
            'style="max-width:100%">'
        )


def deja_vu(
    retrieval: Retrieval, scores: Mapping[str, Scores] | Sequence[Scores] = ()
) -> DejaVuView:
    """Explore déjà vu: pick a caption, see what it finds, ablate units, watch it change.

    Parameters
    ----------
    retrieval : Retrieval
        ``mv.demo("scenes")``, or of your own CLIP models and pairs.
    scores : Scores over units, optional
        Further scores that the unit maps can wear.

    Raises
    ------
    ValueError
        If scores are over examples.

    Examples
    --------
    >>> from memviz.demos import scenes
    >>> deja_vu(scenes.retrieval())
    memviz déjà vu explorer of 'scenes'. starting
    """
    session = Session(retrieval.study)
    controller = DejaVuController(retrieval, session)
    named = scores if isinstance(scores, Mapping) else {score.name: score for score in scores}
    for name, one in named.items():
        if one.units is None:
            raise ValueError(f"{name!r} is over examples; the unit maps wear unit scores.")
    controller.scores.extra.update(named)
    return DejaVuView(controller, "deja_vu")  # type: ignore[arg-type]
