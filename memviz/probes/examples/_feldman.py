"""Feldman and Zhang's memorization and influence, from trainings with and without an example."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from memviz.checks import IndicesLike, Seed, as_indices, checked
from memviz.scores import Null, Scores
from memviz.statistics import spearman

if TYPE_CHECKING:
    import pandas as pd

SOURCE = "Feldman & Zhang 2020, subsampled estimator (arXiv:2008.03703)"
_BLOCK = 2**24  # entries of the influence matrix in memory at once
_SLACK = 1e-4  # above the rounding of an influence in single precision


@dataclass(frozen=True, eq=False, repr=False)
class Memorization(Scores):
    """Scores with the error and the numbers of trainings behind Feldman and Zhang's estimate.

    Attributes
    ----------
    standard_error : float ``[rows]``
    trainings_with, trainings_without : int ``[rows]``
        Number of trainings with and without the example.
    """

    standard_error: np.ndarray | None = None
    trainings_with: np.ndarray | None = None
    trainings_without: np.ndarray | None = None

    @property
    def frame(self) -> pd.DataFrame:
        """One row per example, with the standard error and the numbers of trainings."""
        frame = super().frame
        for name in ("standard_error", "trainings_with", "trainings_without"):
            frame[name] = getattr(self, name)
        return frame


def memorization(inside: Tensor, correct: Tensor) -> tuple[Tensor, Tensor]:
    """How much likelier an example is right when it was trained on, and the standard error.

    ``Pr[h(x)=y | trained on it] - Pr[h(x)=y | not]``, both as shares of the trainings. The standard
    error is that of two proportions with one success and one failure added to each (Agresti &
    Caffo 2000), so that it is not 0 where all trainings agree.

    Parameters
    ----------
    inside : bool ``[trainings, n]``
        Which examples each training included.
    correct : bool ``[trainings, n]``
        Which of them it predicted right afterwards.

    Returns
    -------
    values, standard_errors : float64 ``[n]``
        NaN for an example that every training included, or none.

    Raises
    ------
    ValueError
        If the tables are not bool, or not of the same trainings and examples.

    Examples
    --------
    >>> inside = torch.tensor([[1, 1], [1, 1], [0, 1], [0, 1]]).bool()
    >>> memorization(inside, torch.tensor([[1, 1], [1, 1], [0, 1], [1, 1]]).bool())[0]
    tensor([0.5000,    nan], dtype=torch.float64)
    """
    _check(inside, correct)
    if correct.shape != inside.shape:
        raise ValueError(
            f"inside is {list(inside.shape)} and correct {list(correct.shape)}; give the same "
            "trainings and examples."
        )
    counts, hits = _with_and_without(inside, correct)
    shares = hits / counts
    smoothed = (hits + 1) / (counts + 2)
    errors = (smoothed * (1 - smoothed) / (counts + 2)).sum(0).sqrt()
    undefined = (counts == 0).any(0)
    return (shares[0] - shares[1]).masked_fill(undefined, torch.nan), errors.masked_fill(
        undefined, torch.nan
    )


def influence(inside: Tensor, correct: Tensor) -> Tensor:
    """How much likelier each other example is right when one was trained on.

    Parameters
    ----------
    inside : bool ``[trainings, n]``
    correct : bool ``[trainings, m]``
        Of any other examples, usually test examples.

    Returns
    -------
    float32 ``[n, m]``
        ``[i, j]`` is the influence of example i on j; row i is NaN if every training included i, or
        none.

    Examples
    --------
    >>> inside = torch.tensor([[1, 0], [1, 1], [0, 0], [0, 1]]).bool()
    >>> influence(inside, torch.tensor([[1], [1], [0], [0]]).bool())
    tensor([[1.],
            [0.]])
    """
    _check(inside, correct)
    count_with = inside.sum(0, dtype=torch.float32)[:, None]
    count_without = len(inside) - count_with
    right = correct.float()
    # hits / with - (all hits - hits) / without, with a single matrix [n, m] in memory.
    influences = inside.float().T @ right
    influences.mul_(1 / count_with + 1 / count_without).sub_(right.sum(0) / count_without)
    return influences.masked_fill_((count_with == 0) | (count_without == 0), torch.nan)


def influential_pairs(
    inside: Tensor, correct: Tensor, threshold: float = 0.15
) -> tuple[Tensor, Tensor]:
    """All pairs whose influence reaches a threshold, without holding the whole matrix in memory.

    Shares are compared in double precision, so that an influence of exactly the threshold counts.

    Returns
    -------
    pairs : int64 ``[pairs, 2]``
        Columns of ``inside`` and of ``correct``, the largest influence first.
    values : float32 ``[pairs]``

    Raises
    ------
    ValueError
        If the threshold is NaN, or the tables are not bool or not of the same trainings.

    Examples
    --------
    >>> inside = torch.tensor([[1, 0], [1, 1], [0, 0], [0, 1]]).bool()
    >>> influential_pairs(inside, torch.tensor([[1], [1], [0], [0]]).bool())
    (tensor([[0, 0]]), tensor([1.]))
    """
    _check(inside, correct)
    if math.isnan(threshold):
        raise ValueError("threshold is nan; give a number from -1 to 1.")
    pairs, values = [], []
    step = max(1, _BLOCK // max(correct.shape[1], 1))
    for start in range(0, inside.shape[1], step):
        some = inside[:, start : start + step]
        block = influence(some, correct)
        near = (block >= threshold - _SLACK).nonzero()
        near = near[_influence_of_pairs(some, correct, near) >= threshold - 1e-12]
        values.append(block[near[:, 0], near[:, 1]])
        pairs.append(near + torch.tensor([start, 0]))
    value, order = torch.cat(values).sort(descending=True, stable=True)
    return torch.cat(pairs)[order], value


def _influence_of_pairs(inside: Tensor, correct: Tensor, pairs: Tensor) -> Tensor:
    """Influence of pairs of columns, float64 ``[pairs]``, a few at a time."""
    parts = []
    for some in pairs.split(max(1, _BLOCK // len(inside))):
        trained, right = inside[:, some[:, 0]], correct[:, some[:, 1]]
        counts, hits = _with_and_without(trained, right)
        shares = hits / counts
        parts.append(shares[0] - shares[1])
    return torch.cat(parts)


@checked
def split_half(
    inside: Tensor,
    correct: Tensor,
    examples: IndicesLike | None = None,
    *,
    draws: int = 20,
    seed: Seed = 0,
) -> np.ndarray:
    """Spearman's rank correlation of the memorization between two random halves of the trainings.

    Parameters
    ----------
    inside, correct : bool ``[trainings, n]``
    examples : bool ``[n]`` or int64, optional
        Columns to compare, for example the clean ones; all by default.
    draws : int
        Number of random splits.

    Returns
    -------
    float64 ``[draws]``
    """
    _check(inside, correct)
    if len(inside) < 4:
        raise ValueError(f"{len(inside)} trainings are too few to halve; give at least 4.")
    generator = torch.Generator().manual_seed(seed)
    n = inside.shape[1]
    columns = torch.arange(n) if examples is None else as_indices("examples", examples, n)
    correlations = []
    for _ in range(draws):
        halves = torch.randperm(len(inside), generator=generator).chunk(2)
        first, second = (memorization(inside[half], correct[half])[0][columns] for half in halves)
        correlations.append(spearman(first.numpy(), second.numpy()))
    return np.array(correlations)


def permuted_null(inside: Tensor, correct: Tensor, draws: int, seed: int) -> Null:
    """The null of memorization: the subsets are permuted among the trainings."""
    generator = torch.Generator().manual_seed(seed)
    rows = [
        memorization(inside[torch.randperm(len(inside), generator=generator)], correct)[0].numpy()
        for _ in range(draws)
    ]
    return Null("the trainings' subsets permuted among the trainings", np.stack(rows))


def _with_and_without(inside: Tensor, correct: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers of trainings and of hits, float64 ``[2, n]`` each: with the example, without."""
    both = torch.stack([inside, ~inside])
    return both.sum(1).double(), (both & correct).sum(1).double()


def _check(inside: Tensor, correct: Tensor) -> None:
    for name, table in (("inside", inside), ("correct", correct)):
        if table.dim() != 2 or table.dtype != torch.bool:
            raise ValueError(
                f"{name} is {table.dtype} of shape {list(table.shape)}; give bool "
                "[trainings, examples]."
            )
    if len(inside) != len(correct):
        raise ValueError(
            f"inside has {len(inside)} trainings and correct {len(correct)}; give the same "
            "trainings."
        )
