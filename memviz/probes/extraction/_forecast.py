"""Forecasts: which passages will a large model memorize, judged by a small or an early one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from memviz.checks import Positive, checked, described, listed, quoted
from memviz.statistics import wilson

from ._scores import Extraction

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Forecast:
    """A predictor's memorized set S as a forecast of a target's memorized set L.

    Attributes
    ----------
    both, only_predicted, only_memorized, neither : int
        Passages by S and L: true and false positives, false and true negatives.
    """

    both: int
    only_predicted: int
    only_memorized: int
    neither: int

    @property
    def n(self) -> int:
        """Passages."""
        return self.both + self.only_predicted + self.only_memorized + self.neither

    @property
    def predicted(self) -> int:
        """Passages in S."""
        return self.both + self.only_predicted

    @property
    def memorized(self) -> int:
        """Passages in L."""
        return self.both + self.only_memorized

    @property
    def precision(self) -> float:
        """Share of S that is in L; NaN if the predictor memorized nothing."""
        return self.both / self.predicted if self.predicted else float("nan")

    @property
    def recall(self) -> float:
        """Share of L that is in S; NaN if the target memorized nothing."""
        return self.both / self.memorized if self.memorized else float("nan")

    @property
    def precision_interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval."""
        return _interval(self.both, self.predicted)

    @property
    def recall_interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval."""
        return _interval(self.both, self.memorized)

    @property
    def precision_by_chance(self) -> float:
        """What a set independent of L would have: its share of all passages."""
        return self.memorized / self.n

    @property
    def recall_by_chance(self) -> float:
        """What a set as large as S and independent of L would have."""
        return self.predicted / self.n

    @property
    def phi(self) -> float:
        """Pearson's correlation of the two indicators; NaN if one is constant."""
        s, m, n = self.predicted, self.memorized, self.n
        spread = float(s * (n - s) * m * (n - m)) ** 0.5
        return (self.both * n - s * m) / spread if spread else float("nan")

    @property
    def reason(self) -> str:
        """Why precision or recall is undefined; empty if neither is."""
        if not self.predicted:
            return "the predictor memorized no passage, so its precision is undefined"
        if not self.memorized:
            return "the target memorized no passage, so recall is undefined"
        return ""

    def confusion(self) -> pd.DataFrame:
        """Rows: what the predictor says; columns: what the target does."""
        import pandas as pd

        return pd.DataFrame(
            [[self.both, self.only_predicted], [self.only_memorized, self.neither]],
            index=pd.Index(["predicted", "not predicted"], name="predictor"),
            columns=pd.Index(["memorized", "not memorized"], name="target"),
        )

    def __repr__(self) -> str:
        return (
            f"Forecast(precision {self.precision:.3f}, recall {self.recall:.3f} of "
            f"{self.memorized:,} memorized, {self.n:,} passages)"
        )


@checked
def forecast(predictor: Any, target: Any) -> Forecast:
    """Judge a predictor's memorized set against a target's, passage by passage.

    Precision is ``|S ∩ L| / |S|`` and recall ``|S ∩ L| / |L|`` (Biderman et al. 2023, section 3).
    Missing a passage that the large model will memorize is the costly error, so recall is what
    matters.

    Parameters
    ----------
    predictor, target : Extraction or bool ``[n]``
        Of the same passages in the same order; for checkpoints, only of passages that each of them
        has seen.

    Returns
    -------
    Forecast

    Raises
    ------
    ValueError
        If the passages are not the same.

    Examples
    --------
    >>> forecast([True, False, False], [True, True, False])
    Forecast(precision 1.000, recall 0.500 of 2 memorized, 3 passages)
    """
    _same_passages({"predictor": predictor, "target": target})
    s, m = indicator("predictor", predictor), indicator("target", target)
    return Forecast(
        int((s & m).sum()), int((s & ~m).sum()), int((~s & m).sum()), int((~s & ~m).sum())
    )


@checked
def forecasts(
    ladder: Mapping[str, Any], target: str, compute: Mapping[str, float] | None = None
) -> pd.DataFrame:
    """Every model of a ladder as a forecast of one of them, a row per predictor.

    Parameters
    ----------
    ladder : mapping of name to Extraction or bool ``[n]``
        Sizes, checkpoints, or both, of the same passages.
    target : str
        The model to forecast.
    compute : mapping of name to float, optional
        Training compute of each model, as :func:`training_compute` gives it, for the equi-compute
        plot.

    Returns
    -------
    pandas.DataFrame
        Precision and recall with 95 % intervals and chance levels, φ, the sets' sizes, and the
        reason where one is undefined.

    Raises
    ------
    ValueError
        If the target is not in the ladder or alone in it, a model has no ``compute``, or the
        passages differ.

    Examples
    --------
    >>> ladder = {"small": [True, False, False], "large": [True, True, False]}
    >>> forecasts(ladder, "large")[["predictor", "precision", "recall"]].values.tolist()
    [['small', 1.0, 0.5]]
    """
    import pandas as pd

    _check_target(ladder, target, compute)
    _same_passages(ladder)
    rows = []
    for name, predictor in ladder.items():
        if name == target:
            continue
        judged = forecast(predictor, ladder[target])
        low_p, high_p = judged.precision_interval
        low_r, high_r = judged.recall_interval
        rows.append(
            {
                "predictor": name,
                "compute": float("nan") if compute is None else float(compute[name]),
                **{"precision": judged.precision, "precision_low": low_p, "precision_high": high_p},
                **{"recall": judged.recall, "recall_low": low_r, "recall_high": high_r},
                "precision_by_chance": judged.precision_by_chance,
                "recall_by_chance": judged.recall_by_chance,
                "phi": judged.phi,
                **{"predicted": judged.predicted, "memorized": judged.memorized, "n": judged.n},
                "reason": judged.reason,
            }
        )
    return pd.DataFrame(rows)


