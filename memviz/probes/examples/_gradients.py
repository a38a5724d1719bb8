"""Scores from prediction errors and weight gradients at the checkpoints of a training."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from memviz.engine.gradients import gradient_norms
from memviz.scores import Scores
from memviz.study import Study

from ._at_checkpoints import About, Null, chosen_epochs, early_epochs, over_checkpoints
from ._dynamics import UNREAD

Engine = Literal["gradient norms", "captum"]
_BATCH = 256


def el2n(
    study: Study,
    examples: Tensor | None = None,
    *,
    epochs: Collection[int] | None = None,
    null_draws: int = 20,
    seed: int = 0,
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

    @torch.no_grad()
    def measure(at: Study, epoch: int | None, chosen: Tensor) -> Tensor:
        return torch.cat([_errors(at, rows) for rows in chosen.split(_BATCH)])

    about = About("EL2N", "L2 norm of probabilities", f"after Paul et al. 2021, EL2N; {UNREAD}")
    early = early_epochs(study) if epochs is None else epochs
    null = Null(null_draws, seed)
    return over_checkpoints(study, examples, early, measure, about, null, progress=progress)


def grand(
    study: Study,
    examples: Tensor | None = None,
    *,
    epochs: Collection[int] | None = None,
    null_draws: int = 20,
    seed: int = 0,
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

    about = About("GraNd", "nats for a weight unit", f"after Paul et al. 2021, GraNd; {UNREAD}")
    early = early_epochs(study) if epochs is None else epochs
    null = Null(null_draws, seed)
    return over_checkpoints(study, examples, early, measure, about, null, progress=progress)


def tracin(
    study: Study,
    learning_rates: Mapping[int, float] | float,
    examples: Tensor | None = None,
    *,
    epochs: Collection[int] | None = None,
    engine: Engine = "gradient norms",
    null_draws: int = 20,
    seed: int = 0,
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
        If a checkpoint is missing, is of another architecture, or has no learning rate.

    Examples
    --------
    >>> model = nn.Linear(4, 3).eval()
    >>> study = Study(model, torch.randn(6, 4), torch.zeros(6), {"test": range(6)})
    >>> tracin(study, 0.1).values.shape
    (6,)
    """
    if engine not in get_args(Engine):
        raise ValueError(f"engine is {engine!r}; choose from {', '.join(get_args(Engine))}.")
    if isinstance(learning_rates, Mapping):
        for epoch in chosen_epochs(study, epochs):
            if epoch is None or epoch not in learning_rates:
                raise ValueError(
                    f"learning_rates has none for epoch {epoch}; give one for each checkpoint."
                )

    def measure(at: Study, epoch: int | None, chosen: Tensor) -> Tensor:
        by_epoch = learning_rates
        rate = by_epoch[epoch or 0] if isinstance(by_epoch, Mapping) else by_epoch
        if engine == "captum":
            return _self_influence(at, chosen, float(rate))
        return float(rate) * gradient_norms(at, chosen, progress=False).total.double().square()

    source = f"after Pruthi et al. 2020, TracInCP; {UNREAD}"
    about = About("TracIn self-influence", "nats, to first order", source)
    null = Null(null_draws, seed)
    return over_checkpoints(
        study, examples, epochs, measure, about, null, total=True, progress=progress
    )


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
