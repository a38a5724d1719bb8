"""What a value is while a change passes through the graph: a part, a bent record, or dense."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(slots=True)
class Part:
    """New values of some features: ``of`` is the record, ``features`` ``[K]``, or ``[rows, K]``."""

    of: Tensor
    axis: int
    features: Tensor
    value: Tensor


@dataclass(slots=True)
class Bent:
    """A record turned along one direction: ``ratio * of + change * along + (1 - ratio) * offset``.

    What one unit adds to a residual stream, and what a layer norm and a linear layer make of that:
    both act on ``along`` and ``offset`` alone. ``ratio`` and ``change`` are ``[..., 1]``; without a
    ratio it is 1.
    """

    of: Tensor
    change: Tensor
    along: Tensor
    ratio: Tensor | None = None
    offset: Tensor | None = None


State = Part | Bent | Tensor


@dataclass(slots=True)
class At:
    """A state further on than the call's own output: what follows was computed with it."""

    out: Tensor
    state: State
