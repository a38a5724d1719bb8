"""The déjà vu explorer: which picture a caption brings back, and which units hold it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from memviz.checks import check_place, checked
from memviz.probes.deja_vu.ablation import Retrieval
from memviz.scores import Scores
from memviz.session import Session
from memviz.widgets.core import BaseView, named_scores

from ._controller import DejaVuController

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class DejaVuView(BaseView):
    """The explorer: ``retrieval`` holds the models and the pairs, ``session`` the ablation."""

    controller: DejaVuController

    @property
    def retrieval(self) -> Retrieval:
        """The models and pairs explored."""
        return self.controller.retrieval

    def export(self, path: str, *, progress: bool = True) -> None:
        """Write a page that works without a kernel or a network.

        It opens, sorts and searches the pairs, and ablates single units exactly: the 64 with the
        largest effect on AUCG, fewer where their figures would take more than a megabyte. Each
        costs one retrieval, once; it can be interrupted at any time, and nothing is written then.
        """
        check_place(path)
        self.controller.find_alone(progress=progress)
        super().export(path)

    def __repr__(self) -> str:
        words = self.controller.sentence
        return f"memviz déjà vu explorer of {self.session.study.name!r}. {words}"

    def _figure(self) -> Figure | None:
        """The opened pair and its neighbours."""
        from memviz.probes.deja_vu.figures import neighbours

        controller, row, pairs = self.controller, self.controller.pair, self.retrieval.training
        if controller.shown is None or row is None:
            return None
        test = controller.shown.found
        drawn = {
            int(i) for side in (test.target, test.reference) for i in side.neighbours.ids[row, :5]
        }
        public = {i: controller.thumbnail(len(pairs) + i) for i in drawn}
        own, caption = controller.thumbnail(row), pairs.captions[row]
        return neighbours(test, row, own, public, pairs.class_names, caption)


@checked
def deja_vu(
    retrieval: Retrieval, scores: Mapping[str, Scores] | Sequence[Scores] = ()
) -> DejaVuView:
    """Explore déjà vu: pick a caption, see the pictures it finds, ablate units, see what changes.

    Parameters
    ----------
    retrieval : Retrieval
        ``mv.demo("scenes")``, or of your own CLIP models and pairs.
    scores : Scores over units, optional
        Further scores for the unit maps.

    Raises
    ------
    TypeError
        If ``retrieval`` is not a Retrieval.
    ValueError
        If scores are over examples.

    Examples
    --------
    >>> from memviz.demos import scenes
    >>> deja_vu(scenes.retrieval())
    memviz déjà vu explorer of 'scenes'. starting
    """
    if not isinstance(retrieval, Retrieval):
        raise TypeError(
            f"expected a Retrieval, got {type(retrieval).__name__}; build one from two CLIP models "
            "and their pairs, or use mv.demo('scenes')."
        )
    session = Session(retrieval.study)
    controller = DejaVuController(retrieval, session)
    named = named_scores(scores)
    for name, given in named.items():
        if given.units is None:
            raise ValueError(f"{name!r} is over examples; unit maps show scores over units.")
    controller.scores.extra.update(named)
    return DejaVuView(controller, "deja_vu")
