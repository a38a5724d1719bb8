"""Déjà vu: which objects the neighbours of a caption show, and how many are the picture's own."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from memviz.engine.search import Neighbours

_BLOCK = 2**22  # entries of a count table that are held at once


@dataclass(frozen=True, eq=False)
class Predictions:
    """What one model's neighbours say of each pair.

    Attributes
    ----------
    neighbours : Neighbours
        Of the captions among the public images, ``[n, k]``.
    right, predicted, own : int64 ``[n]``
        Predicted objects that are the picture's own, all predicted, and all of the picture.
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
        """Share of the predicted objects that are the picture's own, float64 ``[n]``.

        0 where nothing is predicted; NaN where the picture has no object.
        """
        share = self.right.double() / self.predicted.clamp(min=1)
        return share.masked_fill(self.own == 0, torch.nan)

    @property
    def recall(self) -> Tensor:
        """Share of the picture's objects that are predicted, float64 ``[n]``; NaN where none."""
        return self.right.double() / self.own

    @property
    def f(self) -> Tensor:
        """Harmonic mean of both, float64 ``[n]``: 0 where nothing predicted is right."""
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
        A picture without objects adds nothing.
    top : int, optional
        Keep so many objects, those that most neighbours show; of equally many the one that a nearer
        neighbour shows, then the one of the lower number. The union of all unless given.

    Returns
    -------
    bool ``[n, objects]``

    Raises
    ------
    ValueError
        If ``top`` is not positive, or a neighbour is no row of ``public_objects``.

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
        found = torch.zeros(len(neighbours), public_objects.shape[1], dtype=torch.bool)
        for column in neighbours.T:
            found |= public_objects[column]
        return found
    if top < 1:
        raise ValueError(f"top is {top}; keep at least 1 object, or None for all of them.")
    rank = _rank(neighbours, public_objects)
    best, objects = rank.topk(min(top, rank.shape[1]), dim=1)
    return torch.zeros_like(rank, dtype=torch.bool).scatter_(1, objects, best >= 0)


def predict(
    neighbours: Neighbours, objects: Tensor, public_objects: Tensor, top: int | None = None
) -> Predictions:
    """Count predicted and right objects of each pair, in steps that bound the memory.

    ``|G_i ∩ O(i)|``, ``|O(i)|`` and ``|G_i|`` of Jayaraman et al. 2024, as the authors' code counts
    them; the caption's own objects stay in ``G_i``, so a caption that names no object is as good as
    any other.

    Parameters
    ----------
    neighbours : Neighbours
        Of the captions among the public images.
    objects : bool ``[n, objects]``
        ``G_i``: what each pair's own picture shows.
    public_objects : bool ``[m, objects]``
    top : int, optional
        As in :func:`predicted_objects`.

    Raises
    ------
    ValueError
        On masks that do not fit each other or the neighbours.

    Examples
    --------
    >>> found = Neighbours(torch.tensor([[1]]), torch.ones(1, 1), "cosine", "float32")
    >>> own, public = torch.tensor([[1, 1, 0]]).bool(), torch.tensor([[0, 0, 1], [1, 0, 1]]).bool()
    >>> predict(found, own, public)
    Predictions(1 pairs, 1 neighbours, all objects: mean precision 0.500, recall 0.500)
    """
    check_objects(objects, "objects")
    check_objects(public_objects, "public_objects")
    if objects.shape[1] != public_objects.shape[1]:
        raise ValueError(
            f"objects has {objects.shape[1]} kinds of object and public_objects "
            f"{public_objects.shape[1]}; use one list of kinds for both."
        )
    if len(neighbours.ids) != len(objects):
        raise ValueError(
            f"there are {len(neighbours.ids)} captions and {len(objects)} rows of objects; give "
            "one row a pair."
        )
    right, predicted = [], []
    step = max(1, _BLOCK // max(objects.shape[1], 1))
    for ids, own in zip(neighbours.ids.split(step), objects.split(step), strict=True):
        found = predicted_objects(ids, public_objects, top)
        right.append((found & own).sum(1))
        predicted.append(found.sum(1))
    return Predictions(neighbours, torch.cat(right), torch.cat(predicted), objects.sum(1), top)


def first_neighbours(found: Neighbours, k: int | None) -> Neighbours:
    """The k nearest of neighbours that were searched before; all of them with None.

    Raises
    ------
    ValueError
        If there are not so many.
    """
    there = found.ids.shape[1]
    if k is None:
        return found
    if not 1 <= k <= there:
        raise ValueError(
            f"k is {k} and {there} neighbours were searched; use 1 to {there}, or search again."
        )
    return replace(found, ids=found.ids[:, :k], values=found.values[:, :k])


def neighbour_changes(before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    """Which neighbours stayed, moved, are new or are lost, for example once units are ablated.

    Parameters
    ----------
    before, after : int64 ``[n, k]``
        Neighbours of the same captions, nearest first.

    Returns
    -------
    came_from : int64 ``[n, k]``
        Of each neighbour after, its place before; -1 where it is new.
    lost : bool ``[n, k]``
        Of each neighbour before, whether it is gone.

    Raises
    ------
    ValueError
        If they are not of the same captions.

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
    place = same.int().argmax(2)
    return place.masked_fill(~same.any(2), -1), ~same.any(1)


def check_objects(objects: Tensor, words: str) -> None:
    """Refuse what is not a mask with one row a picture and one column a kind of object."""
    if not isinstance(objects, Tensor) or objects.dim() != 2 or objects.dtype != torch.bool:
        given = (
            f"{objects.dtype} of shape {list(objects.shape)}"
            if isinstance(objects, Tensor)
            else type(objects).__name__
        )
        raise ValueError(f"{words} is {given}; give bool [pictures, kinds of object].")


def _rank(neighbours: Tensor, public_objects: Tensor) -> Tensor:
    """A different number for each object of a row, higher for more neighbours; -1 where none."""
    shape, k = (len(neighbours), public_objects.shape[1]), neighbours.shape[1]
    count, nearest = torch.zeros(shape, dtype=torch.int64), torch.full(shape, k)
    for place in range(k - 1, -1, -1):
        shown = public_objects[neighbours[:, place]]
        count += shown
        nearest.masked_fill_(shown, place)
    later = torch.arange(shape[1] - 1, -1, -1)
    rank = (count * (k + 1) + k - nearest) * shape[1] + later
    return rank.masked_fill_(count == 0, -1)


def _check_neighbours(neighbours: Tensor, rows: int) -> None:
    if neighbours.numel() and not 0 <= int(neighbours.min()) <= int(neighbours.max()) < rows:
        outside = next(int(row) for row in neighbours.flatten() if not 0 <= row < rows)
        raise ValueError(
            f"neighbour {outside} is not one of the {rows} public images; the rows of "
            "public_objects must be those of the index."
        )
