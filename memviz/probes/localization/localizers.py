"""A localizer: how often a unit is among those that flip a memorized example."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from memviz.engine.record import layers as layers_of
from memviz.engine.sweep import default_units
from memviz.probes.localization.critical import critical_units
from memviz.scores import Scores
from memviz.study import Study, sides

_SEARCHED = 8  # examples of a group whose critical units are searched for


def critical_share(study: Study, per_group: int = _SEARCHED, cap: int = 32) -> Scores:
    """Share of memorized examples that a unit is critical for, minus the share of clean ones.

    The first-order search of Maini et al. (2023) on a few examples of each group, with zero
    ablation and without noise.
    """
    memorized, clean = sides(study, per_group)
    critical = critical_units(
        study,
        torch.cat([memorized, clean]),
        how="zero",
        cap=cap,
        reference=64,
        copies=0,
        random_draws=0,
        progress=False,
    )
    units = tuple(default_units(layers_of(study)))
    rows = {unit: row for row, unit in enumerate(units)}
    counted = np.zeros((2, len(units)))
    for example, taken in enumerate(critical.units):
        counted[int(example >= len(memorized)), [rows[unit] for unit in taken]] += 1
    return Scores(
        name="critical units",
        measure=f"share of {len(memorized)} memorized − share of {len(clean)} clean examples",
        values=counted[0] / len(memorized) - counted[1] / len(clean),
        units=units,
        source="after Maini et al. 2023 (arXiv:2307.09542), greedy search for critical units",
    )


LOCALIZERS: dict[str, Callable[[Study], Scores]] = {"critical units": critical_share}
LOOKS_AT = {"critical units": "gradients"}
