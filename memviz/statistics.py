"""Statistics that several packages share: Wilson interval, sign test, bootstrap, Spearman, cuts."""

from __future__ import annotations

from math import floor

import numpy as np
import torch
from torch import Tensor

from memviz.checks import check_shapes, checked
from memviz.progress import slow

NORMAL = 1.959964  # 97.5th percentile of the standard normal


def wilson(correct: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of the share ``correct / n``.

    Examples
    --------
    >>> [round(end, 3) for end in wilson(8, 10)]
    [0.49, 0.943]
    """
    # Unlike the normal interval, it stays within 0 and 1 and has a width at shares of 0 and 1.
    share, z = correct / n, NORMAL
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    return max(0.0, centre - half), min(1.0, centre + half)


def sign_test(signs: Tensor) -> float:
    """By how many standard deviations positive signs outnumber negative ones; 0 if all are 0.

    ``z = (n+ - n-) / sqrt(n+ + n-)`` over ``signs`` ``[pairs]`` of -1, 0 and 1.

    Examples
    --------
    >>> sign_test(torch.tensor([1.0, 1.0, 1.0, -1.0, 0.0]))
    1.0
    """
    differ = float(signs.abs().sum())
    return float(signs.sum()) / differ**0.5 if differ else 0.0


def resampled(rows: Tensor, draws: int, seed: int, *, progress: bool = True) -> np.ndarray:
    """Bootstrap means of each row ``[rows, pairs]``, in the rows' own dtype, ``[draws, rows]``.

    All rows share the pairs of a draw, so that differences between rows are paired too.

    Examples
    --------
    >>> resampled(torch.ones(2, 5), draws=3, seed=0).tolist()
    [[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]]
    """
    generator = torch.Generator().manual_seed(seed)
    pairs, means = rows.shape[1], []
    for _ in slow(range(draws), "resampling the pairs", progress=progress):
        means.append(rows[:, torch.randint(pairs, (pairs,), generator=generator)].mean(1))
    return torch.stack(means).numpy()


def generator_of(seed: int, *numbers: int) -> torch.Generator:
    """A generator of its own for each seed and numbers, for example a seed and an example.

    What is drawn for an example then depends on no other one.

    Examples
    --------
    >>> draws = [torch.randint(1000, (4,), generator=generator_of(0, k)) for k in (7, 7, 8)]
    >>> torch.equal(draws[0], draws[1]), torch.equal(draws[0], draws[2])
    (True, False)
    """
    entropy = np.random.SeedSequence([number % 2**64 for number in (seed, *numbers)])
    # Seeds of torch are signed.
    return torch.Generator().manual_seed(int(entropy.generate_state(1, np.uint64)[0] >> 1))


@checked
def spearman(one: np.ndarray, other: np.ndarray, least: int = 3) -> float:
    """Spearman rank correlation over rows known in both, ``[rows]``; ties share their mean rank.

    NaN with fewer than ``least`` such rows, or where either is constant.

    Examples
    --------
    >>> spearman(np.array([1.0, 2.0, 4.0, np.nan]), np.array([0.0, 5.0, 9.0, 1.0]))
    1.0
    """
    import pandas as pd

    check_shapes(1, one=one, other=other)
    both = pd.DataFrame({"one": one, "other": other})
    return float(both.corr(method="spearman", min_periods=least).to_numpy()[0, 1])


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
