"""ELR+: early-learning regularization with mixup, weight averaging and two networks.

Liu et al. (2020), appendix F and the released code. The parts stand alone; ``train_two`` puts them
together in the plainest way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot
from torch.optim.swa_utils import AveragedModel

from memviz.training.epochs import Epochs, seeded_epoch
from memviz.training.recorder import Recorder
from memviz.training.run import TrainingRun

from ._losses import ELR


@dataclass(frozen=True)
class Mixed:
    """A batch mixed with itself in another order: ``share * a + (1 - share) * b``.

    Attributes
    ----------
    inputs : ``[b, ...]``
    order : int64 ``[b]``, row ``order[k]`` was mixed into row k.
    share : float, at least 0.5, so that row k stays mostly itself.
    """

    inputs: Tensor
    order: Tensor
    share: float

    def mix(self, rows: Tensor) -> Tensor:
        """The same mixture of other rows of the batch: labels or targets ``[b, classes]``."""
        return self.share * rows + (1 - self.share) * rows[self.order.to(rows.device)]


def mixup(inputs: Tensor, generator: torch.Generator, alpha: float = 1.0) -> Mixed:
    """Mix a batch with itself (Zhang et al. 2018), the larger share first as in ELR+.

    One share for the batch, ``max(l, 1 - l)`` with l from Beta(alpha, alpha).

    Raises
    ------
    ValueError : alpha is not above 0.

    Examples
    --------
    >>> mixed = mixup(torch.eye(4), torch.Generator().manual_seed(0))
    >>> torch.allclose(mixed.inputs.sum(1), torch.ones(4)), 0.5 <= mixed.share <= 1
    (True, True)
    """
    if not alpha > 0:
        raise ValueError(f"alpha must be above 0, but got {alpha}.")
    # torch draws from a Beta distribution with the global generator only.
    draw = np.random.RandomState(int(torch.randint(2**31, (), generator=generator)))
    share = draw.beta(alpha, alpha)
    order = torch.randperm(len(inputs), generator=generator)
    mixed = Mixed(inputs, order, max(share, 1 - share))
    return replace(mixed, inputs=mixed.mix(inputs))


def weight_average(model: nn.Module, decay: float = 0.997, ramp_steps: int = 40_000) -> Any:
    """An exponential moving average of a model's weights; call ``update_parameters(model)`` a step.

    The decay rises to its value over ``ramp_steps`` steps i as ``exp(-5 (1 - i / ramp_steps)^2)``,
    so that the first weights are soon forgotten. Buffers are the model's own.

    Returns
    -------
    torch.optim.swa_utils.AveragedModel

    Examples
    --------
    >>> model = torch.nn.Linear(1, 1)
    >>> average = weight_average(model)
    >>> average.update_parameters(model)
    >>> torch.equal(average(torch.ones(1, 1)), model(torch.ones(1, 1)))
    True
    """
    if not 0 <= decay < 1 or ramp_steps < 1:
        raise ValueError(
            f"decay lies from 0 to below 1 and ramp_steps at 1 or more, but got {decay} and "
            f"{ramp_steps}."
        )

    def averaged(old: Tensor, new: Tensor, steps: Tensor | int) -> Tensor:
        done = min(int(steps), ramp_steps) / ramp_steps
        return torch.lerp(new, old, decay * math.exp(-5 * (1 - done) ** 2))

    return AveragedModel(model, avg_fn=averaged)


def mixed_loss(loss: ELR, logits: Tensor, labels: Tensor, indices: Tensor, batch: Mixed) -> Tensor:
    """Early-learning regularization of a mixed batch: labels and targets mixed as its inputs.

    Targets stay; move them with ``loss.update`` by what the other network's averaged weights
    predict for the inputs before mixing.

    Examples
    --------
    >>> loss, indices = ELR(examples=100, classes=3), torch.arange(4)
    >>> batch, net, other = torch.randn(4, 2), torch.nn.Linear(2, 3), torch.nn.Linear(2, 3)
    >>> mixed = mixup(batch, torch.Generator().manual_seed(0))
    >>> loss.update(other(batch), indices)
    >>> mixed_loss(loss, net(mixed.inputs), torch.tensor([0, 1, 2, 0]), indices, mixed).shape
    torch.Size([])
    """
    given = batch.mix(one_hot(labels, logits.shape[1]).to(logits))
    return cross_entropy(logits, given) + loss.weight * loss.pull(
        logits, batch.mix(loss.of(indices))
    )


class MeanOfTwo(nn.Module):
    """Two networks that answer together: logarithms of the mean of their probabilities.

    Examples
    --------
    >>> net = torch.nn.Linear(2, 3)
    >>> torch.allclose(MeanOfTwo(net, net)(torch.ones(1, 2)).exp().sum(), torch.ones(()))
    True
    """

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, inputs: Tensor) -> Tensor:
        """Log-probabilities ``[n, classes]``."""
        both = torch.stack([self.first(inputs), self.second(inputs)]).log_softmax(2)
        return both.logsumexp(0) - math.log(2)


def train_two(
    models: tuple[nn.Module, nn.Module],
    inputs: Tensor,
    labels: Tensor,
    losses: tuple[ELR, ELR],
    *,
    examples: Tensor | None = None,
    epochs: int = 50,
    batch_size: int = 128,
    learning_rate: float = 0.02,
    weight_decay: float = 1e-3,
    decay: float = 0.997,
    ramp_steps: int = 40_000,
    seed: int = 0,
    progress: bool = True,
) -> tuple[MeanOfTwo, TrainingRun]:
    """Train two networks that regularize each other; gives their averages' mean, and its record.

    In each step each network learns a mixed batch, with targets from the averaged weights of the
    other, which sees the batch un-mixed. SGD with momentum 0.9 at a constant rate. If training
    stops early, networks and averages are put back to the end of the last finished epoch. Order,
    mixtures and what the networks themselves draw, as dropout does, come from the seed.

    Parameters
    ----------
    models : two networks with different initial weights, trained in place.
    losses : their losses, with a target for each of the n examples.
    examples : integers, the examples to train on; all, unless given. All n are recorded.
    decay, ramp_steps : see :func:`weight_average`.

    Raises
    ------
    ValueError : labels that don't fit the inputs or the models' classes.
    FloatingPointError : a loss is no longer finite.
    """
    recorder = Recorder(inputs, labels)
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.arange(len(inputs)) if examples is None else torch.as_tensor(examples)
    averages = [weight_average(model, decay, ramp_steps).eval() for model in models]
    both = MeanOfTwo(*averages)
    optimizers = [
        torch.optim.SGD(model.parameters(), learning_rate, 0.9, weight_decay=weight_decay)
        for model in models
    ]
    recorder.start(both)
    everything = nn.ModuleList([*models, both])
    with Epochs(everything, epochs, learning_rate=learning_rate, progress=progress) as frame:
        for epoch in frame:
            with seeded_epoch(seed, epoch):
                values = []
                order = chosen[torch.randperm(len(chosen), generator=generator)]
                for batch in order.to(inputs.device).split(batch_size):
                    for loss, other in zip(losses, reversed(averages), strict=True):
                        with torch.no_grad():
                            loss.update(other(inputs[batch]), batch)
                    parts = zip(models, losses, optimizers, averages, strict=True)
                    for model, loss, optimizer, average in parts:
                        model.train()
                        mixed = mixup(inputs[batch], generator)
                        value = mixed_loss(loss, model(mixed.inputs), labels[batch], batch, mixed)
                        optimizer.zero_grad()
                        value.backward()
                        optimizer.step()
                        average.update_parameters(model)
                        values.append(value.item())
            frame.trained(sum(values) / len(values))
            recorder.epoch(both, learning_rate=learning_rate)
            frame.end()
    return both, recorder.run
