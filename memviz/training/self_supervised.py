"""Self-supervised training of a small encoder: SimCLR, and rebuilding what was masked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from memviz.training.epochs import (
    Epochs,
    OnEpoch,
    advice,
    check_one_device,
    check_seed,
    seeded_draws,
    seeded_epoch,
)
from memviz.training.resume import Progress, name_of

FILE = "self_supervised.safetensors"
KIND = "a self-supervised training's state"

Augment = Callable[[Tensor, torch.Generator], Tensor]
Step = Callable[[Tensor, torch.Generator], Tensor]  # (images of a batch, generator) to a loss


@dataclass(eq=False)
class SelfSupervisedRun:
    """What a self-supervised training left behind.

    Attributes
    ----------
    loss : mean training loss of each epoch.
    head : what stood on the encoder during the training: SimCLR's projection, or the decoder.
    """

    head: nn.Module
    loss: list[float] = field(default_factory=list)


def train_simclr(
    encoder: nn.Module,
    images: Tensor,
    augment: Augment,
    *,
    epochs: int = 200,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    weight_decay: float = 1e-4,
    temperature: float = 0.5,
    projection: int = 64,
    seed: int = 0,
    on_epoch: OnEpoch | None = None,
    folder: str | Path | None = None,
    progress: bool = True,
) -> SelfSupervisedRun:
    """Train an encoder in place so that two views of an image are alike (Chen et al. 2020).

    Adam with a cosine learning rate; a projection of two layers stands on the encoder and is
    thrown away after. Order, views, the projection's weights and what the encoder itself draws,
    as dropout does, come from ``seed`` alone: two encoders of the same first weights and seed
    differ by their images. Torch's global generator is put back. The encoder is left in evaluation
    mode, after an interrupt as it was after the last finished epoch; with a folder, the same call
    then goes on from there and ends as if it had never stopped.

    Parameters
    ----------
    encoder : gives features ``[n, features]`` (more axes are flattened).
    images : float ``[n, ...]``, on the encoder's device.
    augment : ``(images, generator) -> images``.
    batch_size : images per batch, each with two views, which are told apart from the others of
        the batch.
    temperature : of the NT-Xent loss.
    projection : features of the projection.
    on_epoch : called as ``on_epoch(epoch, encoder)`` after each epoch, counted from 1.
    folder : keeps the training after every epoch. An epoch that can't be written is warned of,
        and the training goes on.

    Raises
    ------
    ValueError : fewer than two images, a number out of its range, or a folder that holds another
        training.
    OSError : nothing can be written in the folder; before the training.
    FloatingPointError : the loss is no longer finite.

    Examples
    --------
    >>> encoder = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
    >>> def noise(x, generator):
    ...     return x + 0.1 * torch.randn(x.shape, generator=generator)
    >>> run = train_simclr(encoder, torch.eye(4).repeat(4, 1), noise, epochs=20, progress=False)
    >>> len(run.loss), run.loss[-1] < run.loss[0]
    (20, True)
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, but got {temperature}.")

    def head_for(width: int) -> nn.Module:
        return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, projection))

    def step_with(head: nn.Module) -> Step:
        def step(batch: Tensor, generator: torch.Generator) -> Tensor:
            views = torch.cat([augment(batch, generator), augment(batch, generator)])
            return nt_xent(head(encoder(views).flatten(1)), temperature)

        return step

    settings = {"method": "simclr", "temperature": temperature, "projection": projection}
    settings |= {"augment": name_of(augment), "epochs": epochs, "batch_size": batch_size}
    settings |= {"learning_rate": learning_rate, "weight_decay": weight_decay, "seed": seed}
    return _train(encoder, images, head_for, step_with, settings, folder, on_epoch, progress)


