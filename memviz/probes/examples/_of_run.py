"""All scores of examples from a recorded training, or from its checkpoints."""

from __future__ import annotations

from memviz.checks import IndicesLike, checked
from memviz.scores import Scores
from memviz.study import Study, check_classes, check_examples
from memviz.training.run import TrainingRun
from memviz.training.subsets import training_pool

from . import _dynamics as training_dynamics
from ._depth import prediction_depth
from ._gradients import LearningRates, el2n, grand, tracin
from ._input_gradients import loss_curvature, loss_sensitivity


@checked
def scores_of_run(run: TrainingRun, examples: IndicesLike | None = None) -> list[Scores]:
    """All scores that need only a recorded training.

    Forgetting events are counted when examples are presented, if the run recorded that, and after
    each epoch otherwise.

    Parameters
    ----------
    run : TrainingRun
    examples : int64 ``[n]``, optional
        The study's indices of the run's examples; 0 to n-1 by default.
    """
    presented = run.presented_margins
    seen = run.correct if presented is None or presented.isnan().any() else presented > 0
    return [
        training_dynamics.cumulative_loss(run.losses, examples),
        training_dynamics.area_under_margin(run.margins, examples),
        training_dynamics.learning_time(run.correct, examples),
        training_dynamics.forgetting_events(seen, examples),
    ]


@checked
def scores_of_checkpoints(
    study: Study,
    examples: IndicesLike | None = None,
    *,
    learning_rates: LearningRates = 1.0,
    progress: bool = True,
) -> list[Scores]:
    """All scores that need a study and its checkpoints, with their default settings.

    Parameters
    ----------
    study : Study
    examples : int64 ``[n]``, optional
        By default all except the group ``test``.
    learning_rates : float, or mapping of epoch to float
        For TracIn.
    progress : bool

    Raises
    ------
    ValueError
        If the labels are not classes, which EL2N and prediction depth need.
    """
    check_classes(study, "EL2N scores and prediction depths")
    given = None if examples is None else check_examples(study, examples)
    chosen = training_pool(study, given)
    return [
        loss_curvature(study, chosen, progress=progress),
        loss_sensitivity(study, chosen, progress=progress),
        el2n(study, chosen, progress=progress),
        grand(study, chosen, progress=progress),
        tracin(study, learning_rates, chosen, progress=progress),
        prediction_depth(study, chosen, progress=progress),
    ]
