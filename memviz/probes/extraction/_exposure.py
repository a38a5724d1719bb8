"""Exposure: by how many bits training has made a canary more likely than its alternatives."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from memviz.checks import checked


@checked
def exposure(canary_losses: np.ndarray, reference_losses: np.ndarray) -> np.ndarray:
    """Exposure of canaries in bits, by their rank among reference strings.

    ``log2 |R| - log2 rank``: the rank of the canary's loss among those of all strings of its
    format, or a sample of them, itself among them (Carlini et al. 2019). A canary that a model has
    never seen has log2 e ≈ 1.44 bits in the mean. Of equal losses, half are counted before it.

    Parameters
    ----------
    canary_losses : float ``[canaries]``
        Total negative log-likelihood of each, or any increasing function of it.
    reference_losses : float ``[references]``
        Of other strings of the same format, none of them a canary.

    Returns
    -------
    float64 ``[canaries]``
        At most ``log2(references + 1)``.

    Raises
    ------
    ValueError
        If there are no references, or a loss is NaN.

    Examples
    --------
    >>> exposure([0.5], np.arange(1, 1_000_000)).round(2)
    array([19.93])
    """
    canaries, references = _losses("canary", canary_losses), _losses("reference", reference_losses)
    ordered = np.sort(references)
    below = np.searchsorted(ordered, canaries, side="left")
    upto = np.searchsorted(ordered, canaries, side="right")
    rank = 1 + below + (upto - below) / 2
    return np.asarray(np.log2(len(references) + 1) - np.log2(rank))


@checked
def extrapolated_exposure(canary_losses: np.ndarray, reference_losses: np.ndarray) -> np.ndarray:
    """Exposure in bits where no reference string is likelier: by a fitted skew-normal distribution.

    ``-log2 F(loss)``, F fitted to the reference losses (Carlini et al. 2019). An estimate: beyond
    the smallest reference loss it rests on the shape of the fit.

    Parameters
    ----------
    canary_losses, reference_losses
        As for :func:`exposure`; at least 20 references.

    Returns
    -------
    float64 ``[canaries]``

    Raises
    ------
    ValueError
        If there are fewer than 20 references, they are all equal, or one is infinite.

    Examples
    --------
    >>> references = np.random.default_rng(0).normal(100, 10, 2_000)
    >>> bool(abs(extrapolated_exposure([100.0], references)[0] - 1) < 0.1)
    True
    """
    from scipy.stats import skewnorm  # type: ignore[import-untyped]

    canaries, references = _losses("canary", canary_losses), _losses("reference", reference_losses)
    if len(references) < 20 or np.ptp(references) == 0:
        raise ValueError(
            f"a fit needs at least 20 reference losses that are not all equal; got "
            f"{len(references)}."
        )
    if np.isinf(references).any():
        raise ValueError(
            "reference_losses holds an infinity, and a fit needs finite losses; leave out the "
            "strings that the model gives no probability."
        )
    shape, place, scale = skewnorm.fit(references)
    return np.asarray(-skewnorm.logcdf(canaries, shape, place, scale) / math.log(2))


def _losses(what: str, given: Any) -> np.ndarray:
    losses = np.atleast_1d(np.asarray(given, dtype=np.float64))
    if losses.ndim != 1 or not len(losses) or np.isnan(losses).any():
        raise ValueError(
            f"{what}_losses has shape {losses.shape}"
            f"{' and holds NaN' if np.isnan(losses).any() else ''}; give one loss per string, none "
            "of them NaN."
        )
    return losses
