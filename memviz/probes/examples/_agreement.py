"""How well scores find planted examples: AUROC, with a permuted truth as the null."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from memviz.checks import Seed, as_numbers, check_shapes, checked, quoted
from memviz.scores import Scores
from memviz.statistics import spearman
from memviz.study import Study

from ._table import example_table, wrong_labels

if TYPE_CHECKING:
    import pandas as pd

_DRAWS = 500  # bootstrap samples, and permutations of the truth
_COLUMNS = ("auroc", "low", "high", "null low", "null high")


@checked
def agreement(
    study: Study,
    scores: Sequence[Scores],
    planted: Tensor | None = None,
    *,
    reference: str | None = None,
    seed: Seed = 0,
) -> pd.DataFrame:
    """How well each score separates planted examples from the others of the training set.

    AUROC is the probability that a planted example scores higher than another one, with ties
    counted as half: 1 if every planted example is above every other, .5 if the score says nothing.

    Parameters
    ----------
    study : Study
    scores : sequence of Scores
    planted : bool ``[n]`` or int64, optional
        The study's planted examples; by default those with a wrong label.
    reference : str, optional
        Name of a score; the table then has every score's Spearman correlation with it.
    seed : int

    Returns
    -------
    pandas.DataFrame
        One row per score, by descending AUROC: ``auroc``; ``low`` and ``high``, 95 % of 500
        bootstrap samples of the examples; ``null low`` and ``null high``, 95 % of 500 permutations
        of the truth; ``examples``, the number with a value; and with a reference
        ``rank correlation`` and ``clean rank correlation`` (without the planted examples).

    Raises
    ------
    ValueError
        If the planted examples are unknown, or the reference is not among the scores.
    """
    import pandas as pd

    truth = _planted(study, planted)
    if reference is not None and reference not in {score.name for score in scores}:
        known = ", ".join(repr(score.name) for score in scores)
        raise ValueError(
            f"reference {quoted(reference)} is not among the scores; choose from {known}."
        )
    table = example_table(study, scores)
    is_planted = truth[torch.tensor(table.index)].numpy()
    rows = {}
    for name in (score.name for score in scores):
        values = table[name].to_numpy(float)
        rows[name] = _auroc_row(values, is_planted, np.random.default_rng(seed))
        if reference is not None:
            other = table[reference].to_numpy(float)
            rows[name]["rank correlation"] = spearman(values, other)
            rows[name]["clean rank correlation"] = spearman(values[~is_planted], other[~is_planted])
    return pd.DataFrame.from_dict(rows, orient="index").sort_values("auroc", ascending=False)


@checked
def auroc(values: np.ndarray, planted: np.ndarray) -> float:
    """Probability that a planted row has a higher value than another; ties half, NaN left out.

    Examples
    --------
    >>> auroc(np.array([3.0, 1.0, 1.0, 0.0]), np.array([True, True, False, False]))
    0.875
    """
    check_shapes(1, values=values, planted=planted)
    known = ~np.isnan(values)
    once = np.ones((1, int(known.sum())))
    return float(_weighted(values[known], np.asarray(planted, bool)[known], once)[0])


def _weighted(values: np.ndarray, planted: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUROC with each row counted by its weight, ``[draws]`` for weights ``[draws, n]``."""
    if not len(values):
        return np.full(len(weights), np.nan)
    order = np.argsort(values, kind="stable")
    ranked = values[order]
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] > ranked[:-1]]))
    weights, planted = weights[:, order], planted[order]
    high = np.add.reduceat(weights * planted, starts, axis=1)
    low = np.add.reduceat(weights * ~planted, starts, axis=1)
    won = (high * (low.cumsum(1) - low / 2)).sum(1)
    pairs = high.sum(1) * low.sum(1)
    undefined = np.full(len(won), np.nan)
    return np.asarray(np.divide(won, pairs, out=undefined, where=pairs > 0))


def _auroc_row(
    values: np.ndarray, planted: np.ndarray, rng: np.random.Generator
) -> dict[str, float]:
    known = ~np.isnan(values)
    values, planted = values[known], planted[known]
    if planted.all() or not planted.any():
        return dict.fromkeys(_COLUMNS, float("nan")) | {"examples": len(planted)}
    n = len(values)
    drawn = _weighted(values, planted, rng.multinomial(n, np.full(n, 1 / n), size=_DRAWS))
    once = np.ones((1, n))
    null = [_weighted(values, rng.permutation(planted), once)[0] for _ in range(_DRAWS)]
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    null_low, null_high = np.percentile(null, [2.5, 97.5])
    columns = (auroc(values, planted), low, high, null_low, null_high)
    return dict(zip(_COLUMNS, map(float, columns), strict=True)) | {"examples": n}


def _planted(study: Study, planted: Tensor | None) -> Tensor:
    if planted is None:
        wrong = wrong_labels(study)
        if wrong is None:
            raise ValueError(
                "the study has no true_labels, so it is unknown which labels are wrong; give the "
                "planted examples."
            )
        return wrong
    given = as_numbers("planted", planted, "give a bool mask or indices").cpu()
    if given.dtype == torch.bool and given.shape == (len(study),):
        return given
    mask = torch.zeros(len(study), dtype=torch.bool)
    if given.dtype == torch.bool or given.is_floating_point():
        raise ValueError(
            f"planted is {given.dtype} of shape {list(given.shape)}; give bool [{len(study)}] or "
            "the study's indices."
        )
    outside = given[(given < 0) | (given >= len(study))]
    if len(outside):
        raise ValueError(
            f"planted names {int(outside[0])}; this study has {len(study):,} examples, 0 to "
            f"{len(study) - 1}."
        )
    mask[given.long()] = True
    return mask
