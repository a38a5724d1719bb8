"""One plain training loop that remembers when each example was right."""

from __future__ import annotations

from collections.abc import Callable, Collection
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm.auto import tqdm

EVALUATION_BATCH = 1024


@dataclass(frozen=True)
class TrainingRun:
    """What a training leaves behind, besides the trained model.

    Attributes
    ----------
    correct : bool ``[epochs, n]``; row e says which examples were right after epoch e + 1,
        with the model in evaluation mode.
    loss : float ``[epochs]``, mean training loss of each epoch.
    checkpoints : epoch to ``state_dict`` (buffers included); epoch 0 is the initialization.
    """

    correct: Tensor
    loss: Tensor
    checkpoints: dict[int, dict[str, Tensor]]

    @property
    def accuracy(self) -> Tensor:
        """Share of the examples that were right after each epoch, ``[epochs]``."""
        return self.correct.float().mean(dim=1)


def train(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    epochs: int = 50,
    batch_size: int = 128,
    learning_rate: float = 0.1,
    weight_decay: float = 5e-4,
    seed: int = 0,
    checkpoint_epochs: Collection[int] = (),
    on_epoch: Callable[[int, nn.Module], object] | None = None,
    progress: bool = True,
) -> TrainingRun:
    """Train a classifier in place with SGD (momentum 0.9) and a cosine learning rate.

    No augmentation, so that every example is seen as it is once an epoch. The shuffling has
    its own generator: the same seed gives the same run, and the global generator is not touched.
    The model is left in evaluation mode. If training stops early, by an interrupt or an error,
    the model is put back to the end of the last finished epoch and the exception goes on.

    Parameters
    ----------
    model : maps ``inputs`` to logits ``[n, classes]``, on the device of ``inputs``.
    inputs, labels : ``[n, ...]`` and integers ``[n]``.
    checkpoint_epochs : epochs to keep, from 0 (before training) to ``epochs``.
    on_epoch : called as ``on_epoch(epoch, model)`` after each epoch, counted from 1.
    progress : show a progress bar.

    Raises
    ------
    ValueError : sizes that don't fit together, or a number out of its range.
    FloatingPointError : the loss is no longer finite.

    Examples
    --------
    >>> x = torch.tensor([[-1.0], [1.0], [2.0], [-2.0]])
    >>> run = train(torch.nn.Linear(1, 2), x, (x[:, 0] > 0).long(), epochs=9, progress=False)
    >>> run.correct.shape, float(run.accuracy[-1])
    (torch.Size([9, 4]), 1.0)
    """
    _check(inputs, labels, epochs, batch_size, learning_rate, weight_decay, checkpoint_epochs)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=learning_rate, momentum=0.9, weight_decay=weight_decay
    )
    steps = epochs * -(-len(inputs) // batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    correct, losses = [], []
    finished = deepcopy(model.state_dict())
    checkpoints = {0: finished} if 0 in checkpoint_epochs else {}
    try:
        bar = tqdm(range(1, epochs + 1), desc="training", unit="epoch", disable=not progress)
        for epoch in bar:
            model.train()
            total = 0.0
            order = torch.randperm(len(inputs), generator=generator).to(inputs.device)
            for batch in torch.split(order, batch_size):
                loss = cross_entropy(model(inputs[batch]), labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                total += loss.item() * len(batch)
            if not torch.isfinite(torch.tensor(total)):
                raise FloatingPointError(
                    f"The loss stopped being finite in epoch {epoch}; "
                    f"try a learning_rate below {learning_rate}."
                )
            right = predict(model, inputs) == labels
            if on_epoch is not None:
                on_epoch(epoch, model)
            correct.append(right.cpu())
            losses.append(total / len(inputs))
            finished = deepcopy(model.state_dict())
            if epoch in checkpoint_epochs:
                checkpoints[epoch] = finished
            bar.set_postfix(loss=f"{losses[-1]:.3f}", accuracy=f"{right.float().mean():.3f}")
    finally:
        # A step cut in half would leave some weights old and some new.
        model.load_state_dict(finished)
        model.eval()
    return TrainingRun(torch.stack(correct), torch.tensor(losses), checkpoints)


@torch.no_grad()
def predict(model: nn.Module, inputs: Tensor) -> Tensor:
    """Predicted classes ``[n]``; leaves the model in evaluation mode."""
    model.eval()
    return torch.cat([model(part).argmax(dim=1) for part in torch.split(inputs, EVALUATION_BATCH)])


def _check(
    inputs: Tensor,
    labels: Tensor,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    checkpoint_epochs: Collection[int],
) -> None:
    """Raise one clear sentence for settings that can't be trained with."""
    if labels.ndim != 1 or labels.is_floating_point() or len(labels) != len(inputs):
        raise ValueError(
            f"labels must be integers, one for each input, but got {labels.dtype} of shape "
            f"{list(labels.shape)} for {len(inputs)} inputs."
        )
    if len(inputs) == 0:
        raise ValueError("There is nothing to train on: inputs has no examples.")
    if epochs < 1 or batch_size < 1:
        raise ValueError(
            f"epochs and batch_size must be at least 1, but got epochs={epochs} and "
            f"batch_size={batch_size}."
        )
    if not learning_rate > 0 or not weight_decay >= 0:
        raise ValueError(
            f"learning_rate must be above 0 and weight_decay not below 0, but got "
            f"{learning_rate} and {weight_decay}."
        )
    outside = sorted(epoch for epoch in checkpoint_epochs if not 0 <= epoch <= epochs)
    if outside:
        raise ValueError(
            f"checkpoint_epochs must lie between 0 and epochs={epochs}, but got {outside}."
        )
