"""Contrastive training of a CLIP model: one plain loop, and what it left behind."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from memviz.training.epochs import (
    Epochs,
    OnEpoch,
    advice,
    check_one_device,
    check_seed,
    seeded_epoch,
)

from ._masking import mask_captions
from ._resume import FILE, ContrastiveProgress
from ._run import ContrastiveRun

WARM_UP = 0.05  # Share of the steps in which the learning rate rises to its full height.
LARGEST_SCALE = 100.0  # As in CLIP: a scale above it makes training unstable.


def train_contrastive(
    model: nn.Module,
    images: Tensor,
    tokens: Tensor,
    *,
    epochs: int = 60,
    batch_size: int = 256,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.1,
    temperature: float | None = None,
    caption_masking: float = 0.0,
    held_out: tuple[Tensor, Tensor] | None = None,
    patience: int | None = None,
    seed: int = 0,
    checkpoint_epochs: Collection[int] = (),
    on_epoch: OnEpoch | None = None,
    folder: str | Path | None = None,
    progress: bool = True,
    heldout: tuple[Tensor, Tensor] | None = None,
) -> ContrastiveRun:
    """Train image and text tower in place with AdamW and CLIP's symmetric loss.

    The learning rate rises over the first 5 % of the steps and then falls as a cosine. Shuffling
    and masking have generators of their own, and what the model itself draws, as dropout does, is
    seeded in every epoch: the same seed gives the same run, and torch's global generator is put
    back. The model is left in evaluation mode. If training is interrupted, the model is put back
    to the end of the last finished epoch and the exception goes on; with a folder, the same call
    then goes on from there and ends as if it had never stopped, whatever the moment it was
    stopped at.

    Parameters
    ----------
    model : called as ``model(images, tokens)``; gives image features, text features (both of unit
        length) and the scale of their products, as open_clip's models do.
    images, tokens : ``[n, 3, size, size]`` and integers ``[n, context]``.
    weight_decay : of matrices and kernels; gains, biases and the scale have none.
    temperature : fixed at this value; learned from where the model has it, unless given.
    caption_masking : probability that a word is left out, drawn again at every presentation.
    held_out, patience : pairs of images and tokens whose loss is measured after every epoch;
        training stops when it has not fallen for ``patience`` epochs, and the model is put back
        to the best one, the first of several with the same loss.
    checkpoint_epochs : epochs to keep, from 0 (before training) to ``epochs``.
    on_epoch : called as ``on_epoch(epoch, model)`` after each epoch, counted from 1.
    folder : keeps the training after every epoch, and its checkpoints as files. An epoch that
        can't be written is warned of, and the training goes on.

    Raises
    ------
    ValueError : sizes that don't fit together, a number out of its range, or a folder that holds
        another training or lacks one of its checkpoints.
    OSError : nothing can be written in the folder; before the training.
    FloatingPointError : the loss, or that of the held-out pairs, is no longer finite.

    Examples
    --------
    >>> class Towers(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.image, self.text = nn.Linear(4, 8), nn.Embedding(9, 8)
    ...         self.logit_scale = nn.Parameter(torch.tensor(2.0))
    ...
    ...     def forward(self, images, tokens):
    ...         pair = self.image(images), self.text(tokens).mean(1)
    ...         return *(nn.functional.normalize(f, dim=1) for f in pair), self.logit_scale.exp()
    >>> tokens = torch.tensor([[7, 1, 8], [7, 2, 8], [7, 3, 8]])
    >>> run = train_contrastive(Towers(), torch.eye(3, 4), tokens, epochs=9, progress=False)
    >>> len(run.loss), run.loss[-1] < run.loss[0]
    (9, True)
    """
    if heldout is not None:
        warnings.warn("heldout is now held_out.", DeprecationWarning, stacklevel=2)
        held_out = heldout
    _check(images, tokens, epochs, batch_size, learning_rate, weight_decay, temperature)
    check_one_device(model, images=images, tokens=tokens)
    _check_stop(held_out, patience, checkpoint_epochs, epochs)
    seed = check_seed(seed)
    settings = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "temperature": temperature,
        "caption_masking": caption_masking,
        "patience": patience,
        "seed": seed,
    }
    data = {"images": images, "tokens": tokens}
    if held_out is not None:
        # By their names in the file; files written earlier must still be read.
        data |= {"heldout_images": held_out[0], "heldout_tokens": held_out[1]}
    path = None if folder is None else Path(folder) / FILE
    with Epochs(
        model,
        epochs,
        learning_rate=learning_rate,
        file=path,
        on_epoch=on_epoch,
        advice=advice(folder),
        progress=progress,
    ) as frame:
        optimizer = _optimizer(model, learning_rate, weight_decay, temperature)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, _shape(epochs * -(-len(images) // batch_size))
        )
        generators = tuple(torch.Generator().manual_seed(2 * seed + part) for part in range(2))
        run = ContrastiveRun()
        kept = ContrastiveProgress(
            model, optimizer, schedule, generators, run, checkpoint_epochs, path
        )
        kept.open(settings, data)
        if run.loss:  # else it stays as it was given, without the fixed temperature
            frame.go_on(len(run.loss))
        if frame.done < epochs and not _stopped(run, patience):
            kept.check_folder()
        if frame.done == 0:
            kept.keep(0)
        for epoch in frame:
            if _stopped(run, patience):
                break
            draws = seeded_epoch(seed, epoch)
            with draws, draws:  # twice, as an interrupt can miss one exit
                mean = _epoch(kept, images, tokens, batch_size, caption_masking)
            frame.trained(mean)
            watched_loss = None if held_out is None else _mean_loss(model, *held_out, batch_size)
            if watched_loss is not None and not math.isfinite(watched_loss):
                raise FloatingPointError(
                    f"The held-out loss stopped being finite in epoch {epoch}; check the held-out "
                    f"pairs, or try a learning_rate below {learning_rate}."
                )
            kept.end_epoch(mean, watched_loss)
            frame.end(kept.write)
        if patience is not None:
            frame.leave_at(kept.best)
    return run


def _stopped(run: ContrastiveRun, patience: int | None) -> bool:
    """Whether the held-out loss has not fallen for too many epochs."""
    return patience is not None and len(run.loss) - run.best_epoch >= patience


def _epoch(
    kept: ContrastiveProgress, images: Tensor, tokens: Tensor, batch_size: int, masking: float
) -> float:
    """Present each pair once; gives the mean loss."""
    kept.model.train()
    shuffling, leaving_out = kept.generators
    total = 0.0
    for batch in torch.randperm(len(images), generator=shuffling).split(batch_size):
        words = mask_captions(tokens[batch.to(tokens.device)], masking, leaving_out)
        loss = contrastive_loss(kept.model, images[batch.to(images.device)], words)
        kept.optimizer.zero_grad()
        loss.backward()
        kept.optimizer.step()
        kept.schedule.step()
        _limit_scale(kept.model)
        total += loss.item() * len(batch)
    return total / len(images)


def contrastive_loss(model: nn.Module, images: Tensor, tokens: Tensor) -> Tensor:
    """CLIP's loss of a batch: mean cross-entropy of picture to caption and caption to picture."""
    output: Any = model(images, tokens)
    if isinstance(output, Mapping):
        output = output["image_features"], output["text_features"], output["logit_scale"]
    pictures, texts, scale = output[:3]
    products = scale * pictures @ texts.T
    truth = torch.arange(len(products), device=products.device)
    return (cross_entropy(products, truth) + cross_entropy(products.T, truth)) / 2


@torch.no_grad()
def _mean_loss(model: nn.Module, images: Tensor, tokens: Tensor, batch_size: int) -> float:
    """Mean loss in batches of the training's size: the loss grows with the batch."""
    parts = zip(images.split(batch_size), tokens.split(batch_size), strict=True)
    return sum(contrastive_loss(model, a, b).item() * len(a) for a, b in parts) / len(images)


def _optimizer(
    model: nn.Module, learning_rate: float, weight_decay: float, temperature: float | None
) -> torch.optim.Optimizer:
    scale = getattr(model, "logit_scale", None)
    if temperature is not None:
        if scale is None:
            raise ValueError("the model has no logit_scale, so leave temperature out.")
        with torch.no_grad():
            scale.fill_(math.log(1 / temperature))
    free = [p for p in model.parameters() if p.requires_grad]
    if temperature is not None:
        free = [p for p in free if p is not scale]
    groups = [
        {"params": [p for p in free if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in free if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98), eps=1e-6)


def _shape(steps: int) -> Callable[[int], float]:
    rise = max(1, round(WARM_UP * steps))

    def height(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))

    return height


@torch.no_grad()
def _limit_scale(model: nn.Module) -> None:
    scale = getattr(model, "logit_scale", None)
    if scale is not None:
        scale.clamp_(max=math.log(LARGEST_SCALE))


def _check(
    images: Tensor,
    tokens: Tensor,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    temperature: float | None,
) -> None:
    """Raise one clear sentence for settings that can't be trained with."""
    if len(images) != len(tokens) or len(images) < 2:
        raise ValueError(
            f"there are {len(images)} images and {len(tokens)} captions; give one caption per "
            "image, and at least two pairs."
        )
    if epochs < 1 or batch_size < 2:
        raise ValueError(
            f"epochs must be at least 1 and batch_size at least 2, but got epochs={epochs} and "
            f"batch_size={batch_size}: a pair is told from the others of its batch."
        )
    if not learning_rate > 0 or not weight_decay >= 0:
        raise ValueError(
            f"learning_rate must be above 0 and weight_decay not below 0, but got "
            f"{learning_rate} and {weight_decay}."
        )
    if temperature is not None and not 1 / LARGEST_SCALE <= temperature <= 100:
        raise ValueError(
            f"temperature must lie between {1 / LARGEST_SCALE} and 100, but got {temperature}."
        )


def _check_stop(
    held_out: tuple[Tensor, Tensor] | None,
    patience: int | None,
    checkpoint_epochs: Collection[int],
    epochs: int,
) -> None:
    if patience is not None and (held_out is None or patience < 1):
        raise ValueError(
            f"patience={patience} needs held-out pairs to watch, and must be at least 1 epoch."
        )
    if held_out is not None and (len(held_out[0]) != len(held_out[1]) or len(held_out[0]) < 2):
        raise ValueError(
            f"there are {len(held_out[0])} held-out images and {len(held_out[1])} captions; give "
            "one caption per image, and at least two pairs."
        )
    outside = sorted(epoch for epoch in checkpoint_epochs if not 0 <= epoch <= epochs)
    if outside:
        raise ValueError(
            f"checkpoint_epochs must lie between 0 and epochs={epochs}, but got {outside}."
        )
