"""Neighbours: the k nearest rows of an index, exactly, with most of the work in low precision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor

from memviz.progress import slow

from ._screen import Measure, bfloat16_pays, unit
from ._search import Search

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
    values : float32 ``[queries, k]``
        Cosine, dot product or Euclidean distance.
    measure : str
    engine : str
        What found the candidates: ``"bfloat16"``, ``"float32"``, ``"bfloat16, then float32"`` or
        ``"faiss"``. The first three differ in time, never in the answer.
    """

    ids: Tensor
    values: Tensor
    measure: Measure
    engine: str

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
    progress: bool = True,
) -> Neighbours:
    """The k rows of an index that are nearest to each query, exactly.

    The ids are those of brute force in float64 on float32 rows; ties go to the lowest id. Values
    that differ by less than 1e-13 of the norms may come in either order.

    Parameters
    ----------
    queries : float ``[queries, features]``
        Read as float32; the search runs on their device.
    index : float ``[rows, features]``, or FAISS index
        A tensor may be on another device. A FAISS index must use inner products (for cosine: of
        unit rows) or, for distances, L2; its answers are as exact as its kind.
    k : int
    measure : "cosine", "euclidean" or "dot"
    screen : bool, optional
        Whether to screen in bfloat16; by default if a short measurement says that it pays.
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
        raise ValueError(f"measure {measure!r} is not one of {', '.join(get_args(Measure))}.")
    largest = _check_rows(queries, "queries", measure)
    if not isinstance(index, Tensor):
        return _from_faiss(queries, index, k, measure, progress)
    # The largest entry sets the scale, which queries share for distances.
    largest = max(_check_rows(index, "index", measure), largest if measure == "euclidean" else 0.0)
    _check_features(queries.shape[1], index.shape[1])
    _check_k(k, len(index))
    if screen is None:
        work = queries.shape[0] * index.shape[0] * index.shape[1]
        screen = work > _WORTH and bfloat16_pays(queries.device)
    with torch.no_grad():
        # One low-precision product screens all pairs; those that may be among the k nearest by a
        # proved bound (_screen.py) are scored again in float64.
        kept = _first_of_equal(index, k)
        search = Search(
            queries.float(), index if kept is None else index[kept], k, measure, largest
        )
        search.run([torch.bfloat16, torch.float32] if screen else [torch.float32], progress)
        ids, values = search.settle(progress)
        ids = ids if kept is None else kept.to(ids.device)[ids]
    values = -values if measure == "euclidean" else values
    ids, values = (part.view(len(queries), k).cpu() for part in (ids, values.float()))
    return Neighbours(ids, values, measure, ", then ".join(search.precisions))


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


def _check_k(k: int, rows: int) -> None:
    if not 1 <= k <= rows:
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
    return Neighbours(rows, values_of_rows, measure, "faiss")
