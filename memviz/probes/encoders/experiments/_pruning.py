"""Pruning: accuracy without the units of highest, of lowest, or of random UnitMem."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

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
        units, mean accuracy, and its least and largest over the draws (of which only ``random`` has
        several).
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
            raise ValueError(f"there is no row for {choice!r} at share {share}.")
        return float(rows["accuracy"].iloc[0])

    def plot(self) -> Figure:
        """Accuracy against the share, one line per choice."""
        from ..figures import pruning

        return pruning(self)

    def __repr__(self) -> str:
        table = self.frame.round(4).to_string(index=False)
        return f"accuracy with units pruned by {self.name}\n{table}\nsource: {SOURCE}, section 5"


def prune(
    study: Study,
    scores: Scores,
    accuracy: Callable[[nn.Module], float],
    shares: tuple[float, ...] = (0.1, 0.2),
    *,
    per_layer: bool = True,
    draws: int = 5,
    seed: int = 0,
    progress: bool = True,
) -> Pruning:
    """Accuracy without the units of highest score, of lowest score, and without random ones.

    Units are ablated to zero, and the model is restored afterwards. Units without a score (dead
    ones) are never chosen, since ablating them changes nothing.

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
        Random sets of units: as many per layer as ``top`` takes there, or anywhere.
    seed : int

    Raises
    ------
    ValueError
        If the scores are over examples, or a share is not above 0 and at most 1.

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

    rows: list[dict[str, object]] = [_row(0.0, "none", UnitSet(), [accuracy(study.model)])]
    for share in slow(shares, "pruning", progress=progress):
        generator = np.random.default_rng(seed)
        choices = {
            "top": [_chosen(scores, scores.values, share, per_layer)],
            "random": [
                _chosen(scores, np.where(np.isnan(scores.values), np.nan, drawn), share, per_layer)
                for drawn in generator.random((draws, len(scores)))
            ],
            "low": [_chosen(scores, -scores.values, share, per_layer)],
        }
        for name, sets in choices.items():
            accuracies = []
            for units in sets:
                with ablate(study, units) as model:
                    accuracies.append(accuracy(model))
            rows.append(_row(share, name, sets[0], accuracies))
    return Pruning(scores.name, pd.DataFrame(rows))


def _chosen(scores: Scores, values: np.ndarray, share: float, per_layer: bool) -> UnitSet:
    """The units with the largest values: a share of each layer, or of all units."""
    assert scores.units is not None
    groups: dict[str, list[int]] = {}
    for row, unit in enumerate(scores.units):
        groups.setdefault(unit.layer if per_layer else "", []).append(row)
    chosen = []
    for members in groups.values():
        known = [row for row in members if not np.isnan(values[row])]
        known.sort(key=lambda row: -values[row])
        chosen += [scores.units[row] for row in known[: max(1, round(share * len(members)))]]
    return UnitSet(chosen)


def _row(share: float, choice: str, units: UnitSet, accuracies: list[float]) -> dict[str, object]:
    return {
        "share": share,
        "choice": choice,
        "units": len(units),
        "accuracy": float(np.mean(accuracies)),
        "least": min(accuracies),
        "largest": max(accuracies),
    }
