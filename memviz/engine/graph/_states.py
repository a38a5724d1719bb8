"""The states of a value while a change passes through the graph: a part, bent, or dense."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(slots=True)
class Part:
    """New values of some features, ``[K]`` or ``[rows, K]``, of the record ``of``."""

    of: Tensor
    axis: int
    features: Tensor
    value: Tensor


@dataclass(slots=True)
class Bent:
    """A record bent along one direction: ``ratio * of + change * along + (1 - ratio) * offset``.

    This is what one unit adds to a residual stream, and stays so through linear layers and one
    layer norm, which map only ``along`` and ``offset``. ``ratio`` and ``change`` are ``[..., 1]``;
    no ratio means 1.
    """

    of: Tensor
    change: Tensor
    along: Tensor
    ratio: Tensor | None = None
    offset: Tensor | None = None


State = Part | Bent | Tensor


@dataclass(slots=True)
class At:
    """The state of a later output: the calls up to it were folded into this one."""

    out: Tensor
    state: State
