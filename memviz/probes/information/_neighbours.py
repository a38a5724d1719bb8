"""Nearest neighbours of the points of two units, in the maximum norm."""

from __future__ import annotations

import torch
from torch import Tensor

_STRIDE = 16  # steps between two checks of which points are still open


def nearest_distances(x: Tensor, ys: Tensor, k: int) -> list[Tensor]:
    """Distances of each point to its k nearest in the maximum norm, ascending: k ``[units, n]``.

    Neighbours are searched outwards along x (and along y where x is equal), until no later point
    can be nearer than the k-th so far: first for all points together, then for those still open.
    """
    n = len(x)
    near = [torch.full_like(ys, torch.inf) for _ in range(k)]
    steps = min(int((k * n) ** 0.5) + k, n - 1)
    for step in range(1, steps + 1):
        apart = torch.maximum((ys[:, step:] - ys[:, :-step]).abs_(), x[step:] - x[:-step])
        for points in (slice(None, n - step), slice(step, None)):
            _insert([distance[:, points] for distance in near], apart)
    places = torch.arange(n, device=x.device).expand_as(ys)
    sides = [_Side(x, ys, 1), _Side(x, ys, -1)]
    rows = torch.arange(len(ys), device=x.device)[:, None].expand_as(ys)
    bounds = [side.bound(rows, places, side.start(places, steps), near[-1]) for side in sides]
    unit, point = (torch.minimum(*(least for _, least in bounds)) < near[-1]).nonzero().T
    at = [place[unit, point] for place, _ in bounds]
    nearest_k = [distance[unit, point] for distance in near]
    while len(unit):
        for _ in range(_STRIDE):
            for side, place in zip(sides, at, strict=True):
                _insert(nearest_k, side.apart(unit, point, place))
                place += side.direction
        radius = nearest_k[-1]
        moved = [side.bound(unit, point, p, radius) for side, p in zip(sides, at, strict=True)]
        for kept, distance in zip(near, nearest_k, strict=True):
            kept[unit, point] = distance
        is_open = torch.minimum(*(least for _, least in moved)) < radius
        unit, point = unit[is_open], point[is_open]
        at = [place[is_open] for place, _ in moved]
        nearest_k = [distance[is_open] for distance in nearest_k]
    return near


class _Side:
    """The points to one side of each point, in the order of x, and of y where x is equal."""

    def __init__(self, x: Tensor, ys: Tensor, direction: int) -> None:
        self.x, self.ys, self.direction = x, ys, direction
        # The first place of this side whose x differs from that of a point.
        right = direction > 0
        self.beyond = torch.searchsorted(x, x, right=right) - (0 if right else 1)

    def start(self, points: Tensor, steps: int) -> Tensor:
        """The first place that the first ``steps`` have not seen."""
        return points + self.direction * (steps + 1)

    def apart(self, unit: Tensor, point: Tensor, place: Tensor) -> Tensor:
        """Distances to the points at these places; infinite beyond the ends."""
        clamped = place.clamp(0, len(self.x) - 1)
        apart = torch.maximum(
            (self.ys[unit, clamped] - self.ys[unit, point]).abs_(),
            (self.x[clamped] - self.x[point]).abs_(),
        )
        return apart.masked_fill_(clamped != place, torch.inf)

    def bound(
        self, unit: Tensor, point: Tensor, place: Tensor, radius: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Where to go on, and a distance that no point from there on is below."""
        beyond = self.beyond[point]
        same_x = (place - beyond) * self.direction < 0
        # Among equal x, y only moves away: once it is too far, the rest of them is left out.
        in_y = self.apart(unit, point, place)
        left_out = same_x & (in_y >= radius)
        place = torch.where(left_out, beyond, place)
        same_x = same_x & ~left_out
        after = torch.where(same_x, beyond, place)
        clamped = after.clamp(0, len(self.x) - 1)
        in_x = (self.x[clamped] - self.x[point]).abs_().masked_fill_(clamped != after, torch.inf)
        return place, torch.where(same_x, torch.minimum(in_y, in_x), in_x)


def _insert(near: list[Tensor], apart: Tensor) -> None:
    """Insert a distance into the k smallest, in place."""
    for m in range(len(near) - 1, 0, -1):
        torch.minimum(near[m], torch.maximum(near[m - 1], apart), out=near[m])
    torch.minimum(near[0], apart, out=near[0])
