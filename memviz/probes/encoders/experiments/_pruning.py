"""Pruning: accuracy without the units of highest, of lowest, or of random UnitMem."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from memviz.checks import Seed, checked, quoted
from memviz.engine.sets import ablate
from memviz.progress import slow
from memviz.scores import Scores
from memviz.study import Study
from memviz.units import UnitSet

from .._scores import SOURCE

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Pruning:
    """Accuracy with some units ablated.

    Attributes
    ----------
    name : str
        Name of the scores that the units were chosen by.
    frame : DataFrame
        One row per share and choice (``none``, ``top``, ``random``, ``low``): number of ablated
        units, mean accuracy, and its least and largest over the draws (of which ``top`` and ``low``
        have several only where units tie).
    """

    name: str
    frame: pd.DataFrame

    def accuracy(self, choice: str, share: float | None = None) -> float:
        """Mean accuracy of a choice at a share, by default the first.

        Raises
        ------
        ValueError
            If the table has no such row.
        """
        rows = self.frame[self.frame["choice"] == choice]
        if share is not None:
            rows = rows[np.isclose(rows["share"], share)]
        if rows.empty:
            raise ValueError(f"there is no row for {quoted(choice)} at share {share}.")
        return float(rows["accuracy"].iloc[0])

    def plot(self) -> Figure:
        """Accuracy against the share, one line per choice."""
        from ..figures import pruning

        return pruning(self)

    def __repr__(self) -> str:
        table = self.frame.round(4).to_string(index=False)
        return f"accuracy with units pruned by {self.name}\n{table}\nsource: {SOURCE}, section 5"


@checked
def prune(
    study: Study,
    scores: Scores,
    accuracy: Callable[[nn.Module], float],
    shares: tuple[float, ...] = (0.1, 0.2),
    *,
    per_layer: bool = True,
    draws: int = 5,
    seed: Seed = 0,
    progress: bool = True,
) -> Pruning:
    """Accuracy without the units of highest score, of lowest score, and without random ones.

    Units are ablated to zero, and the model is restored afterwards. Units without a score (dead
    ones) are never chosen, since ablating them changes nothing. Where units tie at the cut, the
    seed draws among them ``draws`` times and the accuracies are averaged; a unit that counts as
    high in a draw does not count as low in it before all others. The order of the scores does not
    matter.

    Parameters
    ----------
    study : Study
    scores : Scores
        Over units, for example UnitMem.
    accuracy : callable
        ``model -> float``, for example :class:`memviz.probes.encoders.ProbeAccuracy`.
    shares : tuple of float
        Shares of the units to ablate, above 0 and at most 1.
    per_layer : bool
        Take the share of each layer, or of all units together.
    draws : int
        Random sets of units, as many per layer as ``top`` takes there, or anywhere; and draws
        among tied units.
    seed : int

    Raises
    ------
    ValueError
        If the scores are over examples, a share is not above 0 and at most 1, or ``draws`` is below
        1.

    Examples
    --------
    >>> import torch
    >>> from memviz.probes.encoders.units import unit_mem
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    >>> study = Study(model, torch.randn(6, 4), torch.zeros(6), {"test": range(6)})
    >>> pruning = prune(study, unit_mem(study), lambda model: 0.5, (0.5,))
    >>> pruning.frame["choice"].tolist()
    ['none', 'top', 'random', 'low']
    """
    if scores.units is None:
        raise ValueError("these scores are over examples; give scores over units.")
    if not shares or not all(0 < share <= 1 for share in shares):
        raise ValueError(f"shares is {shares}; each must be above 0 and at most 1.")
    import pandas as pd

    if draws < 1:
        raise ValueError(f"draws is {draws}; give at least 1.")
    rows: list[dict[str, object]] = [_row(0.0, "none", UnitSet(), [accuracy(study.model)])]
    ties, random = (_drawn(scores, draws, source) for source in ([seed, 1], [seed]))
    random = np.where(np.isnan(scores.values), np.nan, random)
    for share in slow(shares, "pruning", progress=progress):
        # Top and low go through the same order from its two ends: no unit is at both.
        choices = {
            "top": _chosen(scores, scores.values, ties, share, per_layer),
            "random": [
                units for drawn in random
                for units in _chosen(scores, drawn, ties, share, per_layer)
            ],
            "low": _chosen(scores, -scores.values, -ties, share, per_layer),
        }  # fmt: skip
        for name, sets in choices.items():
            accuracies = []
            for units in sets:
                with ablate(study, units) as model:
                    accuracies.append(accuracy(model))
            rows.append(_row(share, name, sets[0], accuracies))
    return Pruning(scores.name, pd.DataFrame(rows))


def _drawn(scores: Scores, draws: int, source: list[int]) -> np.ndarray:
    """Random numbers ``[draws, rows]`` that stay with their unit, however the rows are ordered."""
    assert scores.units is not None
    names = [(unit.layer, unit.index) for unit in scores.units]
    places = sorted(range(len(names)), key=names.__getitem__)
    drawn = np.empty((draws, len(names)))
    drawn[:, places] = np.random.default_rng(source).random(drawn.shape)
    return drawn


def _chosen(
    scores: Scores, values: np.ndarray, ties: np.ndarray, share: float, per_layer: bool
) -> list[UnitSet]:
    """The units with the largest values, of each layer or of all; a set per draw if some tie."""
    assert scores.units is not None
    groups: dict[str, list[int]] = {}
    for row, unit in enumerate(scores.units):
        groups.setdefault(unit.layer if per_layer else "", []).append(row)
    sets, tied = [], False
    for draw in ties:
        chosen: list[int] = []
        for members in groups.values():
            known = [row for row in members if not np.isnan(values[row])]
            known.sort(key=lambda row: (-values[row], draw[row]))
            count = max(1, round(share * len(members)))
            tied |= any(values[row] == values[known[count - 1]] for row in known[count:])
            chosen += known[:count]
        sets.append(UnitSet([scores.units[row] for row in sorted(chosen)]))
    return sets if tied else sets[:1]


def _row(share: float, choice: str, units: UnitSet, accuracies: list[float]) -> dict[str, object]:
    return {
        "share": share,
        "choice": choice,
        "units": len(units),
        "accuracy": float(np.mean(accuracies)),
        "least": min(accuracies),
        "largest": max(accuracies),
    }
