"""Scores from gradients with respect to the input: input-loss curvature and loss sensitivity."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from memviz.checks import CountOrZero, IndicesLike, Seed, checked
from memviz.scores import Scores
from memviz.statistics import generator_of
from memviz.study import Study

from ._at_checkpoints import About, Null, over_checkpoints
from ._dynamics import FORMULA

_BATCH = 256


@checked
def loss_curvature(
    study: Study,
    examples: IndicesLike | None = None,
    *,
    epochs: Collection[int] | None = None,
    draws: int = 10,
    step: float = 1e-3,
    null_draws: CountOrZero = 20,
    seed: Seed = 0,
    progress: bool = True,
) -> Scores:
    """How fast the loss gradient changes around an input, averaged over the checkpoints.

    ``mean over v of |(grad loss(x + h v) - grad loss(x)) / h|^2``, gradients with respect to the
    input: an estimate of the trace of the squared Hessian. The directions v are Rademacher (each
    entry -1 or 1), not rescaled, and drawn from the seed and the example; all checkpoints share
    them. The end of training alone says less, since the curvature of fitted examples shrinks.

    Parameters
    ----------
    study : Study
        Its inputs must be a single floating-point tensor.
    examples : int64 ``[n]``, optional
        Each once; all by default.
    epochs : collection of int, optional
        Checkpoints to average over: by default all after epoch 0, or the current model if the study
        has none.
    draws : int
        Directions per example and checkpoint.
    step : float
        h, in units of the input.
    null_draws : int
        Draws of the null, which permutes each checkpoint's values among the examples; 0 for none.
    seed : int
        Seed of the directions and of the null.
    progress : bool

    Returns
    -------
    Scores
        Over examples.

    Raises
    ------
    ValueError
        If the inputs are not floating-point, the step is lost in their rounding, an example is
        given twice, or a checkpoint is missing or of another architecture.

    Examples
    --------
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
    >>> study = Study(model.eval(), torch.randn(6, 4), torch.zeros(6), {"test": range(6)})
    >>> loss_curvature(study).values.shape
    (6,)
    """
    if draws < 1 or not 0 < step < math.inf:
        raise ValueError(
            f"draws is {draws} and step {step}; draws must be at least 1 and step a number above 0."
        )

    def measure(at: Study, epoch: int | None, chosen: Tensor) -> Tensor:
        curvatures = []
        for rows in chosen.split(_BATCH):
            inputs, gradient = _inputs(at, rows), _input_gradients(at, rows)
            total = torch.zeros(len(rows), dtype=torch.float64, device=gradient.device)
            generators = [generator_of(seed, example) for example in rows.tolist()]
            for _ in range(draws):
                moved = inputs + step * _signs(inputs.shape[1:], generators).to(inputs)
                _check_step(inputs, moved, step)
                change = _input_gradients(at, rows, moved) - gradient
                total += (change.double() / step).flatten(1).square().sum(1)
            curvatures.append(total / draws)
        return torch.cat(curvatures)

    source = f"after Garg et al. 2024; {FORMULA}"
    about = About("input-loss curvature", "nats squared for input units to the fourth", source)
    null = Null(null_draws, seed)
    return over_checkpoints(study, examples, epochs, measure, about, null, progress=progress)


@checked
def loss_sensitivity(
    study: Study,
    examples: IndicesLike | None = None,
    *,
    epochs: Collection[int] | None = None,
    null_draws: CountOrZero = 20,
    seed: Seed = 0,
    progress: bool = True,
) -> Scores:
    """L2 norm of the loss gradient with respect to the input, averaged over the checkpoints.

    Parameters
    ----------
    study, examples, epochs, null_draws, seed, progress
        As for :func:`loss_curvature`.

    Examples
    --------
    >>> model = torch.nn.Linear(4, 3).eval()
    >>> study = Study(model, torch.randn(6, 4), torch.zeros(6), {"test": range(6)})
    >>> loss_sensitivity(study).values.shape
    (6,)
    """

    def measure(at: Study, epoch: int | None, chosen: Tensor) -> Tensor:
        parts = [_input_gradients(at, rows) for rows in chosen.split(_BATCH)]
        return torch.cat(
            [torch.linalg.vector_norm(part.double().flatten(1), dim=1) for part in parts]
        )

    source = f"after Arpit et al. 2017; {FORMULA}"
    about = About("loss sensitivity", "nats for an input unit", source)
    null = Null(null_draws, seed)
    return over_checkpoints(study, examples, epochs, measure, about, null, progress=progress)


def _signs(shape: torch.Size, generators: Sequence[torch.Generator]) -> Tensor:
    """Directions of -1 and 1, one per example, ``[n, ...]``."""
    drawn = [torch.randint(2, shape, generator=generator) for generator in generators]
    return torch.stack(drawn) * 2 - 1


def _check_step(inputs: Tensor, moved: Tensor, step: float) -> None:
    """Refuse a step that the inputs' precision does not hold."""
    taken = (moved - inputs).abs().double()
    if bool(((taken - step).abs() > 0.05 * step).any()):
        raise ValueError(
            f"a step of {step:g} is lost in the rounding of inputs of {inputs.dtype} as large as "
            f"{float(inputs.abs().max()):g}; give a larger step, or double precision."
        )


def _inputs(study: Study, rows: Tensor) -> Tensor:
    inputs = study.batch(rows)
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
        kind = inputs.dtype if isinstance(inputs, Tensor) else "a dict"
        raise ValueError(
            "gradients with respect to the inputs need inputs that are a single floating-point "
            f"tensor; these are {kind}."
        )
    return inputs


def _input_gradients(study: Study, rows: Tensor, inputs: Tensor | None = None) -> Tensor:
    """Gradient of each example's own loss with respect to its input, ``[n, ...]``."""
    given = (_inputs(study, rows) if inputs is None else inputs).detach().requires_grad_()
    with torch.enable_grad():
        outputs = study.task.outputs(study.call(given)())
        losses = study.task.loss(outputs, study.labels[rows].to(outputs.device))
        (gradient,) = torch.autograd.grad(losses.sum(), given)
    return gradient
