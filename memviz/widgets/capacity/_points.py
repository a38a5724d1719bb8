"""Points of the playground: two classes, in any number and dimension, and unseen ones of a kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor

MOST, DEEPEST, UNSEEN = 100, 20, 2000  # points, dimensions, unseen points
PIXELS = 64
KINDS: Mapping[str, str] = {
    "crescents": "two crescents",
    "ring": "inner disc and ring",
    "random": "random labels",
    "digits": "digits 3 and 8",
}
_OWN = "own"


@dataclass(frozen=True, eq=False)
class Points:
    """Points of both signs, and unseen ones of the same kind.

    Attributes
    ----------
    inputs, unseen : float64 ``[n, d]`` and ``[m, d]``
    signs, true : float64 ``[n]`` and ``[m]``, -1 or 1
    """

    inputs: Tensor
    signs: Tensor
    unseen: Tensor
    true: Tensor


@dataclass(frozen=True, eq=False)
class Own:
    """Points that a user gave: the first are shown, the rest are the unseen ones."""

    inputs: Tensor
    signs: Tensor


def points(kind: str, n: int, features: int, seed: int, own: Own | None) -> Points:
    """Points of a kind; a point stays where it is, whatever their number and dimension."""
    if kind == _OWN and own is not None:
        return Points(own.inputs[:n], own.signs[:n], own.inputs[n:], own.signs[n:])
    if kind == "digits":
        x, sign = _digits(seed)
        x = x[:, :features]
        return Points(x[:n], sign[:n], x[MOST:], sign[MOST:])
    draw = torch.Generator().manual_seed(seed)
    # One table for all numbers and dimensions, so that none of them changes the points.
    noise = torch.randn(MOST + UNSEEN, DEEPEST, generator=draw, dtype=torch.float64)
    share = torch.rand(MOST + UNSEEN, 2, generator=draw, dtype=torch.float64)
    sign = torch.where(torch.arange(MOST + UNSEEN) % 2 == 0, 1.0, -1.0).double()
    if kind == "random":
        x = noise
        coin = (share[:, 0] < 0.5).double() * 2 - 1
        sign = torch.cat([sign[:2], coin[2:]])  # at least one of either sign
    else:
        x = noise * (0.12 if kind == "crescents" else 0.05)
        x[:, :2] += (_crescents if kind == "crescents" else _ring)(share, sign)
    x = x[:, :features]
    return Points(x[:n], sign[:n], x[MOST:], sign[MOST:])


def _digits(seed: int) -> tuple[Tensor, Tensor]:
    """Images of 3 (+) and 8 (-) by turns, on their principal directions, the widest first."""
    from memviz.demos.digits import examples

    drawn = examples(seed)
    threes, eights = (drawn.inputs[drawn.true_labels == k].flatten(1).double() for k in (3, 8))
    images = torch.cat([threes, eights])
    images = images - images.mean(0)
    x = images @ torch.linalg.svd(images, full_matrices=False).Vh.T
    few = min(len(threes), len(eights))
    turns = torch.arange(2 * few).view(2, few).T + torch.tensor([0, len(threes) - few])
    order = torch.cat([turns.flatten(), torch.arange(few, len(threes))])
    order = torch.cat([order, torch.arange(len(threes) + few, len(x))])
    return x[order], torch.where(order < len(threes), 1.0, -1.0).double()


def _crescents(share: Tensor, sign: Tensor) -> Tensor:
    angle, up = share[:, 0] * pi, sign > 0
    across = torch.where(up, angle.cos() - 0.5, 0.5 - angle.cos())
    return torch.stack([across, torch.where(up, angle.sin(), -angle.sin()) - sign * 0.25], 1)


def _ring(share: Tensor, sign: Tensor) -> Tensor:
    inside = sign > 0
    radius = torch.where(inside, 0.7 * share[:, 1].sqrt(), 1.1 + 0.4 * share[:, 1])
    angle = 2 * pi * share[:, 0]
    return radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
