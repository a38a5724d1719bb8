"""Localizers of how units fire: UnitMem, ClassMem, entropy and mutual information.

All but one are not told which examples are memorized.
"""

from __future__ import annotations

import numpy as np
import torch

from memviz.probes.encoders_classes import class_mem
from memviz.probes.encoders_units import unit_mem
from memviz.probes.information_entropy import entropy
from memviz.probes.information_pairs import pair_information
from memviz.scores import Scores
from memviz.study import Study, sides


def unit_memorization(study: Study) -> Scores:
    """UnitMem (Wang et al. 2024): which units fire for one example alone, whichever it is."""
    return unit_mem(study, examples=torch.cat(sides(study)), random_networks=0, progress=False)


def owned_memorization(study: Study) -> Scores:
    """UnitMem, units that a memorized example fires most before all others.

    The paper looks up the example that fires a unit most; putting it to use for a group is ours.
    """
    mine, rest = sides(study)
    found = unit_mem(study, examples=torch.cat([mine, rest]), random_networks=0, progress=False)
    assert found.owners is not None
    values = found.values - ~np.isin(found.owners, mine.numpy())
    name = "UnitMem of the group"
    return Scores(name, found.measure, values, units=found.units, source=found.source)


def class_memorization(study: Study) -> Scores:
    """ClassMem (Wang et al. 2024): which units fire for one class alone."""
    return class_mem(study, examples=torch.cat(sides(study)), shuffles=0, progress=False)


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
