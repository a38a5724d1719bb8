"""All scores of examples from a recorded training, or from its checkpoints."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from memviz.checks import IndicesLike, checked
from memviz.scores import Scores
from memviz.study import Study, check_classes, check_examples, has_classes
from memviz.training.run import TrainingRun
from memviz.training.subsets import training_pool

from . import _dynamics as training_dynamics
from ._depth import prediction_depth
from ._gradients import LearningRates, el2n, final_loss, grand, tracin
from ._input_gradients import loss_curvature, loss_sensitivity

_NEIGHBOURS = 30  # of the prediction depth, as in its paper


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
def scores_of_model(
    study: Study, examples: IndicesLike | None = None, *, progress: bool = True
) -> list[Scores]:
    """What one trained model can tell of its examples, without checkpoints or other models.

    Its loss, the gradients of that loss with respect to inputs and weights, and how deep in the
    network an example is decided. All of it is of the end of training, where the loss of an
    example that was fitted says least: scores over a training, or of models trained without the
    example, are better where they can be had. Checkpoints of the study are not read.

    Parameters
    ----------
    study : Study
    examples : int64 ``[n]``, optional
        By default all except the group ``test``.
    progress : bool

    Returns
    -------
    list of Scores
        Final loss, gradient norm and, where the task and the inputs allow it, EL2N, prediction
        depth, loss curvature and loss sensitivity.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    >>> study = Study(model.eval(), torch.randn(40, 4), [0, 1] * 20, {"train": range(40)})
    >>> [scores.name for scores in scores_of_model(study, progress=False)][:3]
    ['final loss', 'GraNd', 'input-loss curvature']
    """
    as_it_is = replace(study, checkpoints={})
    given = None if examples is None else check_examples(study, examples)
    chosen = training_pool(study, given)
    found = [final_loss(as_it_is, chosen, progress=progress)]
    found.append(grand(as_it_is, chosen, progress=progress))
    one = study.rows(chosen[:1])
    if isinstance(one, Tensor) and one.is_floating_point():
        found.append(loss_curvature(as_it_is, chosen, progress=progress))
        found.append(loss_sensitivity(as_it_is, chosen, progress=progress))
    if has_classes(study):
        found.append(el2n(as_it_is, chosen, progress=progress))
        voters = sum(int(m.sum()) for name, m in study.groups.items() if name != "test")
        if voters > _NEIGHBOURS:
            found.append(prediction_depth(as_it_is, chosen, k=_NEIGHBOURS, progress=progress))
    return found


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
