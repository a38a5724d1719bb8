"""Déjà vu: the gaps between two models on a set of pairs, with intervals and curves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from memviz.checks import Seed, check_shapes, checked
from memviz.statistics import resampled, sign_test

if TYPE_CHECKING:
    import pandas as pd

GAPS = ("PPG", "PRG", "AUCG")


@checked
def gaps(
    target_precision: Tensor,
    reference_precision: Tensor,
    target_recall: Tensor,
    reference_recall: Tensor,
) -> Tensor:
    """What each pair contributes to PPG, PRG and AUCG, which are the means of the rows.

    PPG and PRG are the share of pairs on which the target is better, minus the share on which the
    reference is better; a tie, to nine decimals, counts for neither. AUCG is the area between the
    two curves ``Pr[recall >= t]``, which is exactly the difference of the mean recalls; the
    authors' code sums it from two histograms and is off by up to a thousandth.

    Parameters
    ----------
    target_precision, reference_precision, target_recall, reference_recall : float ``[n]``

    Returns
    -------
    float64 ``[3, n]``

    Examples
    --------
    >>> target, reference = torch.tensor([1, 0.5, 0.5, 0]), torch.tensor([0.5, 0.5, 0, 0.5])
    >>> gaps(target, reference, target, reference).mean(1)
    tensor([0.2500, 0.2500, 0.1250], dtype=torch.float64)
    """
    check_shapes(
        1,
        target_precision=target_precision,
        reference_precision=reference_precision,
        target_recall=target_recall,
        reference_recall=reference_recall,
    )
    recall = target_recall.double() - reference_recall.double()
    precision = target_precision.double() - reference_precision.double()
    better = [difference.round(decimals=9).sign() for difference in (precision, recall)]
    return torch.stack([*better, recall.masked_fill(better[1] == 0, 0)])


@checked
def summary(rows: Tensor, null: Tensor | None, draws: int, seed: Seed) -> pd.DataFrame:
    """PPG, PRG and AUCG with interval and sign test: of the pairs, of the null, and beyond it.

    Parameters
    ----------
    rows : float64 ``[3, n]``
        What :func:`gaps` gives.
    null : float64 ``[3, h]``, or None
        The same of held-out pairs.
    draws, seed : int
        Number of resamples and their seed; intervals run from the 2.5th to the 97.5th percentile.

    Returns
    -------
    pandas.DataFrame
        Index PPG, PRG, AUCG. ``z`` is the sign test (for AUCG, of the recalls); ``beyond`` is the
        value minus the null's, each resampled independently.

    Raises
    ------
    ValueError
        If ``draws`` is below 2.
    """
    import pandas as pd

    if draws < 2:
        raise ValueError(f"draws is {draws}; an interval needs at least 2, preferably 1000.")
    drawn = resampled(rows, draws, seed)
    columns = {"value": rows.mean(1).numpy(), **_spread("", drawn)}
    columns["z"] = np.array([sign_test(row.sign()) for row in rows])
    if null is not None:
        null_drawn = resampled(null, draws, seed + 1)
        columns |= {"null": null.mean(1).numpy(), **_spread("null ", null_drawn)}
        columns |= {"beyond": columns["value"] - columns["null"]}
        columns |= _spread("beyond ", drawn - null_drawn)
    return pd.DataFrame(columns, index=pd.Index(GAPS, name="gap"))


@checked
def survival(recall: Tensor) -> tuple[Tensor, Tensor]:
    """The step curve ``Pr[recall >= t]``: distinct levels above 0, and the share reaching each.

    Each share holds from the previous level (0 for the first) up to its own; beyond the last level
    it is 0. The area under the curve is the mean recall.

    Returns
    -------
    levels, shares : float64 ``[levels]``

    Examples
    --------
    >>> survival(torch.tensor([1.0, 0.5, 0.5, 0.0]))
    (tensor([0.5000, 1.0000], dtype=torch.float64), tensor([0.7500, 0.2500], dtype=torch.float64))
    """
    check_shapes(1, recall=recall)
    levels, counts = recall.double().unique(return_counts=True)
    reach = counts.flip(0).cumsum(0).flip(0).double() / len(recall)
    return levels[levels > 0], reach[levels > 0]


@checked
def gaps_of_means(
    target: Tensor, reference: Tensor, weights: Tensor | None = None
) -> tuple[float, float, float]:
    """Gap of the mean precision, of the mean recall, and of the F-score of these two means.

    As in the authors' code this is F of the means, with 1e-5 in its denominator, not the mean of F.

    Parameters
    ----------
    target, reference : float64 ``[2, n]``
        Precision and recall of the same pairs.
    weights : float64 ``[n]``, optional
        How much each pair counts; by default all count alike.

    Examples
    --------
    >>> [round(gap, 4) for gap in gaps_of_means(torch.ones(2, 3), torch.zeros(2, 3))]
    [1.0, 1.0, 1.0]
    """
    check_shapes(2, target=target, reference=reference)
    weights = torch.ones(target.shape[1]) if weights is None else weights
    check_shapes(1, first_row=target[0], weights=weights)
    share = weights.double() / weights.double().sum()
    of_target, of_reference = (side.double() @ share for side in (target, reference))
    f = [2 * p * r / (p + r + 1e-5) for p, r in (of_target.tolist(), of_reference.tolist())]
    precision, recall = (of_target - of_reference).tolist()
    return precision, recall, f[0] - f[1]


def _spread(prefix: str, drawn: np.ndarray) -> dict[str, np.ndarray]:
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    return {f"{prefix}low": low, f"{prefix}high": high, f"{prefix}std": drawn.std(0, ddof=1)}
