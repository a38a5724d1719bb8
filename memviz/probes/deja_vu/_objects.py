"""Déjà vu: which objects a caption's neighbours show, and how many are the image's own."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from memviz.engine.search import Neighbours

_BLOCK = 2**22  # entries of a count table in memory at once


@dataclass(frozen=True, eq=False)
class Predictions:
    """The objects that one model's neighbours predict for each pair.

    Attributes
    ----------
    neighbours : Neighbours
        Of the captions among the public images, ``[n, k]``.
    right, predicted, own : int64 ``[n]``
        Number of predicted objects that the image shows, of all predicted objects, and of all
        objects that the image shows.
    top : int or None
        How many objects were kept, by the number of neighbours that show them; None for all.
    """

    neighbours: Neighbours
    right: Tensor
    predicted: Tensor
    own: Tensor
    top: int | None

    @property
    def precision(self) -> Tensor:
        """Share of the predicted objects that the image shows, float64 ``[n]``.

        0 where nothing is predicted; NaN where the image has no object.
        """
        share = self.right.double() / self.predicted.clamp(min=1)
        return share.masked_fill(self.own == 0, torch.nan)

    @property
    def recall(self) -> Tensor:
        """Share of the image's objects that are predicted, float64 ``[n]``; NaN if it has none."""
        return self.right.double() / self.own

    @property
    def f(self) -> Tensor:
        """Harmonic mean of precision and recall, float64 ``[n]``; 0 where none is right."""
        share = 2 * self.right.double() / (self.predicted + self.own).clamp(min=1)
        return share.masked_fill(self.own == 0, torch.nan)

    def __repr__(self) -> str:
        k, labels = self.neighbours.ids.shape[1], "all" if self.top is None else f"top {self.top}"
        return (
            f"Predictions({len(self.own):,} pairs, {k} neighbours, {labels} objects: mean "
            f"precision {float(self.precision.nanmean()):.3f}, "
            f"recall {float(self.recall.nanmean()):.3f})"
        )


def predicted_objects(neighbours: Tensor, public_objects: Tensor, top: int | None = None) -> Tensor:
    """Objects that the neighbours of each caption show: all of them, or the most frequent.

    Parameters
    ----------
    neighbours : int64 ``[n, k]``
        Rows of ``public_objects``, nearest first.
    public_objects : bool ``[m, objects]``
        An image without objects adds nothing.
    top : int, optional
        Keep this many objects: those that most neighbours show; ties go to the object that a nearer
        neighbour shows, then to the lower index. By default the union of all.

    Returns
    -------
    bool ``[n, objects]``

    Raises
    ------
    ValueError
        If ``top`` is not positive, or a neighbour is not a row of ``public_objects``.

    Examples
    --------
    >>> public = torch.tensor([[1, 0, 1], [0, 0, 1], [0, 0, 0]]).bool()
    >>> predicted_objects(torch.tensor([[0, 1, 2]]), public).int()
    tensor([[1, 0, 1]], dtype=torch.int32)
    >>> predicted_objects(torch.tensor([[0, 1, 2]]), public, top=1).int()
    tensor([[0, 0, 1]], dtype=torch.int32)
    """
    check_objects(public_objects, "public_objects")
    _check_neighbours(neighbours, len(public_objects))
    if top is None:
        predicted = torch.zeros(len(neighbours), public_objects.shape[1], dtype=torch.bool)
        for column in neighbours.T:
            predicted |= public_objects[column]
        return predicted
    if top < 1:
        raise ValueError(f"top is {top}; keep at least 1 object, or give None to keep all.")
    rank = _rank(neighbours, public_objects)
    ranks, objects = rank.topk(min(top, rank.shape[1]), dim=1)
    return torch.zeros_like(rank, dtype=torch.bool).scatter_(1, objects, ranks >= 0)