def train_masked(
    encoder: nn.Module,
    images: Tensor,
    *,
    patch: int = 2,
    masked: float = 0.75,
    augment: Augment | None = None,
    epochs: int = 200,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    weight_decay: float = 1e-4,
    seed: int = 0,
    on_epoch: OnEpoch | None = None,
    folder: str | Path | None = None,
    progress: bool = True,
) -> SelfSupervisedRun:
    """Train an encoder in place to tell the masked patches of an image from those left.

    In the manner of a masked autoencoder (He et al. 2022), with two departures so that any encoder
    can be trained: masked patches are 0 instead of left out (as in SimMIM, Xie et al. 2022), and
    the decoder is two linear layers on the pooled features. The loss is the squared error of the
    masked pixels alone. Optimizer, seed and interrupts as in :func:`train_simclr`.

    Parameters
    ----------
    encoder, images, augment, batch_size, on_epoch, folder : as for :func:`train_simclr`.
    patch : side of a square patch; height and width must be multiples of it.
    masked : share of the patches that is masked.

    Raises
    ------
    ValueError : the image is no multiple of the patch, a number is out of its range, or the folder
        holds another training.
    OSError : nothing can be written in the folder; before the training.
    FloatingPointError : the loss is no longer finite.

    Examples
    --------
    >>> encoder = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU())
    >>> images = torch.eye(16).view(16, 1, 4, 4)
    >>> run = train_masked(encoder, images, masked=0.5, epochs=20, progress=False)
    >>> run.loss[-1] < run.loss[0]
    True
    """
    if images.dim() != 4 or any(side % patch for side in images.shape[2:]):
        raise ValueError(
            f"images of shape {list(images.shape)} are not cut into patches of {patch} x {patch}; "
            "give [n, channels, height, width], sides multiples of the patch."
        )
    if not 0 < masked < 1:
        raise ValueError(f"masked must lie between 0 and 1, but got {masked}.")
    pixels = images[0].numel()

    def head_for(width: int) -> nn.Module:
        return nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, pixels))

    def step_with(head: nn.Module) -> Step:
        def step(batch: Tensor, generator: torch.Generator) -> Tensor:
            views = batch if augment is None else augment(batch, generator)
            hidden = masks(views, patch, masked, generator)
            rebuilt = head(encoder(views * ~hidden).flatten(1)).view_as(views)
            wrong: Tensor = (rebuilt - views).square() * hidden
            return wrong.sum() / (hidden.sum() * views.shape[1])

        return step

    settings = {"method": "masked", "patch": patch, "masked": masked}
    settings |= {"augment": None if augment is None else name_of(augment), "epochs": epochs}
    settings |= {"batch_size": batch_size, "learning_rate": learning_rate}
    settings |= {"weight_decay": weight_decay, "seed": seed}
    return _train(encoder, images, head_for, step_with, settings, folder, on_epoch, progress)


