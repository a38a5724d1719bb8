"""ELR+: early-learning regularization with mixup, weight averaging and two networks.

Liu et al. (2020), appendix F and the released code. The parts stand alone; ``train_two`` puts them
together in the plainest way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot
from torch.optim.swa_utils import AveragedModel

from memviz.training.epochs import Epochs, advice, check_one_device, check_seed, seeded_epoch
from memviz.training.recorder import Recorder
from memviz.training.resume import Progress
from memviz.training.run import TrainingRun

from ._losses import ELR

FILE = "two_networks.safetensors"
KIND = "a training of two networks"


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
    folder: str | Path | None = None,
    progress: bool = True,
) -> tuple[MeanOfTwo, TrainingRun]:
    """Train two networks that regularize each other; gives their averages' mean, and its record.

    In each step each network learns a mixed batch, with targets from the averaged weights of the
    other, which sees the batch un-mixed. SGD with momentum 0.9 at a constant rate. If training
    stops early, networks and losses are put back to the end of the last finished epoch; with a
    folder, the same call then goes on from there and ends as if it had never stopped. Order,
    mixtures and what the networks themselves draw, as dropout does, come from the seed.

    Parameters
    ----------
    models : two networks with different initial weights, trained in place.
    losses : their losses, with a target for each of the n examples.
    examples : integers, the examples to train on; all, unless given. All n are recorded.
    decay, ramp_steps : see :func:`weight_average`.
    folder : keeps the training after every epoch. An epoch that can't be written is warned of,
        and the training goes on.

    Raises
    ------
    ValueError : labels that don't fit the inputs or the models' classes, or a folder that holds
        another training.
    OSError : nothing can be written in the folder; before the training.
    FloatingPointError : a loss is no longer finite.
    """
    seed = check_seed(seed)
    settings = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "decay": decay,
        "ramp_steps": ramp_steps,
        "seed": seed,
    }
    for model in models:
        check_one_device(model, inputs=inputs, labels=labels)
    recorder = Recorder(inputs, labels)
    chosen = torch.arange(len(inputs)) if examples is None else torch.as_tensor(examples)
    pair, learning_losses = nn.ModuleList(models), nn.ModuleList(losses)
    path = None if folder is None else Path(folder) / FILE
    with Epochs(
        pair,
        epochs,
        learning_rate=learning_rate,
        also=[learning_losses],
        file=path,
        advice=advice(folder),
        progress=progress,
    ) as frame:
        averages = [weight_average(model, decay, ramp_steps).eval() for model in models]
        both = MeanOfTwo(*averages).eval()
        # One for both: a step leaves parameters without a gradient as they are.
        optimizer = torch.optim.SGD(
            pair.parameters(), learning_rate, momentum=0.9, weight_decay=weight_decay
        )
        kept = Progress(
            {"model": pair, "averages": both, "loss": learning_losses},
            optimizer,
            None,
            torch.Generator().manual_seed(seed),
            lambda: recorder.run.tables,
            recorder.go_on_from,
            path,
            KIND,
        )
        data = {"inputs": inputs, "labels": labels, "examples": chosen}
        kept.open(settings, data=data, loss=repr(learning_losses))
        frame.go_on(recorder.epochs)
        if frame.done < epochs:
            kept.check_folder()
        if frame.done == 0:
            recorder.start(both)
        for epoch in frame:
            draws = seeded_epoch(seed, epoch)
            with draws, draws:  # twice, as an interrupt can miss one exit
                mean = _epoch_of_two(
                    kept, models, losses, averages, inputs, labels, chosen, batch_size
                )
            frame.trained(mean)
            recorder.epoch(both, learning_rate=learning_rate)
            frame.end(kept.write)
    return both, recorder.run


def _epoch_of_two(
    kept: Progress,
    models: tuple[nn.Module, nn.Module],
    losses: tuple[ELR, ELR],
    averages: list[Any],
    inputs: Tensor,
    labels: Tensor,
    chosen: Tensor,
    batch_size: int,
) -> float:
    """Both networks learn every chosen example once; gives the mean loss."""
    values = []
    order = chosen[torch.randperm(len(chosen), generator=kept.generator)]
    for batch in order.to(inputs.device).split(batch_size):
        for loss, other in zip(losses, reversed(averages), strict=True):
            with torch.no_grad():
                loss.update(other(inputs[batch]), batch)
        for model, loss, average in zip(models, losses, averages, strict=True):
            model.train()
            mixed = mixup(inputs[batch], kept.generator)
            value = mixed_loss(loss, model(mixed.inputs), labels[batch], batch, mixed)
            kept.optimizer.zero_grad()
            value.backward()
            kept.optimizer.step()
            average.update_parameters(model)
            values.append(value.item())
    return sum(values) / len(values)
