"""A network that is certified around every point: one unit for each pair of opposite points."""

from __future__ import annotations

import torch
from torch import nn

from ._points import Points, check_size, network
from ._report import Memorizer

_BLOCK = 2**24


def yu(points: Points) -> Memorizer:
    """Signs with a proven ball around every point; our reconstruction of Yu et al. 2024.

    For points i and j of opposite signs, ``l(x)`` is 0 at i and 1 at j, and linear along the line
    between them. The first layer has ``relu(3 l - 1)`` for each ordered pair, the second one unit
    a point, ``relu(1 - sum)`` over its pairs, and the output adds the units with the points'
    signs. Within a third of the distance to the nearest point of the other sign, a point's own
    unit is 1 and all of the other sign are 0.

    Raises
    ------
    ValueError
        If the values are not -1 and 1, or the network would be too large.
    """
    x, sign = points.distinct, points.values[:, 0]
    if points.values.shape[1] != 1 or not bool((sign.abs() == 1).all()):
        raise ValueError('values must be -1 or 1, [n], for method "yu".')
    n, d = x.shape
    up, down = (sign > 0).nonzero()[:, 0], (sign < 0).nonzero()[:, 0]
    if not len(up) or not len(down):
        raise ValueError('method "yu" needs points of both signs.')
    hidden = 2 * len(up) * len(down)
    check_size(
        hidden * (d + 1) + n * (hidden + 1),
        f"{len(up):,} and {len(down):,} points of opposite signs make {hidden:,} + {n:,} hidden "
        "units,",
    )
    model = network("relu", (d, hidden, n, 1))
    own = torch.cat([up.repeat_interleave(len(down)), down.repeat_interleave(len(up))])
    other = torch.cat([down.repeat(len(up)), up.repeat(len(down))])
    first, second, last = (layer for layer in model if isinstance(layer, nn.Linear))
    distances = torch.zeros(hidden, dtype=torch.float64)
    with torch.no_grad():
        for rows in torch.arange(hidden).split(max(1, _BLOCK // d)):
            step = x[other[rows]] - x[own[rows]]
            squares = (step**2).sum(1)
            distances[rows] = squares.sqrt()
            first.weight[rows] = 3 * step / squares[:, None]
            first.bias[rows] = -3 * (x[own[rows]] * step).sum(1) / squares - 1
        second.weight.zero_()
        second.weight[own, torch.arange(hidden)] = -1.0
        second.bias.fill_(1.0)
        last.weight.copy_(sign[None])
        last.bias.zero_()
    nearest = torch.full((n,), torch.inf, dtype=torch.float64)
    nearest = nearest.scatter_reduce(0, own, distances, "amin")
    return Memorizer(
        model.eval(),
        points.given,
        points.shown_values,
        "yu",
        (hidden, n),
        "relu",
        hidden + n,
        points.which,
        "layer2",
        torch.arange(n)[:, None],
        radii=(nearest / 3)[points.which],
    )
