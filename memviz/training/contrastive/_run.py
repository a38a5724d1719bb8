"""A contrastive training and what was recorded of it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(eq=False)
class ContrastiveRun:
    """What a contrastive training left behind.

    Attributes
    ----------
    loss : mean training loss of each epoch, nats.
    held_out_loss : the held-out pairs' loss after each epoch, nats; empty without such pairs.
    best_epoch : where the held-out loss was lowest; the last epoch without held-out pairs.
    checkpoints : epoch to state dict.
    """

    loss: list[float] = field(default_factory=list)
    held_out_loss: list[float] = field(default_factory=list)
    best_epoch: int = 0
    checkpoints: Mapping[int, Mapping[str, Tensor]] = field(default_factory=dict)

    @property
    def heldout_loss(self) -> list[float]:
        """The former name of ``held_out_loss``."""
        warnings.warn(
            "run.heldout_loss is now run.held_out_loss.", DeprecationWarning, stacklevel=2
        )
        return self.held_out_loss
