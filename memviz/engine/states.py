"""What a value is while a change passes through the graph: a part, a bent record, or dense."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from memviz.engine.graph import Flow


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


def take(value: Tensor, axis: int, features: Tensor, rows: Tensor | None = None) -> Tensor:
    """Some features of a recorded value, in some rows; per row where ``features`` is 2-D.

    Examples
    --------
    >>> value = torch.arange(6).view(2, 3)
    >>> take(value, 1, torch.tensor([2]), torch.tensor([1, 0]))
    tensor([[5],
            [2]])
    >>> take(value, 1, torch.tensor([[2], [0]]))
    tensor([[2],
            [3]])
    """
    if features.dim() == 1:
        if len(features) == 1 and value.device.type == "cpu":
            # A view: gathering is slow where channels are last.
            chosen = value.narrow(axis, int(features), 1)
        else:
            chosen = value.index_select(axis, features)
        return chosen if rows is None else chosen.index_select(0, rows)
    # Rows first would copy every feature of every row.
    front = value.movedim(axis, 1)
    where = torch.arange(len(features), device=value.device) if rows is None else rows
    return front[where[:, None], features].movedim(1, axis)


def delta(flow: Flow, part: Part) -> Tensor:
    """New minus recorded."""
    return part.value - take(part.of, part.axis, part.features, flow.rows)


def whole(flow: Flow, state: State) -> Tensor:
    """All of a value: a part among the recorded rest, a bent record computed."""
    if isinstance(state, Tensor):
        return state
    return _straight(flow, state) if isinstance(state, Bent) else _filled(flow, state)


def _straight(flow: Flow, bent: Bent) -> Tensor:
    base = flow.clean(bent.of)
    flat = (base if bent.ratio is None else base * bent.ratio).reshape(-1, base.shape[-1])
    if bent.ratio is None or bent.offset is None:
        return torch.addcmul(flat, bent.change.reshape(-1, 1), bent.along).view(base.shape)
    factors = torch.cat([bent.change, 1 - bent.ratio], -1).reshape(-1, 2)
    directions = torch.stack([bent.along, bent.offset])
    return torch.addmm(flat, factors, directions).view(base.shape)


def _filled(flow: Flow, part: Part) -> Tensor:
    value = flow.clean(part.of)
    if not flow.gathers:
        value = value.clone()
    if part.features.dim() == 1:
        return value.index_copy_(part.axis, part.features, part.value)
    index = torch.arange(len(value), device=value.device)[:, None]
    value.movedim(part.axis, 1)[index, part.features] = part.value.movedim(part.axis, 1)
    return value
