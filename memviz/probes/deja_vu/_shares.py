"""Shares: how much each object is predicted where objects or images tie for the last places."""

from __future__ import annotations

import torch
from torch import Tensor

_STEP = 2**16  # ties counted at a time


def shares_of(
    ids: Tensor,
    values: Tensor | None,
    tied: Tensor | None,
    public_objects: Tensor,
    top: int | None,
) -> Tensor:
    """How much each object is predicted, float64 ``[n, objects]``: 1, 0 or between.

    Neighbours of equal value are equally near; without values each is farther than the last.
    """
    n, k = ids.shape
    sure = torch.ones_like(ids, dtype=torch.bool)  # neighbours that do not tie for the last places
    place = torch.arange(k).expand_as(ids)
    if values is not None:
        later = torch.ones_like(sure)
        later[:, 1:] = values[:, 1:] != values[:, :-1]
        place = (place * later).cummax(1).values
    count = torch.zeros(n, public_objects.shape[1], dtype=torch.int64)
    nearest = torch.full_like(count, k)
    if values is not None and tied is not None and tied.numel():
        sure[tied[0]] = values[tied[0]] != values[tied[0], -1:]
    for column in range(k - 1, -1, -1):
        shown = public_objects[ids[:, column]] & sure[:, column, None]
        count += shown
        nearest = torch.where(shown, place[:, column, None], nearest)
    union = (count > 0).double()
    if tied is not None and tied.numel():
        rows = tied[0].unique()
        left = k - sure[rows].sum(1, keepdim=True)  # places for the images that tie
        images = torch.bincount(tied[0], minlength=n)[rows, None]
        showing = _showing(tied, public_objects, n)[rows]
        missed = _missed(images, showing, left)
        union[rows] = torch.where(count[rows] > 0, 1.0, 1 - missed)
        nearest[rows] = torch.where(showing > 0, nearest[rows].minimum(k - left), nearest[rows])
        count[rows] = count[rows] * images + left * showing  # the mean, times the images
    if top is None or top >= count.shape[1]:
        return union
    rank = (count * (k + 1) + k - nearest).masked_fill_(count == 0, -1)
    cut = rank.topk(top, dim=1).values[:, -1:]
    above, level = rank > cut, (rank == cut) & (cut >= 0)
    places = top - above.sum(1, keepdim=True)
    return (above & (rank >= 0)) + level * (
        places / level.sum(1, keepdim=True).clamp(min=1).double()
    )


def _showing(tied: Tensor, public_objects: Tensor, n: int) -> Tensor:
    """How many of the images that tie for a caption show each object, int64 ``[n, objects]``."""
    counts = torch.zeros(n, public_objects.shape[1], dtype=torch.int64)
    for query, image in zip(*(ids.split(_STEP) for ids in tied), strict=True):
        counts.index_add_(0, query, public_objects[image].long())
    return counts


def _missed(images: Tensor, showing: Tensor, places: Tensor) -> Tensor:
    """Probability that none of the images drawn for the places shows an object."""
    missed = torch.ones(showing.shape, dtype=torch.float64)
    for drawn in range(int(places.max())):
        still = (images - showing - drawn).clamp(min=0) / (images - drawn).clamp(min=1).double()
        missed *= torch.where(places > drawn, still, 1.0)
    return missed
