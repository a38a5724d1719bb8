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
    """High entropy, or with sign -1 low entropy, of a unit's activations (Bansal et al. 2022).

    The paper speaks of networks, not of units: more entropy, it says, where single examples are
    memorized, less where a heuristic is. Units that are the same on all examples are left unknown.
    """
    examples = torch.cat(sides(study))
    bins = min(100, len(examples))
    found = entropy(study, examples=examples, bins=bins, null_draws=0, progress=False)
    low, high = found.reached
    values = np.where(low < high, sign * found.values, np.nan)
    return Scores(
        f"{'high' if sign > 0 else 'low'} entropy",
        found.measure,
        values,
        units=found.units,
        source=found.source,
    )


def lonely(study: Study) -> Scores:
    """Low mean mutual information with other units (Bansal et al. 2022).

    Less where single examples are memorized, the paper says of networks. Units that are the same on
    all examples are left unknown.
    """
    found = pair_information(study, examples=torch.cat(sides(study)), null_draws=0, progress=False)
    mean = found.scores()
    return Scores(
        "low mutual information",
        mean.measure,
        np.where(found.constant, np.nan, -mean.values),
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