def predict(
    neighbours: Neighbours, objects: Tensor, public_objects: Tensor, top: int | None = None
) -> Predictions:
    """Count predicted and correct objects of each pair, in blocks that bound the memory.

    ``|G_i ∩ O(i)|``, ``|O(i)|`` and ``|G_i|`` of Jayaraman et al. 2024, as the authors' code counts
    them; the caption's own objects stay in ``G_i``, so a caption that names no object counts like
    any other.

    Parameters
    ----------
    neighbours : Neighbours
        Of the captions among the public images.
    objects : bool ``[n, objects]``
        ``G_i``: the objects that each pair's own image shows.
    public_objects : bool ``[m, objects]``
    top : int, optional
        As in :func:`predicted_objects`.

    Raises
    ------
    ValueError
        If the masks do not match each other or the neighbours.

    Examples
    --------
    >>> neighbours = Neighbours(torch.tensor([[1]]), torch.ones(1, 1), "cosine", "float32")
    >>> own, public = torch.tensor([[1, 1, 0]]).bool(), torch.tensor([[0, 0, 1], [1, 0, 1]]).bool()
    >>> predict(neighbours, own, public)
    Predictions(1 pairs, 1 neighbours, all objects: mean precision 0.500, recall 0.500)
    """
    check_objects(objects, "objects")
    check_objects(public_objects, "public_objects")
    if objects.shape[1] != public_objects.shape[1]:
        raise ValueError(
            f"objects has {objects.shape[1]} kinds of object and public_objects "
            f"{public_objects.shape[1]}; use the same kinds for both."
        )
    if len(neighbours.ids) != len(objects):
        raise ValueError(
            f"there are {len(neighbours.ids)} captions and {len(objects)} rows of objects; give "
            "one row per pair."
        )
    right, predicted = [], []
    step = max(1, _BLOCK // max(objects.shape[1], 1))
    for ids, own in zip(neighbours.ids.split(step), objects.split(step), strict=True):
        shown = predicted_objects(ids, public_objects, top)
        right.append((shown & own).sum(1))
        predicted.append(shown.sum(1))
    return Predictions(neighbours, torch.cat(right), torch.cat(predicted), objects.sum(1), top)


def first_neighbours(neighbours: Neighbours, k: int | None) -> Neighbours:
    """The k nearest of neighbours that were already searched; all of them if k is None.

    Raises
    ------
    ValueError
        If fewer than k were searched.
    """
    searched = neighbours.ids.shape[1]
    if k is None:
        return neighbours
    if not 1 <= k <= searched:
        raise ValueError(
            f"k is {k}, but {searched} neighbours were searched; use 1 to {searched}, or search "
            "again."
        )
    return replace(neighbours, ids=neighbours.ids[:, :k], values=neighbours.values[:, :k])


def neighbour_changes(before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    """Which neighbours stayed, moved, appeared or were lost, for example after an ablation.

    Parameters
    ----------
    before, after : int64 ``[n, k]``
        Neighbours of the same captions, nearest first.

    Returns
    -------
    came_from : int64 ``[n, k]``
        The earlier rank of each neighbour after; -1 if it is new.
    lost : bool ``[n, k]``
        Whether each neighbour before is gone.

    Raises
    ------
    ValueError
        If ``before`` and ``after`` differ in their number of captions.

    Examples
    --------
    >>> neighbour_changes(torch.tensor([[5, 7, 2]]), torch.tensor([[7, 9, 2]]))
    (tensor([[ 1, -1,  2]]), tensor([[ True, False, False]]))
    """
    if before.dim() != 2 or after.dim() != 2 or len(before) != len(after):
        raise ValueError(
            f"neighbours before are {list(before.shape)} and after {list(after.shape)}; give both "
            "of the same captions, [captions, k]."
        )
    same = after[:, :, None] == before[:, None, :]
    came_from = same.int().argmax(2)
    return came_from.masked_fill(~same.any(2), -1), ~same.any(1)


def check_objects(objects: Tensor, words: str) -> None:
    """Refuse anything but a mask with one row per image and one column per kind of object."""
    if not isinstance(objects, Tensor) or objects.dim() != 2 or objects.dtype != torch.bool:
        given = (
            f"{objects.dtype} of shape {list(objects.shape)}"
            if isinstance(objects, Tensor)
            else type(objects).__name__
        )
        raise ValueError(f"{words} is {given}; give bool [images, kinds of object].")


def _rank(neighbours: Tensor, public_objects: Tensor) -> Tensor:
    """A distinct rank for each object of a row, higher if more neighbours show it; -1 if none."""
    shape, k = (len(neighbours), public_objects.shape[1]), neighbours.shape[1]
    count, nearest = torch.zeros(shape, dtype=torch.int64), torch.full(shape, k)
    for column in range(k - 1, -1, -1):
        shown = public_objects[neighbours[:, column]]
        count += shown
        nearest.masked_fill_(shown, column)
    tie_break = torch.arange(shape[1] - 1, -1, -1)
    rank = (count * (k + 1) + k - nearest) * shape[1] + tie_break
    return rank.masked_fill_(count == 0, -1)


def _check_neighbours(neighbours: Tensor, rows: int) -> None:
    if neighbours.numel() and not 0 <= int(neighbours.min()) <= int(neighbours.max()) < rows:
        outside = next(int(row) for row in neighbours.flatten() if not 0 <= row < rows)
        raise ValueError(
            f"neighbour {outside} is not one of the {rows} public images; give public_objects the "
            "rows of the searched index."
        )
