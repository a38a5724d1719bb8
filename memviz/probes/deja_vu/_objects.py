"""Déjà vu: which objects a caption's neighbours show, and how many are the image's own."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from operator import index
from typing import Any

import torch
from torch import Tensor

from memviz.checks import checked, described, quoted
from memviz.engine.search import Neighbours

from ._shares import shares_of

_BLOCK = 2**22  # entries of a count table in memory at once


@dataclass(frozen=True, eq=False)
class Predictions:
    """The objects that one model's neighbours predict for each pair.

    Attributes
    ----------
    neighbours : Neighbours
        Of the captions among the public images, ``[n, k]``.
    right, predicted : float64 ``[n]``
        Number of predicted objects that the image shows, and of all predicted objects. Where
        objects or public images tie for the last places they share them, and the numbers need not
        be whole.
    own : int64 ``[n]``
        Number of all objects that the image shows.
    top : int or None
        How many objects were kept, by the number of neighbours that show them; None for all.
    distance : float64 ``[n]``, optional
        Of the caption to its nearest public image, both scaled to length 1. None if the embeddings
        were not at hand; the cosine then gives it, less finely.
    """

    neighbours: Neighbours
    right: Tensor
    predicted: Tensor
    own: Tensor
    top: int | None
    distance: Tensor | None = None

    @property
    def precision(self) -> Tensor:
        """Share of the predicted objects that the image shows, float64 ``[n]``.

        0 where nothing is predicted; NaN where the image has no object.
        """
        share = self.right / self.predicted.masked_fill(self.predicted == 0, 1)
        return share.masked_fill(self.own == 0, torch.nan)

    @property
    def recall(self) -> Tensor:
        """Share of the image's objects that are predicted, float64 ``[n]``; NaN if it has none."""
        return self.right / self.own

    @property
    def f(self) -> Tensor:
        """Harmonic mean of precision and recall, float64 ``[n]``; 0 where none is right."""
        share = 2 * self.right / (self.predicted + self.own).clamp(min=1)
        return share.masked_fill(self.own == 0, torch.nan)

    def __repr__(self) -> str:
        k, labels = self.neighbours.ids.shape[1], "all" if self.top is None else f"top {self.top}"
        return (
            f"Predictions({len(self.own):,} pairs, {k} neighbours, {labels} objects: mean "
            f"precision {float(self.precision.nanmean()):.3f}, "
            f"recall {float(self.recall.nanmean()):.3f})"
        )


@checked
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
        neighbour shows. Objects that still tie for the last places share them, so that the order of
        the columns does not matter. By default the union of all.

    Returns
    -------
    float64 ``[n, objects]``
        1 where an object is kept, 0 where not; in between where more objects tie than places are
        left, the number of places over that of objects.

    Raises
    ------
    ValueError
        If ``top`` is not a positive integer, or a neighbour is not a row of ``public_objects``.

    Examples
    --------
    >>> public = torch.tensor([[1, 0, 1], [0, 0, 1], [0, 0, 0]]).bool()
    >>> predicted_objects(torch.tensor([[0, 1, 2]]), public).int()
    tensor([[1, 0, 1]], dtype=torch.int32)
    >>> predicted_objects(torch.tensor([[0, 1, 2]]), public, top=1).int()
    tensor([[0, 0, 1]], dtype=torch.int32)
    >>> predicted_objects(torch.tensor([[0]]), public, top=1)  # both are shown by the same image
    tensor([[0.5000, 0.0000, 0.5000]], dtype=torch.float64)
    """
    check_objects(public_objects, "public_objects")
    _check_neighbours(neighbours, len(public_objects))
    return shares_of(neighbours.cpu(), None, None, public_objects.cpu(), check_top(top))


@checked
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
        Neighbours of equal value count as equally near.
    objects : bool ``[n, objects]``
        ``G_i``: the objects that each pair's own image shows.
    public_objects : bool ``[m, objects]``
    top : int, optional
        As in :func:`predicted_objects`. Public images that tie for the last places among the
        neighbours (``neighbours.tied``) share them, too: each object counts by the mean number of
        neighbours that show it.

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
    check_top(top)
    _check_neighbours(neighbours.ids, len(public_objects))
    objects, public_objects = objects.cpu(), public_objects.cpu()  # as the neighbours are
    right, predicted = [], []
    step = max(1, _BLOCK // max(objects.shape[1], 1))
    for start in range(0, len(objects), step):
        rows = slice(start, start + step)
        tied = neighbours.tied
        if tied is not None:
            tied = tied[:, (tied[0] >= start) & (tied[0] < start + step)]
            tied = tied - torch.tensor([[start], [0]])
        listed = (neighbours.ids[rows], neighbours.values[rows], tied)
        shares = shares_of(*listed, public_objects, top)
        right.append((shares * objects[rows]).sum(1))
        predicted.append(shares.sum(1))
    # Rounded sums of shares must not depend on the order of the objects.
    counts = [torch.cat(parts).round(decimals=12) for parts in (right, predicted)]
    return Predictions(neighbours, counts[0], counts[1], objects.sum(1), top)


def first_neighbours(neighbours: Neighbours, k: Any) -> Neighbours:
    """The k nearest of neighbours that were already searched; all of them if k is None.

    Raises
    ------
    ValueError
        If fewer than k were searched.
    """
    searched = neighbours.ids.shape[1]
    if k is None:
        return neighbours
    if not isinstance(k, Integral) or not 1 <= int(k) <= searched:
        raise ValueError(
            f"k is {k}, but {searched} neighbours were searched; use 1 to {searched}, or search "
            "again."
        )
    return neighbours.first(int(k))


@checked
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


def check_top(top: Any) -> int | None:
    """Refuse anything but None and a positive integer."""
    if top is None:
        return None
    try:
        if index(top) >= 1:
            return index(top)
    except TypeError:
        pass
    raise ValueError(f"top is {quoted(top)}; keep at least 1 object, or give None to keep all.")


def _check_neighbours(neighbours: Tensor, rows: int) -> None:
    # By bool and uint8 torch would index as by a mask.
    whole = not neighbours.is_floating_point() and neighbours.dtype not in (torch.bool, torch.uint8)
    if neighbours.dim() != 2 or not whole:
        raise ValueError(
            f"neighbours is {described(neighbours)}; give rows of public_objects, int64 [n, k]."
        )
    if neighbours.numel() and not 0 <= int(neighbours.min()) <= int(neighbours.max()) < rows:
        outside = next(int(row) for row in neighbours.flatten() if not 0 <= row < rows)
        raise ValueError(
            f"neighbour {outside} is not one of the {rows} public images; give public_objects the "
            "rows of the searched index."
        )
