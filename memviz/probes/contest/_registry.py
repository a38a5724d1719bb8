"""Localizers: functions that say which units memorize a study's memorized group, by name.

A localizer takes a :class:`~memviz.study.Study` and gives :class:`~memviz.scores.Scores` over its
units, the highest for those that hold the first group (the memorized examples) more than the second
(the clean ones). All of them look at the same examples, at most 120 of each of the two groups.
``LOCALIZERS`` holds those that come with memviz; any function of the same kind can stand beside
them in :func:`memviz.probes.contest.contest`. Those in ``BLIND`` are not told the groups.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from memviz.probes.attribution.localizers import CAPTUM
from memviz.probes.contest.localizers import (
    activation,
    exact_ablation,
    gradient_estimate,
    greedy_search,
    unit_tracin,
)
from memviz.probes.encoders.localizers import (
    class_memorization,
    owned_memorization,
    unit_memorization,
)
from memviz.probes.information.localizers import diverse, lonely
from memviz.probes.localization.localizers import critical_share
from memviz.scores import Scores
from memviz.study import Study

Localizer = Callable[[Study], Scores]

LOCALIZERS: dict[str, Localizer] = {
    "exact ablation": exact_ablation,
    "greedy search": greedy_search,
    "estimate": gradient_estimate,
    **CAPTUM,
    "TracIn of a unit": unit_tracin,
    "critical units": critical_share,
    "activation": activation,
    "UnitMem of the group": owned_memorization,
    "UnitMem": unit_memorization,
    "ClassMem": class_memorization,
    "high entropy": diverse,
    "low entropy": partial(diverse, sign=-1),
    "low mutual information": lonely,
}
BLIND = frozenset({"UnitMem", "ClassMem", "high entropy", "low entropy", "low mutual information"})
