"""Ties: all rows of an index that are exactly as near to a query as its last neighbour."""

from __future__ import annotations

import torch
from torch import Tensor

from ._screen import Measure
from ._search import exact_values

_ENTRIES = 2**22  # scores at a time
_NEAR = 1e-9  # of the norms: float64 products err by far less
_MOST = 2**26  # pairs: 1 GiB


def tied_rows(
    queries: Tensor, index: Tensor, measure: Measure, query: Tensor, last: Tensor
) -> Tensor:
    """Rows as near as a query's last neighbour, itself among them.

    Parameters
    ----------
    queries, index : float ``[queries, features]``, ``[rows, features]``
    measure : "cosine", "euclidean" or "dot"
    query, last : int64 ``[t]``
        Queries to look at, ascending, and the last neighbour of each.

    Returns
    -------
    int64 ``[2, pairs]``
        Queries and rows, ascending.

    Raises
    ------
    ValueError
        If there are more than 2²⁶ pairs.
    """
    if not len(query):
        return torch.stack([query, last])
    cut = exact_values(queries, index, measure, query, last)
    pairs, count = [], 0
    step = max(1, _ENTRIES // len(index))
    rows = index.to(queries).double()
    lengths = rows.norm(dim=1)
    for start in range(0, len(query), step):
        part = slice(start, start + step)
        q = queries[query[part]].double()
        near = _near(q, rows, lengths, cut[part], measure).nonzero()
        place, row = query[part][near[:, 0]], near[:, 1]
        same = exact_values(queries, index, measure, place, row) == cut[part][near[:, 0]]
        pairs.append(torch.stack([place[same], row[same]]))
        count += int(same.sum())
        if count > _MOST:
            raise ValueError(
                f"more than {_MOST:,} rows of the index are exactly as near to a query as others: "
                "the embeddings are nearly all equal; check the model."
            )
    return torch.cat(pairs, 1)


def _near(q: Tensor, rows: Tensor, lengths: Tensor, cut: Tensor, measure: Measure) -> Tensor:
    """Which rows may be as near as the cut, by one product, bool ``[queries, rows]``."""
    scores = q @ rows.T
    sizes = q.norm(dim=1)[:, None] * lengths
    goal = cut[:, None] * sizes if measure == "cosine" else cut[:, None]
    if measure == "euclidean":
        sizes = q.square().sum(1)[:, None] + lengths.square()
        scores, goal = sizes - 2 * scores, goal.square()
    near: Tensor = (scores - goal).abs() <= _NEAR * sizes
    return near
