"""How well scores of examples find what was planted: AUROC, beside the null of a permuted truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from memviz.scores import Scores
from memviz.statistics import spearman
from memviz.study import Study

from ._table import example_table

if TYPE_CHECKING:
    import pandas as pd

_DRAWS = 500  # of the bootstrap and of the permuted truth
_COLUMNS = ("auroc", "low", "high", "null low", "null high")


def agreement(
    study: Study,
    scores: Sequence[Scores],
    planted: Tensor | None = None,
    *,
    reference: str | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """How well each score tells planted examples from the others of the training set.

    AUROC: the chance that a planted example scores higher than another one, ties counted as half;
    1 if every planted example is above every other, .5 if the score says nothing.

    Parameters
    ----------
    study : Study
    scores : sequence of Scores
    planted : bool ``[n]`` or int64, optional
        Of the study's examples; those with a wrong label unless given.
    reference : str, optional
        Name of a score; each score's Spearman correlation with it is put beside.
    seed : int

    Returns
    -------
    pandas.DataFrame
        One row a score, by descending AUROC: ``auroc``; ``low`` and ``high``, 95 % of 500 bootstrap
        draws of the examples; ``null low`` and ``null high``, 95 % of 500 permutations of the
        truth; ``examples``, the number with a value; and with a reference ``rank correlation`` and
        ``clean rank correlation`` (that on the examples that are not planted).

    Raises
    ------
    ValueError
        If the planted examples are not known, or the reference is none of the scores.
    """
    import pandas as pd

    truth = _planted(study, planted)
    if reference is not None and reference not in {one.name for one in scores}:
        known = ", ".join(repr(one.name) for one in scores)
        raise ValueError(f"reference {reference!r} is not among the scores; there are {known}.")
    table = example_table(study, scores)
    wrong = truth[torch.tensor(table.index)].numpy()
    rows = {}
    for one in scores:
        values = table[one.name].to_numpy(float)
        rows[one.name] = _auroc_row(values, wrong, np.random.default_rng(seed))
        if reference is not None:
            other = table[reference].to_numpy(float)
            rows[one.name]["rank correlation"] = spearman(values, other)
            rows[one.name]["clean rank correlation"] = spearman(values[~wrong], other[~wrong])
    return pd.DataFrame.from_dict(rows, orient="index").sort_values("auroc", ascending=False)


def auroc(values: np.ndarray, planted: np.ndarray) -> float:
    """Chance that a planted row has a higher value than another, ties half; NaN rows left out.

    Examples
    --------
    >>> auroc(np.array([3.0, 1.0, 1.0, 0.0]), np.array([True, True, False, False]))
    0.875
    """
    known = ~np.isnan(values)
    once = np.ones((1, int(known.sum())))
    return float(_weighted(values[known], np.asarray(planted, bool)[known], once)[0])


def _weighted(values: np.ndarray, planted: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUROC with each row counted as often as its weight says, ``[draws]`` for ``[draws, n]``."""
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


def _auroc_row(values: np.ndarray, wrong: np.ndarray, rng: np.random.Generator) -> dict[str, float]:
    known = ~np.isnan(values)
    values, wrong = values[known], wrong[known]
    if wrong.all() or not wrong.any():
        return dict.fromkeys(_COLUMNS, float("nan")) | {"examples": len(wrong)}
    n = len(values)
    drawn = _weighted(values, wrong, rng.multinomial(n, np.full(n, 1 / n), size=_DRAWS))
    once = np.ones((1, n))
    null = [_weighted(values, rng.permutation(wrong), once)[0] for _ in range(_DRAWS)]
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    null_low, null_high = np.percentile(null, [2.5, 97.5])
    found = (auroc(values, wrong), low, high, null_low, null_high)
    return dict(zip(_COLUMNS, map(float, found), strict=True)) | {"examples": n}


def _planted(study: Study, planted: Tensor | None) -> Tensor:
    if planted is None:
        if study.true_labels is None:
            raise ValueError(
                "the study has no true_labels, so nobody knows which labels are wrong; name the "
                "planted examples."
            )
        return study.true_labels != study.labels
    given = torch.as_tensor(planted)
    if given.dtype == torch.bool and given.shape == (len(study),):
        return given
    mask = torch.zeros(len(study), dtype=torch.bool)
    if given.dtype == torch.bool or given.is_floating_point():
        raise ValueError(
            f"planted is {given.dtype} of shape {list(given.shape)}; give bool [{len(study)}] or "
            "indices of the study."
        )
    mask[given] = True
    return mask
