"""The view of an example inspector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from memviz.scores import Scores
from memviz.session import Session
from memviz.study import Study
from memviz.training.run import TrainingRun
from memviz.widgets.core import named_scores
from memviz.widgets.workbench import View, shown_controller

from ._inspector import Inspector


def inspector(
    session: Session | Study,
    scores: Mapping[str, Scores] | Sequence[Scores] = (),
    run: TrainingRun | None = None,
) -> View:
    """All that is known of one example: scores, the units that hold it, its curve, its neighbours.

    Parameters
    ----------
    session : Session or Study
    scores : Scores over examples, optional
        Each is shown with the example's rank and its null.
    run : TrainingRun, optional
        Its recorded training, for the learning curve; else the study's checkpoints give it.

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
