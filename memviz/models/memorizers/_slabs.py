"""One slab for each group of d points in d dimensions (Baum 1988, Bubeck et al. 2020)."""

from __future__ import annotations

import torch
from torch import Tensor

from ._points import Points, check_size, filled, network
from ._report import Memorizer


def bubeck(points: Points) -> Memorizer:
    """Four ReLUs for each group of d points and each output; the weights are our derivation.

    A group lies on a plane ``u·x = 1`` and a linear function ``v·x`` has its values there. The
    four units give ``v·x`` on a slab around the plane and 0 beyond, where all other points lie.

    Raises
    ------
    ValueError
        If a group's points lie on no plane of their own.
    """
    x, values = points.distinct, points.values
    (n, d), outputs = x.shape, values.shape[1]
    hidden = 4 * -(-n // d) * outputs
    check_size(hidden * (d + outputs), f"{n:,} points and {outputs:,} outputs make")
    groups = torch.arange(n).split(d)
    first, bias, last = [], [], []
    for number, group in enumerate(groups):
        plane, linear = _fitted(x, values, group)
        away = (x @ plane - 1).abs()
        away[group] = torch.inf
        margin = min(float(away.min()), 1.0)
        if not margin > _LEAST:
            raise _no_plane(number, group)
        inside = margin / 2
        steps = margin / 4 / (x @ linear).abs().amax(0).clamp_min(1e-300)
        for output in range(outputs):
            tilted = plane + steps[output] * linear[:, output]
            first += [tilted, plane, tilted, plane]
            bias += [inside - 1, inside - 1, -inside - 1, -inside - 1]
            signs = torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64) / steps[output]
            row = torch.zeros(outputs, 4, dtype=torch.float64)
            row[output] = signs
            last.append(row)
    layers = [
        (torch.stack(first), torch.tensor(bias, dtype=torch.float64)),
        (torch.cat(last, 1), torch.zeros(outputs, dtype=torch.float64)),
    ]
    owner = torch.arange(n) // d
    return Memorizer(
        filled(network("relu", (d, hidden, outputs)), layers),
        points.given,
        points.shown_values,
        "bubeck",
        (hidden,),
        "relu",
        hidden,
        owner[points.which],
        "layer1",
        torch.arange(hidden).view(len(groups), -1),
    )


_LEAST = 1e-9  # a slab as thin as that would be lost in rounding


def _fitted(x: Tensor, values: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
    """The plane of a group ``[d]``, and a linear function for each output ``[d, outputs]``."""
    rows = x[group]
    wanted = torch.cat([torch.ones(len(group), 1, dtype=torch.float64), values[group]], 1)
    if len(group) == x.shape[1]:
        solved = torch.linalg.solve_ex(rows, wanted).result
    else:
        solved = torch.linalg.lstsq(rows, wanted, driver="gelsd").solution
    if not solved.isfinite().all() or (rows @ solved - wanted).abs().max() > 1e-6:
        raise _no_plane(int(group[0]) // x.shape[1], group)
    return solved[:, 0], solved[:, 1:]


def _no_plane(number: int, group: Tensor) -> ValueError:
    return ValueError(
        f"the {len(group)} points of group {number} lie on no plane of their own: the points are "
        "not in general position, as images with constant pixels are not; add a little noise."
    )
