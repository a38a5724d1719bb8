"""The null of scores: the same measure where there is nothing to find."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ._given import as_floats


@dataclass(frozen=True)
class Null:
    """The same measure where there is nothing to find.

    Attributes
    ----------
    words : str
        How the null was made, in a few words.
    values : float ``[draws, rows]``
        One row per draw, one column per row of the scores.

    Examples
    --------
    >>> Null("shuffled labels", np.array([[0.0, 1.0], [1.0, 1.0]])).mean
    array([0.5, 1. ])
    """

    words: str
    values: np.ndarray

    def __post_init__(self) -> None:
        values = as_floats("the values of the null", self.values, "[draws, rows]")
        if values.ndim != 2:
            raise ValueError(
                f"the values of the null have shape {values.shape}; give one row per draw and one "
                "column per row of the scores."
            )
        object.__setattr__(self, "values", values)

    @property
    def mean(self) -> np.ndarray:
        """Mean over the draws, ``[rows]``."""
        return np.asarray(self.values.mean(0))

    @property
    def interval(self) -> tuple[np.ndarray, np.ndarray]:
        """2.5th and 97.5th percentiles over the draws, ``[rows]`` each."""
        low, high = np.percentile(self.values, [2.5, 97.5], axis=0)
        return low, high
