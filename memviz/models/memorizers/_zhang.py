"""One ReLU a point: a triangular system along a line (Zhang et al. 2017)."""

from __future__ import annotations

import torch
from torch import Tensor

from ._points import Points, check_size, filled, network
from ._report import Memorizer


def zhang(points: Points, seed: int) -> Memorizer:
    """A hidden unit for each point, which is 0 at all points before it on the line."""
    n = len(points.distinct)
    check_size(n * (n + points.distinct.shape[1]), f"the triangular system of {n:,} points makes")
    line = points.line(seed)
    order = (points.distinct @ line).argsort()
    place = (points.distinct @ line)[order]
    starts = starts_of(place)
    seen = (place[:, None] - starts).clamp_min(0)
    weight = _solved(seen, points.values[order])
    layers = [
        (line.expand(n, -1), -starts),
        (weight.T, torch.zeros(weight.shape[1], dtype=torch.float64)),
    ]
    sizes = (len(line), n, weight.shape[1])
    rank = torch.empty_like(order)
    rank[order] = torch.arange(n)
    return Memorizer(
        filled(network("relu", sizes), layers),
        points.given,
        points.shown_values,
        "zhang",
        (n,),
        "relu",
        n,
        rank[points.which],
        "layer1",
        torch.arange(n)[:, None],
    )


def starts_of(place: Tensor) -> Tensor:
    """Where each unit begins to grow: before its own point, behind the one before it."""
    gap = float(place[-1] - place[0]) / (len(place) - 1) if len(place) > 1 else 1.0
    return torch.cat([place[:1] - gap, (place[:-1] + place[1:]) / 2])


def _solved(seen: Tensor, values: Tensor) -> Tensor:
    """Forward substitution, and once more for what rounding has left."""
    weight: Tensor = torch.linalg.solve_triangular(seen, values, upper=False)
    left = values - seen @ weight
    better: Tensor = weight + torch.linalg.solve_triangular(seen, left, upper=False)
    if (values - seen @ better).abs().max() < left.abs().max():
        return better
    return weight