def nt_xent(projected: Tensor, temperature: float) -> Tensor:
    """SimCLR's loss of ``[2n, features]``: row i and row n + i are two views of one image.

    Examples
    --------
    >>> far = torch.eye(4).repeat(2, 1)
    >>> round(nt_xent(far, 0.01).item(), 4), round(nt_xent(far, 1e6).item(), 4)
    (0.0, 1.9459)
    """
    rows = normalize(projected, dim=1)
    likeness = rows @ rows.T / temperature
    likeness.fill_diagonal_(-torch.inf)
    other = torch.arange(len(rows), device=rows.device).roll(len(rows) // 2)
    return cross_entropy(likeness, other)


def masks(images: Tensor, patch: int, masked: float, generator: torch.Generator) -> Tensor:
    """Which pixels are hidden, bool ``[n, 1, height, width]``: the same number of patches in each.

    Examples
    --------
    >>> hidden = masks(torch.zeros(5, 1, 4, 4), 2, 0.75, torch.Generator().manual_seed(0))
    >>> hidden.sum((1, 2, 3)).tolist()
    [12, 12, 12, 12, 12]
    """
    high, wide = (side // patch for side in images.shape[2:])
    number = min(max(1, round(masked * high * wide)), high * wide)
    drawn = torch.rand(len(images), high * wide, generator=generator).argsort(1).argsort(1)
    hidden = (drawn < number).view(-1, 1, high, wide).to(images.device)
    return hidden.repeat_interleave(patch, 2).repeat_interleave(patch, 3)


def features(encoder: nn.Module, images: Tensor) -> Tensor:
    """What an encoder gives in evaluation mode, ``[n, features]``; its mode is put back."""
    modes = [(module, module.training) for module in encoder.modules()]
    try:
        with torch.no_grad(), torch.no_grad():  # twice, as an interrupt can miss one exit
            found: Tensor = encoder.eval()(images).flatten(1)
    finally:
        for module, mode in modes:
            module.training = mode
    return found


def seeded(seed: int, make: Callable[[], nn.Module]) -> nn.Module:
    """A module whose first weights come from a seed; the global generator is put back."""
    draws = seeded_draws(seed)
    with draws, draws:  # twice, as an interrupt can miss one exit
        return make()


def _train(
    encoder: nn.Module,
    images: Tensor,
    head_for: Callable[[int], nn.Module],
    step_with: Callable[[nn.Module], Step],
    settings: dict[str, Any],
    folder: str | Path | None,
    on_epoch: OnEpoch | None,
    progress: bool,
) -> SelfSupervisedRun:
    check_one_device(encoder, images=images)
    seed = settings["seed"] = check_seed(settings["seed"])
    epochs, batch_size = settings["epochs"], settings["batch_size"]
    learning_rate, weight_decay = settings["learning_rate"], settings["weight_decay"]
    _check(len(images), epochs, batch_size, learning_rate, weight_decay)
    # Batches as equal in size as possible: the loss depends on the size.
    parts = max(1, len(images) // batch_size)
    path = None if folder is None else Path(folder) / FILE
    with Epochs(
        encoder,
        epochs,
        learning_rate=learning_rate,
        file=path,
        on_epoch=on_epoch,
        advice=advice(folder),
        progress=progress,
    ) as frame:
        width = features(encoder, images[:2]).shape[1]
        head = seeded(seed, lambda: head_for(width)).to(images.device)
        step, run = step_with(head), SelfSupervisedRun(head)
        generator = torch.Generator().manual_seed(seed)
        both = [*encoder.parameters(), *head.parameters()]
        optimizer = torch.optim.Adam(both, learning_rate, weight_decay=weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * parts)
        kept = Progress(
            {"model": encoder, "head": head},
            optimizer,
            schedule,
            generator,
            lambda: {"loss": torch.tensor(run.loss, dtype=torch.float64)},
            lambda tables: run.loss.extend(tables["loss"].tolist()),
            path,
            KIND,
        )
        kept.open(settings, data={"images": images})
        frame.go_on(len(run.loss))
        if frame.done < epochs:
            kept.check_folder()
        for epoch in frame:
            encoder.train()
            losses = []
            draws = seeded_epoch(seed, epoch)
            with draws, draws:
                for batch in torch.randperm(len(images), generator=generator).tensor_split(parts):
                    loss = step(images[batch.to(images.device)], generator)
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    schedule.step()
                    losses.append(loss.item())
            run.loss.append(sum(losses) / len(losses))
            frame.trained(run.loss[-1])
            frame.end(kept.write)
    return run


def _check(n: int, epochs: int, batch_size: int, learning_rate: float, decay: float) -> None:
    """Raise one clear sentence for settings that can't be trained with."""
    if n < 2:
        raise ValueError(f"there are {n} images; give at least two.")
    if epochs < 1 or batch_size < 2:
        raise ValueError(
            f"epochs must be at least 1 and batch_size at least 2, but got epochs={epochs} and "
            f"batch_size={batch_size}: an image is told from the others of its batch."
        )
    if not learning_rate > 0 or not decay >= 0:
        raise ValueError(
            f"learning_rate must be above 0 and weight_decay not below 0, but got "
            f"{learning_rate} and {decay}."
        )
