"""Neighbours: the k nearest rows of an index, exactly, with most of the work in low precision."""

from __future__ import annotations

from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any, get_args

import torch
from torch import Tensor

from memviz.checks import quoted
from memviz.progress import slow

from ._screen import Measure, bfloat16_pays, unit
from ._search import Search
from ._ties import tied_rows

_STEP = 1024  # rows checked at a time
_WORTH = 2**27  # multiplications below which any screen is quick
_L2 = 1  # faiss.METRIC_L2; inner products are 0


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The k nearest rows of each query, nearest first.

    Attributes
    ----------
    ids : int64 ``[queries, k]``
        Row numbers of the index (of a FAISS index: its own ids).
    values : float64 ``[queries, k]``
        Cosine, dot product or Euclidean distance.
    measure : str
    engine : str
        What found the candidates: ``"bfloat16"``, ``"float32"``, ``"bfloat16, then float32"`` or
        ``"faiss"``. The first three differ in time, never in the answer.
    tied : int64 ``[2, pairs]``, optional
        Of each query that has more rows exactly as near as its last neighbour than places for them:
        the query, with every such row. None if they were not asked for.
    """

    ids: Tensor
    values: Tensor
    measure: Measure
    engine: str
    tied: Tensor | None = None

    def first(self, k: int) -> Neighbours:
        """The k nearest of these, ``k`` from 1 to as many as there are, with their ties."""
        values, last = self.values, self.values[:, -1]
        if k == values.shape[1]:
            return self
        cut = values[:, k - 1]
        split = (cut == values[:, k])[:, None] & (values == cut[:, None])
        query, place = split.nonzero().T
        tied = torch.stack([query, self.ids[query, place]])
        if self.tied is not None:
            # Where the ties go on to the end, those beyond it belong to them as well.
            to_the_end = torch.zeros(len(values), dtype=torch.bool)
            to_the_end[self.tied[0]] = True
            to_the_end &= cut == last
            parts = tied[:, ~to_the_end[tied[0]]], self.tied[:, to_the_end[self.tied[0]]]
            tied = torch.cat(parts, 1)
            tied = tied[:, tied[0].argsort(stable=True)]
        return replace(self, ids=self.ids[:, :k], values=values[:, :k], tied=tied)

    def __repr__(self) -> str:
        queries, k = self.ids.shape
        return f"Neighbours({queries} queries × {k} by {self.measure}, engine {self.engine})"


def nearest(
    queries: Tensor,
    index: Any,
    k: int,
    *,
    measure: Measure = "cosine",
    screen: bool | None = None,
    ties: bool = False,
    progress: bool = True,
) -> Neighbours:
    """The k rows of an index that are nearest to each query, exactly.

    The ids are those of brute force in float64 on the rows as given; ties go to the lowest id.
    Values that differ by less than 1e-13 of the norms may come in either order.

    Parameters
    ----------
    queries : float ``[queries, features]``
        The search runs on their device, in float64 if they or the index are. Entries must be in the
        range of float32.
    index : float ``[rows, features]``, or FAISS index
        A tensor may be on another device. A FAISS index must use inner products (for cosine: of
        unit rows) or, for distances, L2; its answers are as exact as its kind.
    k : int
    measure : "cosine", "euclidean" or "dot"
    screen : bool, optional
        Whether to screen in bfloat16; by default if a short measurement says that it pays.
    ties : bool
        Also list the rows that are exactly as near as the last neighbour
        (:attr:`Neighbours.tied`), for answers that must not depend on the order of the index. Of a
        FAISS index only those among the k are known.
    progress : bool

    Returns
    -------
    Neighbours
        On the CPU.

    Raises
    ------
    ValueError
        On mismatched shapes, a k above the number of rows, NaN or infinity, the cosine of a zero
        row, or a FAISS index of another measure.

    Examples
    --------
    >>> index = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> nearest(torch.tensor([[2.0, 0.1]]), index, k=2).ids
    tensor([[0, 2]])
    """
    if measure not in get_args(Measure):
        raise ValueError(f"measure {quoted(measure)} is not one of {', '.join(get_args(Measure))}.")
    largest = _check_rows(queries, "queries", measure)
    if not isinstance(index, Tensor):
        return _from_faiss(queries, index, k, measure, progress)
    # The largest entry sets the scale, which queries share for distances.
    largest = max(_check_rows(index, "index", measure), largest if measure == "euclidean" else 0.0)
    _check_features(queries.shape[1], index.shape[1])
    _check_k(k, len(index))
    k = int(k)
    # One neighbour more shows whether the last place is a tie.
    more = int(ties and k < len(index))
    if screen is None:
        work = queries.shape[0] * index.shape[0] * index.shape[1]
        screen = work > _WORTH and bfloat16_pays(queries.device)
    with torch.no_grad():
        # One low-precision product screens all pairs; those that may be among the k nearest by a
        # proved bound (_screen.py) are scored again in float64.
        kept = _first_of_equal(index, k + more)
        double = torch.float64 in (queries.dtype, index.dtype)
        queries = queries.double() if double else queries.float()
        rows = index if kept is None else index[kept]
        search = Search(queries, rows, k + more, measure, largest)
        search.run([torch.bfloat16, torch.float32] if screen else [torch.float32], progress)
        ids, values = search.settle(progress)
        ids = ids if kept is None else kept.to(ids.device)[ids]
        ids, values = (part.view(len(queries), k + more) for part in (ids, values))
        tied = None
        if ties:
            query = (values[:, k - 1] == values[:, -1]).nonzero()[: more * len(queries), 0]
            tied = tied_rows(queries, index, measure, query, ids[query, k - 1]).cpu()
    values = -values if measure == "euclidean" else values
    ids, values = ids[:, :k].cpu(), values[:, :k].cpu()
    return Neighbours(ids, values, measure, ", then ".join(search.precisions), tied)


def _first_of_equal(index: Tensor, k: int) -> Tensor | None:
    """The first k of each set of equal rows; None if a sample shows no equal rows.

    An ablation can make all embeddings equal, and then every pair would be scored exactly.
    """
    sample = index[:: max(1, len(index) // 256)]
    if len(sample.unique(dim=0)) > 0.9 * len(sample):
        return None
    _, group, counts = index.unique(dim=0, return_inverse=True, return_counts=True)
    order = group.argsort(stable=True)
    place = (
        torch.arange(len(index), device=index.device) - (counts.cumsum(0) - counts)[group[order]]
    )
    kept: Tensor = order[place < k].sort().values
    return kept


def _check_rows(rows: Tensor, words: str, measure: Measure) -> float:
    """The largest absolute entry of the rows, once they are known to be searchable."""
    if not isinstance(rows, Tensor):
        raise ValueError(f"{words} are {type(rows).__name__}; they must be a float tensor.")
    if rows.dim() != 2 or not rows.is_floating_point() or not rows.numel():
        raise ValueError(
            f"{words} must be floats [rows, features], at least one of each; "
            f"got {rows.dtype} {list(rows.shape)}."
        )
    largest = 0.0
    for start in range(0, len(rows), _STEP):
        peak = rows[start : start + _STEP].detach().float().abs().amax(1)
        _refuse(~(peak < torch.inf), start, f"{words} holds NaN or infinity as float32")
        if measure == "cosine":
            _refuse(peak == 0, start, f"{words} is zero, so its cosine is not defined")
        largest = max(largest, float(peak.max()))
    return largest


def _refuse(bad: Tensor, start: int, words: str) -> None:
    if bool(bad.any()):
        raise ValueError(
            f"row {start + int(bad.nonzero()[0])} of the {words}; leave out such rows."
        )


def _check_features(queries: int, index: int) -> None:
    if queries != index:
        raise ValueError(
            f"queries have {queries} features and the index {index}; "
            "both must come from the same space."
        )


def _check_k(k: Any, rows: int) -> None:
    if not isinstance(k, Integral) or not 1 <= int(k) <= rows:
        raise ValueError(f"k is {k}; the index has {rows} rows, so k must be from 1 to {rows}.")


def _from_faiss(
    queries: Tensor, index: Any, k: int, measure: Measure, progress: bool
) -> Neighbours:
    """The k nearest rows of a FAISS index, in steps that can be interrupted."""
    if not all(hasattr(index, name) for name in ("search", "d", "ntotal", "metric_type")):
        raise ValueError(
            f"index is {type(index).__name__}; it must be a float tensor [rows, features] "
            "or a FAISS index."
        )
    _check_features(queries.shape[1], index.d)
    _check_k(k, index.ntotal)
    distances = measure == "euclidean"
    if index.metric_type != (_L2 if distances else 0):
        raise ValueError(
            f"the FAISS index is not for {measure}; build it with "
            f"{'METRIC_L2' if distances else 'METRIC_INNER_PRODUCT'}."
        )
    rows = queries.detach().float().cpu()
    rows = (unit(rows) if measure == "cosine" else rows).contiguous()
    ids, values = [], []
    for part in slow(rows.split(256), "nearest rows", progress=progress):
        value, row = index.search(part.numpy(), k)
        values.append(torch.from_numpy(value))
        ids.append(torch.from_numpy(row))
    rows, values_of_rows = torch.cat(ids), torch.cat(values)
    if bool((rows < 0).any()):
        raise ValueError(
            f"the FAISS index found fewer than {k} rows for a query; increase its nprobe."
        )
    if distances:  # FAISS returns their squares
        values_of_rows = values_of_rows.clamp_min_(0).sqrt_()
    return Neighbours(rows, values_of_rows.double(), measure, "faiss")
