"""Counterfactual memorization: what models that saw a passage do better than those that did not."""

from __future__ import annotations

from typing import Any

import numpy as np

from memviz.checks import checked


@checked
def counterfactual_memorization(accuracies: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Mean accuracy of models trained with a passage, minus that of models trained without it.

    ``mem(x) = E_{S∋x}[M(f_S, x)] - E_{S∌x}[M(f_S, x)]``, M the share of its tokens that a model
    predicts (Zhang et al. 2021).

    Parameters
    ----------
    accuracies : float ``[models, passages]``
    members : bool ``[models, passages]``
        Whether a model was trained on a passage.

    Returns
    -------
    float64 ``[passages]``
        NaN for a passage that all models have seen, or none.

    Raises
    ------
    ValueError
        If the shapes differ or ``members`` is not bool.

    Examples
    --------
    >>> members = [[True], [True], [False], [False]]
    >>> counterfactual_memorization([[1.0], [0.9], [0.2], [0.3]], members)
    array([0.7])
    """
    scores, seen = _checked(accuracies, members)
    return _difference(scores, seen)


@checked
def counterfactual_influence(
    accuracies: np.ndarray, members: np.ndarray, on: np.ndarray
) -> np.ndarray:
    """How much better models do on other passages if they were trained with a passage.

    ``infl(x → x') = E_{S∋x}[M(f_S, x')] - E_{S∌x}[M(f_S, x')]`` (Zhang et al. 2021).

    Parameters
    ----------
    accuracies, members
        As for :func:`counterfactual_memorization`; of ``accuracies`` only the shape counts.
    on : float ``[models, others]``
        Accuracies on the other passages, such as validation ones.

    Returns
    -------
    float64 ``[passages, others]``

    Examples
    --------
    >>> counterfactual_influence([[1.0], [0.0]], [[True], [False]], [[0.8], [0.3]]).round(2)
    array([[0.5]])
    """
    _, seen = _checked(accuracies, members)
    others = np.asarray(on, dtype=np.float64)
    if others.ndim != 2 or len(others) != len(seen):
        raise ValueError(
            f"on has shape {others.shape} for {len(seen)} models; give accuracies [models, others]."
        )
    return np.stack(
        [_difference(others, np.repeat(s[:, None], others.shape[1], 1)) for s in seen.T]
    )


def _checked(accuracies: Any, members: Any) -> tuple[np.ndarray, np.ndarray]:
    scores, seen = np.asarray(accuracies, dtype=np.float64), np.asarray(members)
    if scores.ndim != 2 or scores.shape != seen.shape or seen.dtype != np.bool_:
        raise ValueError(
            f"accuracies has shape {scores.shape} and members is {seen.dtype} of shape "
            f"{seen.shape}; give numbers and bool of the same shape, [models, passages]."
        )
    return scores, seen


def _difference(scores: np.ndarray, seen: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # 0 / 0 where all models have seen it, or none
        with_it = np.where(seen, scores, 0).sum(0) / seen.sum(0)
        without = np.where(seen, 0, scores).sum(0) / (~seen).sum(0)
    return np.asarray(with_it - without)
