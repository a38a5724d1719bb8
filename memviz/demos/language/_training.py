"""How the models of the ladder are trained: the same passages, in the same order."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from memviz.training.epochs import Epochs

BATCH_SIZE, WEIGHT_DECAY = 64, 0.1
_WARM_UP, _LAST = 50, 0.1  # steps, and the share of the learning rate that is left at the end


def train_language_model(
    model: nn.Module,
    sequences: Tensor,
    *,
    epochs: int,
    learning_rate: float,
    seed: int = 0,
    checkpoint_epochs: tuple[int, ...] = (),
    progress: bool = True,
) -> dict[int, dict[str, Tensor]]:
    """Train a model in place to predict each token from those before it.

    AdamW with a cosine learning rate, weight decay on matrices alone, gradients clipped to a norm
    of 1. The order depends on the seed and the number of sequences, not on the model: models of
    several sizes see the same batches. An interrupt leaves the last whole epoch.

    Parameters
    ----------
    model : maps token ids ``[n, tokens]`` to logits ``[n, tokens, vocabulary]``.
    sequences : int64 ``[n, tokens]``
    epochs, seed : int
    learning_rate : float
        The highest one.
    checkpoint_epochs : epochs, from 1 on, whose weights are returned.
    progress : bool

    Returns
    -------
    dict
        Epoch to state dict.

    Raises
    ------
    FloatingPointError
        If the loss is no longer finite.

    Examples
    --------
    >>> from memviz.models.gpt import GPT
    >>> model = GPT(vocabulary=4, width=8, blocks=1, heads=1, context=4, seed=0)
    >>> sequences = torch.tensor([[0, 1, 2, 3]]).repeat(64, 1)
    >>> _ = train_language_model(model, sequences, epochs=60, learning_rate=2e-3, progress=False)
    >>> model(sequences[:1, :3]).argmax(-1)
    tensor([[1, 2, 3]])
    """
    matrices = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.dim() < 2]
    groups: list[dict[str, Any]] = [
        {"params": matrices},
        {"params": vectors, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(
        groups,
        lr=learning_rate,
        betas=(0.9, 0.98),
        weight_decay=WEIGHT_DECAY,
    )
    steps = epochs * math.ceil(len(sequences) / BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    order = torch.Generator().manual_seed(seed)
    checkpoints: dict[int, dict[str, Tensor]] = {}
    with Epochs(model, epochs, learning_rate=learning_rate, progress=progress) as frame:
        torch.set_grad_enabled(True)  # the frame puts it back
        for epoch in frame:
            model.train()
            total = 0.0
            for rows in torch.randperm(len(sequences), generator=order).split(BATCH_SIZE):
                batch = sequences[rows]
                logits = model(batch[:, :-1])
                loss = cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                total += loss.item() * len(rows)
            frame.trained(loss=total / len(sequences))
            if epoch in checkpoint_epochs:
                state = model.state_dict()
                checkpoints[epoch] = {name: value.clone() for name, value in state.items()}
            frame.end()
    return checkpoints


def _rate(step: int, steps: int) -> float:
    """The share of the learning rate at a step: up in 50 steps, down in half a cosine."""
    falling = _LAST + (1 - _LAST) * 0.5 * (1 + math.cos(math.pi * step / steps))
    return min((step + 1) / _WARM_UP, falling)