@checked
def correlations(ladder: Mapping[str, Any]) -> pd.DataFrame:
    """Pearson's correlation of the memorized indicators, models × models.

    A model that memorized all passages or none has no correlation: NaN.

    Examples
    --------
    >>> correlations({"a": [True, False], "b": [True, False]}).values.tolist()
    [[1.0, 1.0], [1.0, 1.0]]
    """
    import pandas as pd

    _same_passages(ladder)
    names = list(ladder)
    table = [[forecast(ladder[row], ladder[column]).phi for column in names] for row in names]
    return pd.DataFrame(table, index=names, columns=names)


@checked
def tracks(ladder: Mapping[str, Any]) -> pd.DataFrame:
    """What becomes of memorized passages from each checkpoint to the next, a row per step.

    Parameters
    ----------
    ladder : mapping of name to Extraction or bool ``[n]``
        Checkpoints in the order of training.

    Returns
    -------
    pandas.DataFrame
        Passages ``kept``, ``forgotten`` and ``learned`` between two checkpoints, and how many of
        the forgotten are memorized again by the last one.

    Examples
    --------
    >>> ladder = {"1": [True, True, False], "2": [True, False, True], "3": [True, True, True]}
    >>> steps = tracks(ladder)
    >>> steps[["kept", "forgotten", "learned", "regained"]].values.tolist()
    [[1, 1, 1, 1], [2, 0, 1, 0]]
    """
    import pandas as pd

    _same_passages(ladder)
    if len(ladder) < 2:
        raise ValueError("tracks need at least two checkpoints, in the order of training.")
    sets = {name: indicator(name, given) for name, given in ladder.items()}
    names, last, rows = list(sets), list(sets.values())[-1], []
    for before, after in pairwise(names):
        forgotten = sets[before] & ~sets[after]
        rows.append(
            {
                **{"from": before, "to": after},
                "kept": int((sets[before] & sets[after]).sum()),
                "forgotten": int(forgotten.sum()),
                "learned": int((~sets[before] & sets[after]).sum()),
                "regained": int((forgotten & last).sum()),
            }
        )
    return pd.DataFrame(rows)


@checked
def training_compute(parameters: Positive, tokens: Positive) -> float:
    """Floating-point operations of a training, ``6 · parameters · tokens``.

    Examples
    --------
    >>> f"{training_compute(12e9, 300e9):.2g}"
    '2.2e+22'
    """
    return 6.0 * parameters * tokens


def _interval(part: int, whole: int) -> tuple[float, float]:
    return wilson(part, whole) if whole else (float("nan"), float("nan"))


def indicator(name: str, given: Any) -> np.ndarray:
    if isinstance(given, Extraction):
        return given.memorized
    try:
        indicator = np.asarray(given)
    except (TypeError, ValueError, RuntimeError):  # rows of different lengths, other devices
        indicator = np.asarray(None)
    if indicator.dtype != np.bool_ or indicator.ndim != 1 or not len(indicator):
        raise ValueError(
            f"{quoted(name)} is {described(indicator)}; give what extract() returns, "
            "or a bool for each passage: whether it is memorized."
        )
    return indicator


def _same_passages(ladder: Mapping[str, Any]) -> None:
    if not ladder:
        raise ValueError("the ladder is empty; give models by name: {'70M': extraction, ...}.")
    (first, reference), *others = ladder.items()
    for name, given in others:
        if isinstance(reference, Extraction) and isinstance(given, Extraction):
            same = reference.ids == given.ids and reference.prompt == given.prompt
            if not same or not np.array_equal(reference.passages, given.passages):
                raise ValueError(
                    f"{name!r} was asked for other passages than {first!r}; forecasts compare "
                    "models on the same passages, in the same order and cut at the same place."
                )
        elif len(indicator(name, given)) != len(indicator(first, reference)):
            raise ValueError(
                f"{name!r} has {len(indicator(name, given))} passages and {first!r} "
                f"{len(indicator(first, reference))}; they must be the same passages."
            )


def _check_target(
    ladder: Mapping[str, Any], target: str, compute: Mapping[str, float] | None
) -> None:
    if target not in ladder:
        raise ValueError(
            f"there is no model {quoted(target)} in the ladder; choose from {listed(ladder)}."
        )
    if len(ladder) < 2:
        raise ValueError(
            f"the ladder holds only its target {quoted(target)}; give a smaller or an earlier "
            "model, too."
        )
    missing = [name for name in ladder if compute is not None and name not in compute]
    if missing:
        raise ValueError(
            f"compute says nothing of {listed(missing)}; give a number for each model of the "
            "ladder, as training_compute(parameters, tokens) does."
        )
