"""The view of the example inspector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from memviz.checks import checked
from memviz.scores import Scores
from memviz.session import Session
from memviz.study import Study
from memviz.training.run import TrainingRun
from memviz.widgets.core import named_scores
from memviz.widgets.workbench import View, shown_controller

from ._inspector import Inspector


@checked
def inspector(
    session: Session | Study,
    scores: Mapping[str, Scores] | Sequence[Scores] = (),
    run: TrainingRun | None = None,
) -> View:
    """Everything known about the opened example: scores, units that hold it, curve, neighbours.

    Parameters
    ----------
    session : Session or Study
    scores : Scores over examples, optional
        Each is shown with the example's rank and the range of its null.
    run : TrainingRun, optional
        Recorded training of this study, for the learning curve; by default the curve comes from
        the study's checkpoints.

    Raises
    ------
    ValueError
        If scores are over units.
    """
    controller = shown_controller(session)
    part = controller.part(Inspector)
    part.use(named_scores(scores), run)
    part.start()
    return View(controller, "inspector")
