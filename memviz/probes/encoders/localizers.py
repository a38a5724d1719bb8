"""Localizers based on how units fire: UnitMem and ClassMem.

All but one are not told which examples are memorized.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from memviz.probes.encoders.units import class_mem, unit_mem
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


LOCALIZERS: dict[str, Callable[[Study], Scores]] = {
    "UnitMem of the group": owned_memorization,
    "UnitMem": unit_memorization,
    "ClassMem": class_memorization,
}
BLIND = {"UnitMem", "ClassMem"}
LOOKS_AT = dict.fromkeys(LOCALIZERS, "activations")
