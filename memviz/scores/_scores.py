"""A measure of units or of examples, one row each, with its null."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from memviz.checks import check_place, quoted
from memviz.tensor_files import atomic_write
from memviz.units import Unit, UnitSet

from ._given import as_flags, as_floats, as_indices, as_units, natural, whole
from ._null import Null

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Scores:
    """A measure of units or of examples, one row each, with its null.

    Values, examples and ``exact`` may be given as lists, arrays, tensors or columns of a table,
    units as a list of Units or texts, and examples as a bool mask over the study.

    Attributes
    ----------
    name : str
        For example ``"effect on memorized"``.
    measure : str
        The unit of measurement.
    values : float ``[rows]``
        NaN where the score is unknown.
    units : tuple of Unit, optional
    examples : int ``[rows]``, optional
        Indices into the study; give either ``units`` or ``examples``.
    exact : bool ``[rows]``, optional
        False where the value is an estimate; all exact by default.
    higher : str
        What a higher value means.
    source : str
        Paper, section, equation.
    null : Null, optional
        None only where the paper defines none.

    Raises
    ------
    ValueError
        If both or neither of ``units`` and ``examples`` are given, lengths differ, or values are
        no numbers and examples no indices.

    Examples
    --------
    >>> units = (Unit("fc", 0), Unit("fc", 1))
    >>> scores = Scores("demo", "logits", np.array([0.1, 0.9]), units=units)
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
            given = "neither" if self.units is None else "both"
            raise ValueError(
                f"Scores are over units or over examples, and {given} were given; "
                "give exactly one of them."
            )
        replace = partial(object.__setattr__, self)
        if self.units is not None:
            replace("units", as_units(self.units))
        else:
            replace("examples", as_indices(self.examples))
        rows = len(self.units) if self.units is not None else len(self._examples)
        replace("values", as_floats("values", self.values, f"one per row, [{rows}]"))
        if self.values.shape != (rows,):
            raise ValueError(
                f"values has shape {self.values.shape} for {rows} rows; give one value per row."
            )
        if self.exact is not None:
            replace("exact", as_flags(self.exact, rows))
        if self.null is not None and not isinstance(self.null, Null):
            raise TypeError(
                f"the null is {quoted(self.null)}; give mv.Null(words, values), or leave it out."
            )
        if self.null is not None and self.null.values.shape[1] != rows:
            raise ValueError(
                f"the null has {self.null.values.shape[1]} columns for {rows} rows; give one "
                "column per row."
            )

    def __len__(self) -> int:
        return len(self.values)

    @property
    def _examples(self) -> np.ndarray:
        assert self.examples is not None
        return self.examples

    @property
    def frame(self) -> pd.DataFrame:
        """A pandas table, one row per unit or example, with the null's mean and interval."""
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
        """Rows from the highest value to the lowest, int ``[known rows]``; NaN is left out.

        Equal values are ordered by example, or by layer name (``"conv2"`` before ``"conv10"``) and
        unit, so that the order in which rows were given makes no difference.
        """
        known = np.flatnonzero(~np.isnan(self.values))
        return known[np.lexsort((self._places()[known], -self.values[known]))]

    def _places(self) -> np.ndarray:
        """The place of each row among all, by example or by layer and unit, int ``[rows]``."""
        if self.units is None:
            return self._examples
        names = sorted({unit.layer for unit in self.units}, key=natural)
        place = {name: rank for rank, name in enumerate(names)}
        indices = np.array([unit.index for unit in self.units], np.int64)
        layers = np.array([place[unit.layer] for unit in self.units], np.int64)
        places = np.empty(len(self), np.int64)
        places[np.lexsort((indices, layers))] = np.arange(len(self))
        return places

    @overload
    def top(self, k: int, of: Literal["units"]) -> UnitSet: ...

    @overload
    def top(self, k: int, of: Literal["examples"]) -> np.ndarray: ...

    @overload
    def top(self, k: int, of: None = None) -> Any: ...

    def top(self, k: int, of: Literal["units", "examples"] | None = None) -> UnitSet | np.ndarray:
        """The k highest: a UnitSet, or the indices of examples, int64 ``[k]``.

        Exact rows come before estimates, whatever their values; equal values are ordered as in
        :meth:`order`.

        Parameters
        ----------
        k : int
        of : {"units", "examples"}, optional
            What the scores must be over; it also tells a type checker what comes back.

        Raises
        ------
        ValueError
            If k is no whole number, negative or larger than the number of known rows, or the
            scores are over something else than ``of`` says.
        """
        over = "units" if self.units is not None else "examples"
        if of not in (None, over):
            raise ValueError(
                f"these scores are over {over}, not over {quoted(of)}; leave `of` out."
            )
        rows, k = self.order(), whole(k)
        if not 0 <= k <= len(rows):
            raise ValueError(
                f"k is {quoted(k)}; these scores have {len(rows)} rows to choose from, so k must "
                f"be from 0 to {len(rows)}."
            )
        if self.exact is not None:
            rows = rows[np.argsort(~self.exact[rows], kind="stable")]
        if self.units is not None:
            return UnitSet([self.units[row] for row in rows[:k]])
        chosen: np.ndarray = self._examples[rows[:k]]
        return chosen

    def plot(self, k: int = 40) -> Figure:
        """The k highest as bars, with the null's interval.

        Raises
        ------
        ValueError
            If k is no whole number from 1.
        """
        from memviz.plots.bars import bars

        if whole(k) < 1:
            raise ValueError(f"k is {quoted(k)}; plot at least 1 row.")
        rows = self.order()[: whole(k)]
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
        """Write ``frame`` as CSV, atomically; a name such as ``scores.csv.gz`` compresses it."""
        check_place(path)
        with atomic_write(Path(path)) as part:
            self.frame.to_csv(part, index=False)

    def to_parquet(self, path: str | Path) -> None:
        """Write ``frame`` as Parquet, atomically, with name, measure and source as metadata."""
        check_place(path)
        with atomic_write(Path(path)) as part:
            self.frame.to_parquet(part, index=False)

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
        lines = []
        for row in rows:
            label = str(self.units[row]) if self.units else f"example {self._examples[row]}"
            # With one draw, or draws that agree, the interval is a single value.
            ends = [f"{end[row]:.4f}" for end in interval] if interval else []
            note = f"null {' to '.join(dict.fromkeys(ends))}" if ends else ""
            if self.exact is not None and not self.exact[row]:
                note = f"estimate  {note}"
            lines.append((label, float(self.values[row]), note))
        return lines
