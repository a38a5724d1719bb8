"""A narrow, deep network: one layer a point, two units and one a value."""

from __future__ import annotations

import torch
from torch import Tensor

from ._points import Points, check_size, filled, network
from ._report import Memorizer
from ._zhang import starts_of


def narrow(points: Points, seed: int) -> Memorizer:
    """The interpolation of the points on a line, one kink a layer; our own derivation.

    Each layer holds the place on the line, the part of it behind the layer's kink, and what was
    summed up so far, lifted so that no ReLU cuts it off.
    """
    size = len(points.distinct) ** 2 * points.values.shape[1]
    check_size(size, f"{len(points.distinct):,} points, a layer each, make")
    line = points.line(seed)
    place = points.distinct @ line
    order = place.argsort()
    least = float(place.min())
    place, values = place[order] - least, points.values[order]
    n, outputs = values.shape
    starts = starts_of(place)
    starts[0] = 0.0  # what the first unit gives is constant
    kinks = _kinks(place, values, starts)
    lift = _lift(place, values, starts, kinks)
    layers = [(line.expand(2, -1), torch.full((2,), -least, dtype=torch.float64))]
    sizes = [len(line), 2]
    for number in range(1, n):
        weight = torch.zeros(2 + outputs, sizes[-1], dtype=torch.float64)
        weight[:2, 0] = 1.0
        weight[2:, 1] = kinks[number - 1]
        bias = torch.zeros(2 + outputs, dtype=torch.float64)
        bias[1] = -starts[number]
        if number == 1:
            bias[2:] = values[0] + lift
        else:
            weight[2:, 2:] = torch.eye(outputs)
        layers.append((weight, bias))
        sizes.append(2 + outputs)
    weight = torch.zeros(outputs, sizes[-1], dtype=torch.float64)
    weight[:, 1] = kinks[-1]
    if n > 1:
        weight[:, 2:] = torch.eye(outputs)
    layers.append((weight, -lift if n > 1 else values[0]))
    rank = torch.empty_like(order)
    rank[order] = torch.arange(n)
    return Memorizer(
        filled(network("relu", [*sizes, outputs]), layers),
        points.given,
        points.shown_values,
        "narrow",
        tuple(sizes[1:]),
        "relu",
        2 + (2 + outputs) * (n - 1),
        rank[points.which],
        "",
        torch.zeros(0, 1, dtype=torch.int64),
    )


def _kinks(place: Tensor, values: Tensor, starts: Tensor) -> Tensor:
    """The slope that each unit adds, ``[n, outputs]``; the value of the first point comes first."""
    kinks = torch.zeros_like(values)
    for number in range(1, len(place)):
        before = values[0] + (place[number] - starts[:number]).clamp_min(0) @ kinks[:number]
        kinks[number] = (values[number] - before) / (place[number] - starts[number])
    return kinks


def _lift(place: Tensor, values: Tensor, starts: Tensor, kinks: Tensor) -> Tensor:
    """More than any sum of the first kinks ever falls below 0 on the points, ``[outputs]``."""
    seen = (place[:, None] - starts).clamp_min(0)
    partial = values[0] + (seen[:, :, None] * kinks).cumsum(1)
    return partial.abs().amax((0, 1)) + 1.0
