"""Scores from prediction errors and weight gradients at the checkpoints of a training."""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from memviz.checks import CountOrZero, IndicesLike, Seed, checked, quoted
from memviz.engine.gradients import gradient_norms, gradient_products
from memviz.progress import slow
from memviz.scores import Scores
from memviz.study import Study, check_classes, check_examples

from ._at_checkpoints import (
    About,
    Null,
    at_checkpoint,
    chosen_epochs,
    early_epochs,
    over_checkpoints,
)
from ._dynamics import FORMULA

Engine = Literal["gradient norms", "captum"]
LearningRates = Mapping[int, float] | float
_REAL = (int, float, np.integer, np.floating)
_BATCH = 256


@checked
def el2n(
    study: Study,
    examples: IndicesLike | None = None,
    *,
    epochs: Collection[int] | None = None,
    null_draws: CountOrZero = 20,
    seed: Seed = 0,
    progress: bool = True,
) -> Scores:
    """L2 norm of the error, softmax minus one-hot label, early in training (EL2N).

    Paul et al. average over about ten initializations; here early checkpoints of one training are
    averaged.

    Parameters
    ----------
    study, examples, null_draws, seed, progress
        As for :func:`memviz.probes.examples.loss_curvature`.
    epochs : collection of int, optional
        By default the checkpoints of the first third of the training, without epoch 0.

    Examples
    --------
    >>> model = nn.Linear(4, 3).eval()
    >>> study = Study(model, torch.randn(6, 4), torch.zeros(6), {"test": range(6)})
    >>> el2n(study).values.shape
    (6,)
    """
    check_classes(study, "EL2N scores")

    @torch.no_grad()
    def measure(at: Study, epoch: int | None, chosen: Tensor) -> Tensor:
        return torch.cat([_errors(at, rows) for rows in chosen.split(_BATCH)])

    about = About("EL2N", "L2 norm of probabilities", f"after Paul et al. 2021, EL2N; {FORMULA}")
    early = early_epochs(study) if epochs is None else epochs
    null = Null(null_draws, seed)
    return over_checkpoints(study, examples, early, measure, about, null, progress=progress)


@checked
def final_loss(
    study: Study,
    examples: IndicesLike | None = None,
    *,
    null_draws: CountOrZero = 20,
    seed: Seed = 0,
    progress: bool = True,
) -> Scores:
    """The loss of the model as it is.

    A memorized example has a low loss by definition, if a higher one than the others that were
    fitted; a high loss is of an example that was not learned. It is the baseline of other scores.

    Parameters
    ----------
    study, examples, null_draws, seed, progress
        As for :func:`el2n`.

    Examples
    --------
    >>> model = nn.Linear(4, 3).eval()
    >>> study = Study(model, torch.randn(6, 4), torch.zeros(6), {"test": range(6)})
    >>> final_loss(study).values.shape
    (6,)
    """

    @torch.no_grad()
    def measure(at: Study, epoch: int | None, chosen: Tensor) -> Tensor:
        losses = []
        for rows in chosen.split(_BATCH):
            outputs = at.task.outputs(at.call(at.batch(rows))())
            losses.append(at.task.loss(outputs, at.labels[rows].to(outputs.device)).cpu())
        return torch.cat(losses)

    unit = getattr(study.task, "loss_unit", "") or "nats"
    about = About("final loss", unit, "the task's loss at the end of training")
    null = Null(null_draws, seed)
    own = replace(study, checkpoints={})
    return over_checkpoints(own, examples, None, measure, about, null, progress=progress)


@checked
def grand(
    study: Study,
    examples: IndicesLike | None = None,
    *,
    epochs: Collection[int] | None = None,
    null_draws: CountOrZero = 20,
    seed: Seed = 0,
    progress: bool = True,
) -> Scores:
    """L2 norm of the loss gradient with respect to the weights, early in training (GraNd).

    Parameters
    ----------
    study, examples, epochs, null_draws, seed, progress
        As for :func:`el2n`.

    Examples
    --------
    >>> model = nn.Linear(4, 3).eval()
    >>> study = Study(model, torch.randn(6, 4), torch.zeros(6), {"test": range(6)})
    >>> grand(study).values.shape
    (6,)
    """

    def measure(at: Study, epoch: int | None, chosen: Tensor) -> Tensor:
        return gradient_norms(at, chosen, progress=False).total

    about = About("GraNd", "nats for a weight unit", f"after Paul et al. 2021, GraNd; {FORMULA}")
    early = early_epochs(study) if epochs is None else epochs
    null = Null(null_draws, seed)
    return over_checkpoints(study, examples, early, measure, about, null, progress=progress)


