"""Localizers based on how units fire: UnitMem and ClassMem.

Only one of them is told which examples are memorized.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from memviz.probes.encoders.units import class_mem, unit_mem
from memviz.scores import Scores
from memviz.study import Study, sides


def unit_memorization(study: Study) -> Scores:
    """UnitMem (Wang et al. 2024): how far a unit fires for one example only, whichever it is."""
    return unit_mem(study, examples=torch.cat(sides(study)), random_networks=0, progress=False)


def owned_memorization(study: Study) -> Scores:
    """UnitMem, with the units fired most by a memorized example ahead of all others.

    The paper finds the example that fires a unit most; using it to rank units for a group is ours.
    """
    memorized, clean = sides(study)
    examples = torch.cat([memorized, clean])
    scores = unit_mem(study, examples=examples, random_networks=0, progress=False)
    assert scores.owners is not None
    # UnitMem is at most 1: taking 1 off puts a unit behind all that a memorized example owns.
    values = scores.values - ~np.isin(scores.owners, memorized.numpy())
    name = "UnitMem of the group"
    return Scores(name, scores.measure, values, units=scores.units, source=scores.source)


def class_memorization(study: Study) -> Scores:
    """ClassMem (Wang et al. 2024): how far a unit fires for one class only."""
    return class_mem(study, examples=torch.cat(sides(study)), shuffles=0, progress=False)


LOCALIZERS: dict[str, Callable[[Study], Scores]] = {
    "UnitMem of the group": owned_memorization,
    "UnitMem": unit_memorization,
    "ClassMem": class_memorization,
}
BLIND = {"UnitMem", "ClassMem"}
LOOKS_AT = dict.fromkeys(LOCALIZERS, "activations")
