"""Votes of the nearest public images of background crops."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from memviz.checks import checked
from memviz.engine.search import Neighbours, nearest

from ._labels import Labels, labels_of_public


@dataclass(frozen=True, eq=False)
class Votes:
    """The votes of each crop's neighbours.

    Attributes
    ----------
    shares : float64 ``[n, classes]``
        Share of the neighbours in each class.
    ranked : int64 ``[n, classes]``
        Labels by votes; ties go to the class of a nearer neighbour. -1 where no further class has a
        vote.
    places : int64 ``[n, classes]``, optional
        How many classes rank at least as high as each of ``ranked``: by default 1, 2, 3, ... More
        where neighbours of several classes are equally near; then none of them is preferred.
    classes : int64 ``[classes]``, optional
        Label of each column of ``shares``; by default its number, unless labels are far larger than
        there are classes.
    """

    shares: Tensor
    ranked: Tensor
    places: Tensor | None = None
    classes: Tensor | None = None

    @property
    def confidence(self) -> Tensor:
        """Minus the entropy of the votes in nats, float64 ``[n]``; 0 if all agree."""
        # Sorted first: which class a share belongs to must not change even the last bit.
        shares = self.shares.sort(dim=1, descending=True).values
        terms = torch.special.xlogy(shares, shares)
        negative_entropy: Tensor = sum(terms.T, torch.zeros_like(terms[:, 0]))
        return negative_entropy

    def right(self, labels: Tensor, top: int = 1) -> Tensor:
        """Whether the label is surely among the ``top`` classes with votes, bool ``[n]``."""
        return self.chance(labels, top) == 1

    def chance(self, labels: Tensor, top: int = 1) -> Tensor:
        """The chance that the label is among the ``top`` classes with votes, float64 ``[n]``.

        1 or 0, but where neighbours of several classes are equally near and these classes tie for
        the last places: then the number of places over that of classes.
        """
        if top < 1:
            raise ValueError(f"top is {top}; count at least the first class.")
        places = self.places
        if places is None:
            places = torch.arange(1, self.ranked.shape[1] + 1).expand_as(self.ranked)
        named = (self.ranked == labels[:, None]) & (self.ranked >= 0)
        last = (places * named).amax(1)
        tied = (places == last[:, None]).sum(1)
        chance = (top - (last - tied)).clamp(min=0).minimum(tied) / tied.clamp(min=1).double()
        return chance.masked_fill(last == 0, 0)


@checked
def vote(
    crops: Tensor, public: object, public_labels: Labels, k: int = 100, *, progress: bool = True
) -> Votes:
    """Let the nearest public images of each background crop vote for a label.

    Public images that are exactly as near as the last neighbour share its place, so that their
    order does not matter.

    Parameters
    ----------
    crops : float ``[n, features]``
        Embeddings of background crops.
    public : float ``[m, features]``, or FAISS index
        Embeddings of whole public images by the same model.
    public_labels : integers ``[m]``
        Any numbers from 0 on; their size does not matter.
    k : int
        Neighbours by cosine; the authors use 100.

    Raises
    ------
    ValueError
        If shapes do not match, k exceeds the public set, or an embedding is NaN or zero.

    Examples
    --------
    >>> votes = vote(torch.eye(2), torch.eye(2), torch.tensor([1, 0]), k=1)
    >>> votes.ranked[:, 0], votes.confidence
    (tensor([1, 0]), tensor([0., 0.], dtype=torch.float64))
    """
    rows = len(public) if isinstance(public, Tensor) else getattr(public, "ntotal", None)
    labels = labels_of_public(public_labels, rows, k)
    # Column c of the shares is class c, unless that would leave most columns empty.
    known = labels.unique()
    classes = torch.arange(int(known[-1]) + 1) if known[-1] < 2 * len(known) + 1000 else known
    neighbours = nearest(crops, public, int(k), ties=True, progress=progress)
    counts, nearest_place = _counted(neighbours, torch.searchsorted(classes, labels), len(classes))
    order = nearest_place.argsort(dim=1, stable=True)
    order = order.gather(1, counts.gather(1, order).argsort(dim=1, descending=True, stable=True))
    ranked = classes[order].masked_fill(counts.gather(1, order) == 0, -1)
    same = [table.gather(1, order).diff(dim=1) == 0 for table in (counts, nearest_place)]
    # The place of a class is that of the last one it ties with.
    last = torch.ones_like(order, dtype=torch.bool)
    last[:, :-1] = ~(same[0] & same[1])
    places = torch.arange(1, len(classes) + 1).expand_as(order).masked_fill(~last, len(classes))
    places = places.flip(1).cummin(1).values.flip(1)
    return Votes(counts / int(k), ranked, places, classes)


def _counted(neighbours: Neighbours, columns: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Votes for each class, and the place of its nearest neighbour: float64 ``[n, classes]``.

    Images that tie for the last places share them; equally near ones have the same place.
    """
    ids, values, tied = neighbours.ids, neighbours.values, neighbours.tied
    n, k = ids.shape
    weights = torch.ones(ids.shape, dtype=torch.float64)
    later = torch.ones_like(ids, dtype=torch.bool)
    later[:, 1:] = values[:, 1:] != values[:, :-1]
    places = (torch.arange(k).expand_as(ids) * later).cummax(1).values
    if tied is not None:
        weights[tied[0]] = (values[tied[0]] != values[tied[0], -1:]).double()
    votes = torch.zeros(n, classes, dtype=torch.float64)
    votes.scatter_add_(1, columns[ids], weights)
    first = torch.full((n, classes), k)
    first.scatter_reduce_(1, columns[ids], torch.where(weights > 0, places, k), "amin")
    if tied is not None and tied.numel():
        query, image = tied
        left = k - weights.sum(1)
        share = left / torch.bincount(query, minlength=n).clamp(min=1)
        place = (query, columns[image])
        numbers = torch.zeros_like(votes).index_put_(
            place, torch.ones(len(query), dtype=torch.float64), accumulate=True
        )
        votes = (votes + numbers * share[:, None]).round(decimals=12)  # equal shares stay equal
        first[place] = torch.minimum(first[place], weights.sum(1).long()[query])
    return votes, first
