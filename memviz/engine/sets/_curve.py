"""The ablation curve: accuracy of each group against the number of ablated units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from memviz.checks import Seed, checked
from memviz.engine.record import Intervention, Replay, intervention
from memviz.progress import slow
from memviz.scores import Scores
from memviz.study import Study

from ._outputs import SetOutputs
from ._readout import check_draws, others_left, random_reading, random_units

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(eq=False)
class AblationCurve:
    """Accuracy of each group with the k highest units ablated together, for several k.

    Attributes
    ----------
    counts : list of int, ``K`` of them
        The values of k.
    groups : list of str, ``G`` of them
    chosen : float ``[K, G]``
        Accuracy with the k highest units ablated.
    random : float ``[draws, K, G]``
        Accuracy with the same number of random units per layer ablated: the null; NaN where these
        layers have no other units to draw.
    name : str
        Name of the ranking.
    """

    counts: list[int]
    groups: list[str]
    chosen: np.ndarray
    random: np.ndarray
    name: str

    @property
    def random_mean(self) -> np.ndarray:
        """Mean over the draws, ``[K, G]``; ValueError without draws."""
        return np.asarray(self._draws.mean(0))

    @property
    def random_low(self) -> np.ndarray:
        """2.5th percentile over the draws, ``[K, G]``; ValueError without draws."""
        return np.asarray(np.percentile(self._draws, 2.5, axis=0))

    @property
    def random_high(self) -> np.ndarray:
        """97.5th percentile over the draws, ``[K, G]``; ValueError without draws."""
        return np.asarray(np.percentile(self._draws, 97.5, axis=0))

    @property
    def _draws(self) -> np.ndarray:
        if len(self.random) == 0:
            raise ValueError("there is no null: random_draws was 0; draw at least 1.")
        return self.random

    @property
    def frame(self) -> pd.DataFrame:
        """A table with one row per count and group; without draws, no null columns."""
        import pandas as pd

        shape = (len(self.counts), len(self.groups))
        columns = {
            "units": np.repeat(self.counts, shape[1]),
            "group": self.groups * shape[0],
            "accuracy": self.chosen.ravel(),
        }
        if len(self.random):
            columns["random_mean"] = self.random_mean.ravel()
            columns["random_low"] = self.random_low.ravel()
            columns["random_high"] = self.random_high.ravel()
        return pd.DataFrame(columns)

    def plot(self) -> Figure:
        """Accuracy of each group against the number of ablated units, with the null."""
        from memviz.plots.curve import ablation_curve

        return ablation_curve(self)

    def __repr__(self) -> str:
        null = "" if len(self.random) else ", no null (random_draws=0)"
        return f"ablation curve by {self.name}{null}\n{self.frame.round(3).to_string(index=False)}"


@checked
def ablation_curve(
    study: Study,
    ranking: Scores,
    counts: Sequence[int] = (0, 1, 2, 4, 8, 16),
    how: str | Intervention = "zero",
    *,
    random_draws: int = 20,
    seed: Seed = 0,
    progress: bool = True,
) -> AblationCurve:
    """Ablate more and more of the highest units of a ranking together.

    Parameters
    ----------
    study : Study
    ranking : Scores
        Over units; for example ``sweep(study).scores("memorized", "clean")``.
    counts : sequence of int
        How many units to ablate at each point.
    how : str or Intervention
    random_draws, seed : int
        For the null: draws of random units in the same layers at each point. Each draw is one
        random order of a layer's units, so the null at one count depends on no other count.
    progress : bool
        Show a progress bar once it takes longer than a second.

    Raises
    ------
    ValueError
        If a count is larger than the number of ranked units, or ``random_draws`` is below 1.

    Examples
    --------
    >>> import torch
    >>> from memviz.engine.sweep import sweep
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    >>> groups = {"memorized": range(2), "clean": range(2, 6)}
    >>> study = Study(model.eval(), torch.randn(6, 4), torch.zeros(6), groups)
    >>> ranking = sweep(study, progress=False).scores()
    >>> ablation_curve(study, ranking, [0, 2], random_draws=3).chosen.shape
    (2, 2)
    """
    check_draws(random_draws, 1)
    sets = [ranking.top(count, "units") for count in counts]
    replay, how = Replay(study, progress=progress), intervention(how)
    groups, outputs = list(study.groups), SetOutputs(replay, how)
    chosen, null = [], []
    for units in slow(sets, "curve", progress=progress):
        reading = random_reading(outputs, units)
        chosen.append([reading[name][0] for name in groups])
        draws = []
        for draw in range(random_draws):
            if units and not others_left(replay.layers, units):
                draws.append([float("nan")] * len(groups))
                continue
            others = random_units(replay.layers, units, seed + draw)
            reading = random_reading(outputs, others) if units else reading
            draws.append([reading[name][0] for name in groups])
        null.append(draws)
    random = np.array(null, float).reshape(len(counts), random_draws, len(groups))
    return AblationCurve(
        list(counts), groups, np.array(chosen), random.transpose(1, 0, 2), ranking.name
    )
