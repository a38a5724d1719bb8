"""Déjà vu: what two models' neighbours predict for the same pairs, overall and pair by pair."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from memviz.scores import Null, Scores
from memviz.statistics import evenly, first_of, share_of_first, sign_test

from ._gaps import gaps, gaps_of_means, summary
from ._objects import Predictions, first_neighbours, predict
from ._sorts import MEASURES, Sort, sort_values

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SOURCE = "Jayaraman et al. 2024 (arXiv:2402.02103)"
_NULL_PAIRS = 200  # held-out pairs in the null of each score


@dataclass(frozen=True, eq=False)
class DejaVu:
    """Result of the two-model test on a set of image-caption pairs.

    Attributes
    ----------
    target, reference : Predictions
        Of the same pairs, by the model trained on them and by one that was not.
    objects : bool ``[n, objects]``
    public_objects : bool ``[m, objects]``
    ids : array ``[n]``
        Your names of the pairs.
    names : tuple of two str
        Names of target and reference.
    null : DejaVu or None
        The same of held-out pairs, which neither model was trained on.
    """

    target: Predictions
    reference: Predictions
    objects: Tensor
    public_objects: Tensor
    ids: np.ndarray
    names: tuple[str, str] = ("target", "reference")
    null: DejaVu | None = None

    def __len__(self) -> int:
        return len(self.objects)

    @property
    def scored(self) -> Tensor:
        """Pairs whose image has an object, int64; recall is defined for these alone."""
        return (self.target.own > 0).nonzero()[:, 0]

    @cached_property
    def _gaps(self) -> Tensor:
        kept, sides = self.scored, self._sides
        return gaps(*(s.precision[kept] for s in sides), *(s.recall[kept] for s in sides))

    @property
    def ppg(self) -> float:
        """Population precision gap: share of pairs with better minus share with worse precision."""
        return float(self._gaps[0].mean())

    @property
    def prg(self) -> float:
        """Population recall gap: the same for recall."""
        return float(self._gaps[1].mean())

    @property
    def aucg(self) -> float:
        """Area between the curves ``Pr[recall >= t]``: the difference of the mean recalls."""
        return float(self._gaps[2].mean())

    def gaps_over(self, pairs: Tensor | None = None) -> tuple[float, float, float]:
        """PPG, PRG and AUCG of some pairs, bool ``[n]``, or of all; NaN if none is scored."""
        rows = self._gaps if pairs is None else self._gaps[:, pairs[self.scored]]
        return float(rows[0].mean()), float(rows[1].mean()), float(rows[2].mean())

    def summary(self, draws: int = 1000, seed: int = 0) -> pd.DataFrame:
        """PPG, PRG and AUCG with resampled intervals, the sign test's z, and the null."""
        frame = summary(self._gaps, None if self.null is None else self.null._gaps, draws, seed)
        frame.attrs = {"pairs": len(self.scored), "draws": draws, "seed": seed, "source": SOURCE}
        return frame

    def figures(self, draws: int = 1000, seed: int = 0) -> pd.DataFrame:
        """The former name of :meth:`summary`."""
        warnings.warn(
            "result.figures() is now result.summary(); a figure is a plot.",
            DeprecationWarning,
            stacklevel=2,
        )
        return self.summary(draws, seed)

    @property
    def frame(self) -> pd.DataFrame:
        """One row per pair: id, counts, precision, recall and F of both models, and sort measures.

        NaN if the image has no object.
        """
        import pandas as pd

        columns: dict[str, Any] = {"id": self.ids, "objects": self.target.own.numpy()}
        for name, side in zip(("target", "reference"), self._sides, strict=True):
            for part in ("predicted", "right", "precision", "recall", "f"):
                columns[f"{name}_{part}"] = getattr(side, part).numpy()
        columns |= {sort: self._by(sort) for sort in MEASURES}
        columns["min_dist"] = -columns["min_dist"]
        frame = pd.DataFrame(columns)
        frame.attrs = {"name": "déjà vu", "names": list(self.names), "source": SOURCE}
        return frame

    def scores(self, by: Sort = "max_pred_gap") -> Scores:
        """The measure that pairs are sorted by, as Scores; the null is of held-out pairs.

        ``min_dist`` is negated, so that the nearest pair scores highest. ``max_pred_gap`` is a
        count and favours crowded images; ``recall_gap`` does not.
        """
        values, null = self._by(by), None
        if self.null is not None:
            held_out = np.sort(self.null._by(by)[self.null.scored.numpy()])
            drawn = held_out[evenly(len(held_out), _NULL_PAIRS)]
            words = f"the same of {len(drawn)} held-out pairs"
            words += ", evenly over their order" if len(drawn) < len(held_out) else ""
            null = Null(words, np.broadcast_to(drawn[:, None], (len(drawn), len(self))))
        rows, source = np.arange(len(self)), f"{SOURCE}, the authors' code (score_fn)"
        if by == "recall_gap":
            source = f"{SOURCE}; not in the authors' code"
        return Scores(by, MEASURES[by], values, examples=rows, source=source, null=null)

    def order(self, by: Sort = "max_pred_gap") -> np.ndarray:
        """Rows of the pairs, the most memorized first; images without objects are left out.

        Of equal values the pair whose caption is nearer to a public image comes first.
        """
        values, rows = self._ranked(by), self.scored.numpy()
        near = self.target.neighbours.values[:, 0].numpy()
        near = -near if self.target.neighbours.measure == "euclidean" else near
        return np.asarray(rows[np.lexsort((-near[rows], -values[rows]))])

    def most_memorized(
        self, by: Sort = "max_pred_gap", fractions: Sequence[float] = (0.001, 0.01, 0.1, 1.0)
    ) -> pd.DataFrame:
        """Gaps of the mean precision, recall and F over the most memorized fraction of the pairs.

        A fraction refers to the scored pairs and is rounded down to at least one pair. Pairs of
        equal value that tie for the last places share them, so that their order does not matter.
        Sorting by a gap creates a gap, so the table also has those of the held-out pairs, sorted
        the same way.
        """
        import pandas as pd

        rows = [self._first(by, fraction) for fraction in fractions]
        frame = pd.DataFrame(rows)
        if self.null is not None:
            null = self.null.most_memorized(by, fractions)
            for name in ("precision_gap", "recall_gap", "f_gap"):
                frame[f"null_{name}"] = null[name]
        frame.attrs = {"sorted by": by, "source": SOURCE}
        return frame

    def at(self, k: int | None = None, top: int | None = None) -> DejaVu:
        """The same test with fewer neighbours or another ``top``, without searching again.

        Parameters
        ----------
        k : int, optional
            At most as many as were searched; by default all of them.
        top : int, optional
            Objects to keep, those that most neighbours show; by default their union.

        Raises
        ------
        ValueError
            If fewer than k neighbours were searched.
        """
        sides = [
            replace(
                predict(
                    first_neighbours(side.neighbours, k), self.objects, self.public_objects, top
                ),
                distance=side.distance,
            )
            for side in self._sides
        ]
        null = None if self.null is None else self.null.at(k, top)
        return replace(self, target=sides[0], reference=sides[1], null=null)

    def curve(
        self, ks: Sequence[int] = (1, 5, 10), tops: Sequence[int | None] = (None, 1, 5, 10)
    ) -> pd.DataFrame:
        """PPG, PRG, AUCG, their null and the mean recalls for each ``k`` and each ``top``.

        With many neighbours the union of their labels holds nearly everything: recall approaches 1
        and its gap 0.
        """
        import pandas as pd

        rows = []
        for top in tops:
            for result in (self.at(k, top) for k in ks):
                row = {"k": result.k, "labels": _labels(top), **result._values("")}
                row |= {} if result.null is None else result.null._values("null ")
                for name, side in zip(("target", "reference"), result._sides, strict=True):
                    row[f"{name} recall"] = float(side.recall.nanmean())
                rows.append(row)
        return pd.DataFrame(rows)

    @property
    def k(self) -> int:
        """Number of neighbours of each caption."""
        return int(self.target.neighbours.ids.shape[1])

    @property
    def swapped(self) -> DejaVu:
        """The test with the two models exchanged: PPG, PRG and AUCG change sign."""
        null = None if self.null is None else self.null.swapped
        names = (self.names[1], self.names[0])
        return replace(self, target=self.reference, reference=self.target, names=names, null=null)

    def plot(self) -> Figure:
        """The two curves ``Pr[recall >= t]``, and the gaps with their intervals and null."""
        from .figures import gaps as draw

        return draw(self)

    def __repr__(self) -> str:
        without = len(self) - len(self.scored)
        lines = [
            f"déjà vu of {len(self.scored):,} pairs, {self.names[0]} against {self.names[1]}: "
            f"{self.k} neighbours, {_labels(self.target.top)}"
        ]
        if without:
            lines.append(f"  {without:,} more pairs have images without objects and are not scored")
        null = None if self.null is None else self.null._values("")
        for row, (name, value) in enumerate(self._values("").items()):
            beside = "" if null is None else f"  null {null[name]:+.3f}"
            lines.append(
                f"  {name:<5}{value:+.3f}{beside}  z {sign_test(self._gaps[row].sign()):+.1f}"
            )
        for name, side in zip(self.names, self._sides, strict=True):
            precision, recall = float(side.precision.nanmean()), float(side.recall.nanmean())
            lines.append(f"  {name}: mean precision {precision:.3f}, recall {recall:.3f}")
        words = (
            f"{len(self.null.scored):,} held-out pairs"
            if self.null
            else "no held-out pairs were given"
        )
        return "\n".join([*lines, f"null: {words}", f"source: {SOURCE}"])

    def _values(self, words: str) -> dict[str, float]:
        return {f"{words}PPG": self.ppg, f"{words}PRG": self.prg, f"{words}AUCG": self.aucg}

    def _by(self, by: Sort) -> np.ndarray:
        return sort_values(self.target, self.reference, by)

    def _ranked(self, by: Sort) -> np.ndarray:
        """The measure, with differences that come from rounding taken out of gaps of shares."""
        return self._by(by) if by == "min_dist" else self._by(by).round(12)

    def _first(self, by: Sort, fraction: float) -> dict[str, float]:
        if not 0 < fraction <= 1:
            raise ValueError(f"fraction is {fraction}; give one above 0 and at most 1.")
        count = first_of(fraction, len(self.scored))
        weights = share_of_first(torch.from_numpy(self._ranked(by))[self.scored], count)
        target, reference = (
            torch.stack([side.precision, side.recall])[:, self.scored] for side in self._sides
        )
        precision_gap, recall_gap, f_gap = gaps_of_means(target, reference, weights)
        return {
            "fraction": fraction,
            "pairs": count,
            "precision_gap": precision_gap,
            "recall_gap": recall_gap,
            "f_gap": f_gap,
        }

    @property
    def _sides(self) -> tuple[Predictions, Predictions]:
        return self.target, self.reference


def _labels(top: int | None) -> str:
    return "all labels" if top is None else f"top {top} labels"
