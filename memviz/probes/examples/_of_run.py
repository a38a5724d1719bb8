"""The scores of examples that a recorded training or its checkpoints give."""

from __future__ import annotations

from torch import Tensor

from memviz.scores import Scores
from memviz.study import Study
from memviz.training.run import TrainingRun
from memviz.training.subsets import training_pool

from . import _dynamics as training_dynamics
from ._depth import prediction_depth
from ._gradients import el2n, grand, tracin
from ._input_gradients import loss_curvature, loss_sensitivity


def scores_of_run(run: TrainingRun, examples: Tensor | None = None) -> list[Scores]:
    """Every score that a recorded training gives by itself.

    Forgetting events are counted in the moments of training where the run has them, else after each
    epoch.

    Parameters
    ----------
    run : TrainingRun
    examples : int64 ``[n]``, optional
        The study's indices of the run's examples; 0 to n-1 unless given.
    """
    presented = run.presented_margins
    seen = run.correct if presented is None or presented.isnan().any() else presented > 0
    return [
        training_dynamics.cumulative_loss(run.losses, examples),
        training_dynamics.area_under_margin(run.margins, examples),
        training_dynamics.learning_time(run.correct, examples),
        training_dynamics.forgetting_events(seen, examples),
    ]


def scores_of_checkpoints(
    study: Study,
    examples: Tensor | None = None,
    *,
    learning_rates: dict[int, float] | float = 1.0,
    progress: bool = True,
) -> list[Scores]:
    """Every score that the study's checkpoints and its examples give, by their default settings.

    Parameters
    ----------
    study : Study
    examples : int64 ``[n]``, optional
        All but the group ``test``, unless given.
    learning_rates : float, or mapping of epoch to float
        For TracIn.
    progress : bool
    """
    chosen = training_pool(study, examples)
    return [
        loss_curvature(study, chosen, progress=progress),
        loss_sensitivity(study, chosen, progress=progress),
        el2n(study, chosen, progress=progress),
        grand(study, chosen, progress=progress),
        tracin(study, learning_rates, chosen, progress=progress),
        prediction_depth(study, chosen, progress=progress),
    ]
