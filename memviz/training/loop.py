"""One plain training loop that records every example, and goes on where it was stopped."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from memviz.checks import quoted
from memviz.training.epochs import (
    Epochs,
    OnEpoch,
    advice,
    check_one_device,
    check_seed,
    seeded_epoch,
)
from memviz.training.example_tied_dropout import example_ids, ids_put_back
from memviz.training.loaders import labels_for
from memviz.training.recorder import EVALUATION_BATCH, Recorder
from memviz.training.resume import FILE, Progress, name_of
from memviz.training.run import TrainingRun as TrainingRun

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]  # (logits, labels, indices) to a scalar


def train(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    examples: Tensor | None = None,
    epochs: int = 50,
    batch_size: int = 128,
    learning_rate: float = 0.1,
    weight_decay: float = 5e-4,
    optimizer: Literal["sgd", "adamw"] = "sgd",
    schedule: Literal["cosine", "constant"] = "cosine",
    seed: int = 0,
    loss: Loss | None = None,
    checkpoint_epochs: Collection[int] = (),
    on_epoch: OnEpoch | None = None,
    folder: str | Path | None = None,
    progress: bool = True,
) -> TrainingRun:
    """Train a classifier in place, with SGD (momentum 0.9) and a cosine learning rate unless told.

    No augmentation: every example is seen unchanged, once per epoch. Shuffling has a generator of
    its own, and what the model itself draws, as dropout does, is seeded in every epoch: the same
    seed gives the same run, and torch's global generator is put back. The model is left in
    evaluation mode. If training stops early, by an interrupt or an error, model and loss are put
    back to the end of the last finished epoch and the exception goes on; with a folder, the same
    call then goes on from there and ends as if it had never stopped, whatever the moment it was
    stopped at.

    Parameters
    ----------
    model : maps ``inputs`` to logits ``[n, classes]``, on the device of ``inputs``. Example-tied
        dropout in it learns which examples a batch holds.
    inputs, labels : ``[n, ...]`` and integers ``[n]``.
    examples : integers, the examples to train on; all, unless given. All n are recorded.
    loss : called as ``loss(logits, labels, indices)`` with the dataset's indices of the batch;
        cross-entropy unless given. The state of an ``nn.Module`` is kept in ``folder`` with the
        model's.
    optimizer : "sgd", with momentum 0.9, or "adamw".
    schedule : of the learning rate: "cosine" to zero over all steps, or "constant".
    seed : from 0 to 2**63 - 1.
    checkpoint_epochs : epochs to keep, from 0 (before training) to ``epochs``.
    on_epoch : called as ``on_epoch(epoch, model)`` after each epoch, counted from 1.
    folder : keeps the training after every epoch, and its checkpoints as files. An epoch that
        can't be written is warned of, and the training goes on.
    progress : show a progress bar.

    Raises
    ------
    ValueError : sizes that don't fit together, a number out of its range, a label outside the
        model's classes, or a folder that holds another training or lacks one of its checkpoints.
    OSError : nothing can be written in the folder; before the training.
    FloatingPointError : the loss is no longer finite.

    Examples
    --------
    >>> x = torch.tensor([[-1.0], [1.0], [2.0], [-2.0]])
    >>> run = train(torch.nn.Linear(1, 2), x, (x[:, 0] > 0).long(), epochs=9, progress=False)
    >>> run.correct.shape, float(run.accuracy[-1])
    (torch.Size([9, 4]), 1.0)
    """
    seed = check_seed(seed)
    settings = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "seed": seed,
        "optimizer": f"{optimizer}, {schedule}",
    }
    _check(inputs, labels, epochs, batch_size, learning_rate, weight_decay, checkpoint_epochs)
    check_one_device(model, inputs=inputs, labels=labels)
    chosen = _chosen(examples, len(inputs))
    recorder = Recorder(inputs, labels, checkpoint_epochs=checkpoint_epochs, folder=folder)
    steps = epochs * -(-len(chosen) // batch_size)
    optimizing = _optimizer(optimizer, model, learning_rate, weight_decay)
    scheduling = _schedule(schedule, optimizing, steps)
    criterion = _cross_entropy if loss is None else loss
    learning_loss = {"loss": criterion} if isinstance(criterion, nn.Module) else {}
    kept = Progress(
        {"model": model, **learning_loss},
        optimizing,
        scheduling,
        torch.Generator().manual_seed(seed),
        lambda: recorder.run.tables,
        recorder.go_on_from,
        None if folder is None else Path(folder) / FILE,
        checkpoints=recorder.checkpoints,
    )
    with Epochs(
        model,
        epochs,
        learning_rate=learning_rate,
        also=list(learning_loss.values()),
        file=kept.path,
        on_epoch=on_epoch,
        undo=ids_put_back(model),
        advice=advice(folder),
        progress=progress,
    ) as frame:
        data = {"inputs": inputs, "labels": labels, "examples": chosen}
        kept.open(settings, recorder.checkpoint_epochs, data, loss=name_of(criterion))
        frame.go_on(recorder.epochs)
        if frame.done < epochs:
            kept.check_folder()
        if frame.done == 0:
            recorder.start(model)
        for epoch in frame:
            rate = float(optimizing.param_groups[0]["lr"])
            draws = seeded_epoch(seed, epoch)
            with draws, draws:  # twice, as an interrupt can miss one exit
                mean = _epoch(kept, recorder, criterion, inputs, labels, chosen, batch_size)
            frame.trained(mean)
            recorder.epoch(model, loss=mean, learning_rate=rate)
            frame.end(kept.write, accuracy=recorder.accuracy)
    return recorder.run


def _epoch(
    kept: Progress,
    recorder: Recorder,
    loss: Loss,
    inputs: Tensor,
    labels: Tensor,
    chosen: Tensor,
    batch_size: int,
) -> float:
    """Train on each of the chosen examples once; gives the mean loss."""
    model = kept.modules["model"].train()
    total = 0.0
    order = chosen[torch.randperm(len(chosen), generator=kept.generator)].to(inputs.device)
    for batch in torch.split(order, batch_size):
        with example_ids(model, batch):
            logits = model(inputs[batch])
        recorder.batch(batch, logits)
        value = loss(logits, labels[batch], batch)
        kept.optimizer.zero_grad()
        value.backward()
        kept.optimizer.step()
        if kept.schedule is not None:
            kept.schedule.step()
        total += value.item() * len(batch)
    return total / len(chosen)


@torch.no_grad()
def predict(model: nn.Module, inputs: Tensor) -> Tensor:
    """Predicted classes ``[n]``; leaves the model in evaluation mode."""
    model.eval()
    return torch.cat([model(part).argmax(dim=1) for part in torch.split(inputs, EVALUATION_BATCH)])


def _optimizer(name: str, model: nn.Module, rate: float, decay: float) -> torch.optim.Optimizer:
    if name == "sgd":
        return torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, weight_decay=decay)
    if name == "adamw":
        return torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=decay)
    raise ValueError(f'optimizer is "sgd" or "adamw", but got {quoted(name)}.')


def _schedule(
    name: str, optimizer: torch.optim.Optimizer, steps: int
) -> torch.optim.lr_scheduler.LRScheduler | None:
    if name == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    if name == "constant":
        return None
    raise ValueError(f'schedule is "cosine" or "constant", but got {quoted(name)}.')


# Its name is a fact of every training's file that was kept with the usual loss.
def _cross_entropy(logits: Tensor, labels: Tensor, indices: Tensor) -> Tensor:
    return cross_entropy(logits, labels)


def _chosen(examples: Tensor | None, n: int) -> Tensor:
    """The examples to train on, each once."""
    if examples is None:
        return torch.arange(n)
    chosen = torch.as_tensor(examples).cpu()
    if chosen.ndim != 1 or chosen.is_floating_point() or chosen.dtype == torch.bool:
        raise ValueError(
            f"examples has {chosen.dtype} of shape {list(chosen.shape)}; give indices [m], for a "
            "mask mask.nonzero()[:, 0]."
        )
    if not len(chosen) or not 0 <= int(chosen.min()) <= int(chosen.max()) < n:
        raise ValueError(f"examples must be at least one index from 0 to {n - 1}.")
    if len(chosen.unique()) < len(chosen):
        raise ValueError("examples names an example twice; give each index once.")
    return chosen.long()


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
    labels_for(inputs, labels)
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
