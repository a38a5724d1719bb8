"""Localizers based on how units fire: entropy and mutual information, blind to the groups."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from memviz.scores import Scores
from memviz.study import Study, sides

from ._entropy import entropy
from ._pairs import pair_information


def diverse(study: Study, sign: int = 1) -> Scores:
    """Entropy of a unit's activations, high or with sign -1 low (Bansal et al. 2022).

    The paper is about networks, not units: it expects more entropy if single examples are
    memorized and less if a heuristic is. Units that never change are NaN.
    """
    examples = torch.cat(sides(study))
    bins = min(100, len(examples))
    scores = entropy(study, examples=examples, bins=bins, null_draws=0, progress=False)
    low, high = scores.reached
    values = np.where(low < high, sign * scores.values, np.nan)
    return Scores(
        f"{'high' if sign > 0 else 'low'} entropy",
        scores.measure,
        values,
        units=scores.units,
        source=scores.source,
    )


def lonely(study: Study) -> Scores:
    """Low mean mutual information with other units (Bansal et al. 2022).

    The paper, which is about networks, expects less of it if single examples are memorized. Units
    that never change are NaN.
    """
    pairs = pair_information(study, examples=torch.cat(sides(study)), null_draws=0, progress=False)
    mean = pairs.scores()
    return Scores(
        "low mutual information",
        mean.measure,
        np.where(pairs.constant, np.nan, -mean.values),
        units=mean.units,
        source=mean.source,
    )


LOCALIZERS: dict[str, Callable[[Study], Scores]] = {
    "high entropy": diverse,
    "low entropy": partial(diverse, sign=-1),
    "low mutual information": lonely,
}
BLIND = set(LOCALIZERS)
LOOKS_AT = dict.fromkeys(LOCALIZERS, "activations")
