"""What a histogram of scores would be if each token were recited by chance, at a constant rate."""

from __future__ import annotations

from math import comb
from typing import Annotated

import numpy as np

from memviz.checks import Between, checked


@checked
def constant_rate(rate: float, continuation: Annotated[int, Between(1, 1000)]) -> np.ndarray:
    """The chance of each score, 0 to ``continuation`` matches, at a constant rate per token.

    Independent tokens give a binomial distribution: a score of 1 has ``rate ** continuation``.
    The spike at 1 over this curve is what a constant rate cannot explain (Biderman et al. 2023,
    figure 2).

    Returns
    -------
    float64 ``[continuation + 1]``

    Raises
    ------
    ValueError
        If the rate is outside 0 to 1, or there is no token.

    Examples
    --------
    >>> constant_rate(0.9, 32)[-2:].round(3)
    array([0.122, 0.034])
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"rate is {rate!r}; give a probability from 0 to 1.")
    if continuation < 1:
        raise ValueError(f"continuation is {continuation!r}; give 1 token or more.")
    counts = range(continuation + 1)
    return np.array(
        [comb(continuation, k) * rate**k * (1 - rate) ** (continuation - k) for k in counts]
    )
