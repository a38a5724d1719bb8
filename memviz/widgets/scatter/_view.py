"""The scatter of two scores over units: brush units, ablate them, see what activates them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from memviz.checks import checked
from memviz.scores import Scores
from memviz.session import Session
from memviz.study import Study
from memviz.widgets.core import named_scores
from memviz.widgets.workbench import View, shown_controller

from ._scatter import Scatter
from ._still import unit_scatter

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class ScatterView(View):
    """A view of a session whose still picture is a scatter."""

    def _figure(self) -> Figure:
        controller = self.controller
        x, y = (controller.scores.shown(key) for key in controller.part(Scatter).axes)
        return unit_scatter(x, y, self.session.units)


@checked
def score_scatter(
    study: Study | Session, scores: Mapping[str, Scores] | Sequence[Scores] = ()
) -> View:
    """Two scores over units against each other: one dot per unit, × if it is ablated.

    Brush units with the mouse or the keyboard and ablate them; every view of the same session
    follows. An opened unit shows the examples with its largest activations.

    Parameters
    ----------
    study : Study or Session
        Views made from the same session are linked.
    scores : Scores over units, optional
        Further scores for the axes. The view starts with the first two, or with the first against
        the exact effect.

    Raises
    ------
    ValueError
        If scores are over examples.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    >>> study = Study(model.eval(), torch.randn(6, 4), torch.zeros(6), {"test": range(6)})
    >>> score_scatter(study)
    memviz scatter of 'study'. starting
    """
    controller = shown_controller(study, scores)
    controller.part(Scatter).begin(named_scores(scores))
    return ScatterView(controller, "scatter")