@checked
def tracin(
    study: Study,
    learning_rates: LearningRates,
    examples: IndicesLike | None = None,
    *,
    epochs: Collection[int] | None = None,
    engine: Engine = "gradient norms",
    null_draws: CountOrZero = 20,
    seed: Seed = 0,
    progress: bool = True,
) -> Scores:
    """TracIn self-influence: squared L2 norm of the weights' loss gradient, times learning rate.

    Summed over the checkpoints; to first order, how much steps on an example alone lower its loss.

    Parameters
    ----------
    study, examples, epochs, null_draws, seed, progress
        As for :func:`memviz.probes.examples.loss_curvature`.
    learning_rates : float, or mapping of epoch to float
        At each checkpoint.
    engine : {"gradient norms", "captum"}
        Captum's ``TracInCP`` computes one gradient per example; the engine's gradient norms give
        the same numbers without them.

    Raises
    ------
    ValueError
        If a checkpoint is missing, is of another architecture, or has no learning rate, a learning
        rate is negative or not finite, or an example is given twice.

    Examples
    --------
    >>> model = nn.Linear(4, 3).eval()
    >>> study = Study(model, torch.randn(6, 4), torch.zeros(6), {"test": range(6)})
    >>> tracin(study, 0.1).values.shape
    (6,)
    """
    if engine not in get_args(Engine):
        raise ValueError(f"engine is {quoted(engine)}; choose from {', '.join(get_args(Engine))}.")
    rates = _rates(learning_rates, chosen_epochs(study, epochs))

    def measure(at: Study, epoch: int | None, chosen: Tensor) -> Tensor:
        if engine == "captum":
            return _self_influence(at, chosen, rates[epoch])
        return rates[epoch] * gradient_norms(at, chosen, progress=False).total.double().square()

    source = f"after Pruthi et al. 2020, TracInCP; {FORMULA}"
    about = About("TracIn self-influence", "nats, to first order", source)
    null = Null(null_draws, seed)
    return over_checkpoints(
        study, examples, epochs, measure, about, null, total=True, progress=progress
    )


@checked
def tracin_influence(
    study: Study,
    learning_rates: LearningRates,
    test: Tensor,
    train: Tensor,
    *,
    epochs: Collection[int] | None = None,
    progress: bool = True,
) -> Tensor:
    """TracIn influence of each training example on each test example.

    Inner product of the loss gradients of both, times the learning rate, summed over the
    checkpoints: to first order, how much steps on the training example alone lower the test
    example's loss. An example's influence on itself is :func:`tracin`.

    Parameters
    ----------
    study, learning_rates, epochs, progress
        As for :func:`tracin`.
    test, train : int64 ``[m]``, ``[n]``
        Any examples of the study; one may be in both.

    Returns
    -------
    Tensor
        float64 ``[m, n]``, in nats; above 0 where training on the example helps.

    Raises
    ------
    ValueError
        If a checkpoint is missing or of another architecture, or a learning rate is missing,
        negative or not finite.

    Examples
    --------
    >>> model = nn.Linear(4, 3).eval()
    >>> study = Study(model, torch.randn(6, 4), torch.zeros(6), {"test": range(6)})
    >>> tracin_influence(study, 0.1, torch.tensor([0, 1]), torch.arange(2, 6)).shape
    torch.Size([2, 4])
    """
    test, train = check_examples(study, test, "test"), check_examples(study, train, "train")
    steps = chosen_epochs(study, epochs)
    rates = _rates(learning_rates, steps)
    model, total = copy.deepcopy(study.model), torch.zeros(len(test), len(train)).double()
    for epoch in slow(steps, "TracIn influence", progress=progress):
        at = at_checkpoint(study, model, epoch)
        total += rates[epoch] * gradient_products(at, test, train, progress=False)
    return total


def _rates(
    learning_rates: LearningRates, epochs: Collection[int | None]
) -> dict[int | None, float]:
    """The learning rate at each checkpoint; that of None is for the current model."""
    given = learning_rates.values() if isinstance(learning_rates, Mapping) else [learning_rates]
    odd = [rate for rate in given if isinstance(rate, bool) or not isinstance(rate, _REAL)]
    if odd:
        raise ValueError(
            f"learning_rates holds {quoted(odd[0])}; give a number, or one for each epoch by epoch."
        )
    if isinstance(learning_rates, Mapping):
        absent = [epoch for epoch in epochs if epoch is None or epoch not in learning_rates]
        if absent:
            raise ValueError(
                f"learning_rates has none for epoch {absent[0]}; give one for each checkpoint."
            )
    rates: dict[int | None, float] = {
        epoch: float(learning_rates[epoch or 0])
        if isinstance(learning_rates, Mapping)
        else float(learning_rates)
        for epoch in epochs
    }
    wrong = [rate for rate in rates.values() if not 0 <= rate < math.inf]
    if wrong:
        raise ValueError(
            f"learning_rates holds {wrong[0]}; a learning rate is a finite number of at least 0."
        )
    return rates


class _Loss(nn.Module):
    """The task's loss per example, in the form Captum expects."""

    reduction = "none"

    def __init__(self, study: Study) -> None:
        super().__init__()
        self.task = study.task

    def forward(self, raw: object, labels: Tensor) -> Tensor:
        return self.task.loss(self.task.outputs(raw), labels)


def _self_influence(study: Study, examples: Tensor, rate: float) -> Tensor:
    from captum.influence import TracInCP
    from torch.utils.data import TensorDataset

    inputs = study.batch(examples)
    if not isinstance(inputs, Tensor):
        raise ValueError(
            "Captum's TracInCP needs inputs that are a single tensor, but these are a dict; use "
            'engine="gradient norms".'
        )
    labels = study.labels[examples].to(inputs.device)
    influences: Tensor = TracInCP(
        study.model,
        TensorDataset(inputs, labels),
        [study.name],  # the weights are loaded already; Captum only looks up the learning rate
        lambda model, checkpoint: rate,
        loss_fn=_Loss(study),
        batch_size=_BATCH,
    ).self_influence()
    return influences


def _errors(study: Study, rows: Tensor) -> Tensor:
    outputs = study.task.outputs(study.call(study.batch(rows))())
    labels = study.labels[rows].to(outputs.device)
    if outputs.dim() != 2:
        raise ValueError(
            f"EL2N needs logits [examples, classes], but the outputs are {list(outputs.shape)}."
        )
    errors = outputs.double().softmax(1) - one_hot(labels, outputs.shape[1])
    norms: Tensor = torch.linalg.vector_norm(errors, dim=1)
    return norms
