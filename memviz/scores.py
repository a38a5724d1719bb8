"""Scores: what every probe returns, a tidy table with its null."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from memviz.units import Unit, UnitSet

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Null:
    """The same measure where there is nothing to find.

    Attributes
    ----------
    words : str
        What was done to have nothing to find.
    values : float ``[draws, rows]``
        One row a draw, one column a row of the scores.
    """

    words: str
    values: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """Mean over the draws, ``[rows]``."""
        return np.asarray(self.values.mean(0))

    @property
    def interval(self) -> tuple[np.ndarray, np.ndarray]:
        """2.5th and 97.5th percentile over the draws, ``[rows]`` each."""
        low, high = np.percentile(self.values, [2.5, 97.5], axis=0)
        return low, high


@dataclass(frozen=True, eq=False)
class Scores:
    """A measure of units or of examples, one row each, with its null.

    Attributes
    ----------
    name : str
        For example ``"effect on memorized"``.
    measure : str
        What the value is measured in.
    values : float ``[rows]``
        NaN where the score is not known.
    units : tuple of Unit, or None
    examples : int ``[rows]``, or None
        The study's indices; exactly one of ``units`` and ``examples`` is given.
    exact : bool ``[rows]``
        False where the value is an estimate.
    higher : str
        What a higher value means.
    source : str
        Paper, section, equation.
    null : Null or None
        None only where the paper defines none.

    Examples
    --------
    >>> two = (Unit("fc", 0), Unit("fc", 1))
    >>> scores = Scores("demo", "logits", np.array([0.1, 0.9]), units=two)
    >>> scores.top(1)
    UnitSet.parse('fc:1')
    """

    name: str
    measure: str
    values: np.ndarray
    units: tuple[Unit, ...] | None = None
    examples: np.ndarray | None = None
    exact: np.ndarray | None = None
    higher: str = "more memorized"
    source: str = ""
    null: Null | None = None

    def __post_init__(self) -> None:
        if (self.units is None) == (self.examples is None):
            raise ValueError("Scores are over units or over examples; give exactly one of the two.")
        rows = len(self.units) if self.units is not None else len(self._examples)
        if self.values.shape != (rows,):
            raise ValueError(
                f"values has shape {self.values.shape} for {rows} rows; give one value a row."
            )

    def __len__(self) -> int:
        return len(self.values)

    @property
    def _examples(self) -> np.ndarray:
        assert self.examples is not None
        return self.examples

    @property
    def frame(self) -> pd.DataFrame:
        """A pandas table, one row a unit or example, the null's mean and interval beside."""
        import pandas as pd

        columns: dict[str, Any] = {}
        if self.units is not None:
            columns["layer"] = [unit.layer for unit in self.units]
            columns["unit"] = [unit.index for unit in self.units]
        else:
            columns["example"] = self._examples
        columns["value"] = self.values
        columns["exact"] = np.ones(len(self), bool) if self.exact is None else self.exact
        if self.null is not None:
            low, high = self.null.interval
            columns |= {"null_mean": self.null.mean, "null_low": low, "null_high": high}
        frame = pd.DataFrame(columns)
        frame.attrs = {"name": self.name, "measure": self.measure, "source": self.source}
        return frame

    def order(self) -> np.ndarray:
        """Rows from the highest value to the lowest, without unknown ones."""
        known = np.flatnonzero(~np.isnan(self.values))
        return known[np.argsort(-self.values[known], kind="stable")]

    def top(self, k: int) -> Any:
        """The k highest: a UnitSet, or the indices of examples.

        Where some rows are exact and others estimates, exact ones are taken first.

        Raises
        ------
        ValueError
            If k is negative or there are not so many rows.
        """
        rows = self.order()
        if not 0 <= k <= len(rows):
            raise ValueError(f"k is {k}; these scores have {len(rows)} rows to choose from.")
        if self.exact is not None:
            rows = rows[np.argsort(~self.exact[rows], kind="stable")]
        if self.units is not None:
            return UnitSet([self.units[row] for row in rows[:k]])
        return self._examples[rows[:k]]

    def plot(self, k: int = 40) -> Figure:
        """The k highest as bars, the null's interval beside them."""
        from memviz.plots.bars import bars

        rows = self.order()[:k]
        null = None
        if self.null is not None:
            low, high = self.null.interval
            null = (low[rows], self.null.mean[rows], high[rows])
        return bars(
            [str(self.units[row]) if self.units else str(self._examples[row]) for row in rows],
            self.values[rows],
            title=f"{self.name}: the {len(rows)} highest",
            measure=self.measure,
            along="" if self.units is not None else "example",
            exact=None if self.exact is None else self.exact[rows],
            null=null,
            null_words=self.null.words if self.null is not None else "",
        )

    def to_csv(self, path: str | Path) -> None:
        """Write ``frame`` as CSV."""
        self.frame.to_csv(path, index=False)

    def to_parquet(self, path: str | Path) -> None:
        """Write ``frame`` as Parquet, name, measure and source in its metadata."""
        self.frame.to_parquet(path, index=False)

    def __repr__(self) -> str:
        of = "units" if self.units is not None else "examples"
        lines = [f"{self.name} of {len(self):,} {of}, in {self.measure}; higher: {self.higher}"]
        lines += [f"  {label:<24} {value:>9.4f}  {note}" for label, value, note in self._best()]
        lines.append(f"null: {self.null.words if self.null is not None else 'none is defined'}")
        return "\n".join(lines + ([f"source: {self.source}"] if self.source else []))

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(label)}</td><td>{value:.4f}</td><td>{escape(note)}</td></tr>"
            for label, value, note in self._best()
        )
        null = self.null.words if self.null is not None else "none is defined"
        return (
            f"<p><b>{escape(self.name)}</b>, in {escape(self.measure)}; higher: "
            f"{escape(self.higher)}</p><table>{rows}</table>"
            f"<p>null: {escape(null)}<br>source: {escape(self.source)}</p>"
        )

    def _best(self, k: int = 8) -> list[tuple[str, float, str]]:
        rows = self.order()[:k]
        interval = self.null.interval if self.null is not None else None
        found = []
        for row in rows:
            label = str(self.units[row]) if self.units else f"example {self._examples[row]}"
            # Of one draw, or draws that agree, the interval is one value.
            ends = [f"{end[row]:.4f}" for end in interval] if interval else []
            note = f"null {' to '.join(dict.fromkeys(ends))}" if ends else ""
            if self.exact is not None and not self.exact[row]:
                note = f"estimate  {note}"
            found.append((label, float(self.values[row]), note))
        return found
