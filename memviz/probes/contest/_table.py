"""What a contest returns: the units each localizer named on each truth, and how well it did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from memviz.checks import Count, checked, quoted
from memviz.units import Unit, UnitSet

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

PLANTED, RANDOM = "planted units", "random"
MEASURES = (
    "recall",
    "memorized drop",
    "clean drop",
    "test drop",
    "net drop",
    "agreement",
    "seconds",
)


@dataclass(frozen=True, eq=False)
class Entry:
    """One localizer on one truth.

    Attributes
    ----------
    truth, seed, localizer
        Names.
    ranking : tuple of Unit
        All units it scored, the highest first; ties in random order.
    planted : UnitSet
        Empty if no truth is known.
    k, units : int
        How many units it names, and out of how many.
    drops : dict of role to float
        Drop of accuracy under ablation of the named units, on ``"memorized"`` (the study's first
        group), ``"clean"`` (the second) and ``"test"`` (the group of that name, if there is one).
    agreement : float
        Spearman's rank correlation with the exact ablation of each unit alone.
    seconds : float
        Processor time; wall-clock time if the model is on a GPU.
    """

    truth: str
    seed: int
    localizer: str
    ranking: tuple[Unit, ...]
    planted: UnitSet
    k: int
    units: int
    drops: dict[str, float]
    agreement: float = np.nan
    seconds: float = np.nan

    @property
    def named(self) -> UnitSet:
        """The k units ranked highest."""
        return UnitSet(self.ranking[: self.k])

    @property
    def recall(self) -> float:
        """Share of the planted units among the k highest; the expected share for random units."""
        if not self.planted:
            return np.nan
        return float(self.curve[min(self.k, self.units)])

    @property
    def curve(self) -> np.ndarray:
        """Recall with 0, 1, … units named, ``[units + 1]``; NaN if no truth is known."""
        if not self.planted:
            return np.full(self.units + 1, np.nan)
        if self.localizer == RANDOM:
            return np.arange(self.units + 1) / self.units
        hits = np.zeros(self.units)
        hits[: len(self.ranking)] = [unit in self.planted for unit in self.ranking]
        return np.concatenate([[0.0], hits.cumsum()]) / len(self.planted)

    @property
    def values(self) -> dict[str, float]:
        """Every measure, by name."""
        drops = {f"{role} drop": self.drops.get(role, np.nan) for role in ("memorized", "clean")}
        return {
            "recall": self.recall,
            **drops,
            "test drop": self.drops.get("test", np.nan),
            "net drop": drops["memorized drop"] - drops["clean drop"],
            "agreement": self.agreement,
            "seconds": self.seconds,
        }


@checked
def random_interval(units: Count, planted: Count, k: Count) -> tuple[float, float]:
    """2.5th and 97.5th percentile of the recall of k units named at random.

    The number of planted units among them follows a hypergeometric distribution.

    Examples
    --------
    >>> random_interval(units=100, planted=10, k=10)
    (0.0, 0.3)
    """
    from math import comb

    if max(planted, k) > units:
        raise ValueError(
            f"planted is {planted} and k {k}, of {units} units; give no more than there are."
        )
    counts = np.arange(min(k, planted) + 1)
    chances = [
        comb(planted, hits) * comb(units - planted, k - hits) / comb(units, k) for hits in counts
    ]
    cumulative = np.cumsum(chances)
    # Rounding leaves the last cumulative probability just below 1.
    low, high = (int(np.searchsorted(cumulative, share - 1e-12)) for share in (0.025, 0.975))
    return low / planted, high / planted


@dataclass(frozen=True, eq=False)
class Contest:
    """Localizers judged on truths.

    Attributes
    ----------
    entries : tuple of Entry
        Truth by truth: first the planted units (where they are known) and random units, then the
        localizers.
    refused : dict of (truth, localizer) to str
        The message of each localizer that does not fit a truth.

    Notes
    -----
    The recall of random units is its expectation, ``k / units``; their drops are means over draws.
    """

    entries: tuple[Entry, ...]
    refused: dict[tuple[str, str], str] = field(default_factory=dict)

    @property
    def truths(self) -> list[str]:
        """Names of the truths, in order."""
        return list(dict.fromkeys(entry.truth for entry in self.entries))

    @property
    def localizers(self) -> list[str]:
        """Names of the localizers, in order; planted and random units come first."""
        return list(dict.fromkeys(entry.localizer for entry in self.entries))

    @property
    def seeds(self) -> list[int]:
        """Seeds of the truths."""
        return sorted({entry.seed for entry in self.entries})

    @property
    def frame(self) -> pd.DataFrame:
        """One row per truth, seed and localizer, with the 95 % interval of random recall."""
        import pandas as pd

        rows = []
        for entry in self.entries:
            low, high = np.nan, np.nan
            if entry.planted:
                low, high = random_interval(entry.units, len(entry.planted), entry.k)
            rows.append(
                {
                    "truth": entry.truth,
                    "seed": entry.seed,
                    "localizer": entry.localizer,
                    "k": entry.k,
                    "units": entry.units,
                    **entry.values,
                    "random recall": entry.k / entry.units if entry.planted else np.nan,
                    "random low": low,
                    "random high": high,
                    "named": str(entry.named) if entry.localizer != RANDOM else "",
                }
            )
        return pd.DataFrame(rows)

    def table(
        self, what: str = "recall", by: Literal["mean", "min", "max"] = "mean"
    ) -> pd.DataFrame:
        """One measure as a table of localizers × truths, aggregated over the seeds.

        Parameters
        ----------
        what : str
            One of ``MEASURES``.
        by : {"mean", "min", "max"}
            How to aggregate over the seeds.

        Raises
        ------
        ValueError
            If the measure or the aggregate is unknown.
        """
        if what not in MEASURES or by not in ("mean", "min", "max"):
            raise ValueError(
                f"there is no table of {quoted(what)} by {quoted(by)}; choose a measure from "
                f"{', '.join(MEASURES)}, and by from mean, min, max."
            )
        frame = self.frame.pivot_table(
            index="localizer", columns="truth", values=what, aggfunc=by, dropna=False
        )
        return frame.reindex(index=self.localizers, columns=self.truths).rename_axis(
            index=None, columns=None
        )

    def text(self, what: str = "recall") -> str:
        """The table as text: the mean over the seeds, and the range from lowest to highest."""
        mean = self.table(what)
        low, high = (self.table(what, by).to_numpy(float) for by in ("min", "max"))
        cells, spread = mean.astype(object), len(self.seeds) > 1
        for (row, column), value in np.ndenumerate(mean.to_numpy(float)):
            ends = f" ({low[row, column]:.2f} to {high[row, column]:.2f})" if spread else ""
            cells.iat[row, column] = "–" if np.isnan(value) else f"{value:.2f}{ends}"
        return str(cells.to_string())

    @property
    def references(self) -> tuple[str, str]:
        """Names of the two rows that are no localizers: planted units and random ones."""
        return PLANTED, RANDOM

    def plot(self) -> Figure:
        """Recall, net drop and seconds of each localizer on each truth."""
        from .figures import contest

        return contest(self)

    def plot_curves(self, localizers: Sequence[str] | None = None) -> Figure:
        """Recall against the number of units named, a panel per truth.

        Parameters
        ----------
        localizers : sequence of str, optional
            By default exact ablation and the five with the highest mean recall.
        """
        from .figures import recall_curves

        return recall_curves(self, localizers)

    def __repr__(self) -> str:
        lines = [
            f"{len(self.localizers)} localizers on {len(self.truths)} truths, {len(self.seeds)} "
            "seeds; recall of the planted units:",
            self.text(),
        ]
        lines += [
            f"{localizer} does not fit {truth}: {reason}"
            for (truth, localizer), reason in self.refused.items()
        ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        from html import escape

        return f"<pre>{escape(repr(self))}</pre>"
