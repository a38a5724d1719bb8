"""A contrastive training and what was recorded of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(eq=False)
class ContrastiveRun:
    """What a contrastive training left behind.

    Attributes
    ----------
    loss : mean training loss of each epoch, nats.
    heldout_loss : the held-out pairs' loss after each epoch, nats; empty without such pairs.
    best_epoch : where the held-out loss was lowest; the last epoch without held-out pairs.
    checkpoints : epoch to state dict.
    """

    loss: list[float] = field(default_factory=list)
    heldout_loss: list[float] = field(default_factory=list)
    best_epoch: int = 0
    checkpoints: Mapping[int, Mapping[str, Tensor]] = field(default_factory=dict)
