"""The first rows of an order, where equal values must not be told apart by their place."""

from __future__ import annotations

from math import floor

import numpy as np
from torch import Tensor


def first_of(fraction: float, rows: int) -> int:
    """A fraction of the rows, rounded down, at least 1: 29 of 100 for 0.29.

    Examples
    --------
    >>> first_of(0.29, 100), first_of(0.001, 100)
    (29, 1)
    """
    return max(1, floor(round(fraction * rows, 6)))


def share_of_first(values: Tensor, count: int) -> Tensor:
    """How much each row belongs to the ``count`` highest, float64 ``[n]``: 1, 0 or between.

    Rows of equal value that tie for the last places share them. The mean of anything over the first
    rows is then its mean over all orders of the ties.

    Examples
    --------
    >>> import torch
    >>> share_of_first(torch.tensor([3.0, 1.0, 1.0, 0.0]), 2)
    tensor([1.0000, 0.5000, 0.5000, 0.0000], dtype=torch.float64)
    """
    cut = values.topk(count).values[-1]
    sure, tied = (values > cut).double(), (values == cut).double()
    return sure + tied * (count - sure.sum()) / tied.sum()


def evenly(rows: int, most: int) -> np.ndarray:
    """At most this many places, evenly over sorted rows, both ends included.

    Examples
    --------
    >>> evenly(9, 3)
    array([0, 4, 8])
    """
    return np.linspace(0, rows - 1, min(rows, most)).round().astype(int)
