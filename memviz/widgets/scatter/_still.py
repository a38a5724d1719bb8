"""A still picture of two scores over the same units."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from memviz.plots import style
from memviz.scores import Scores
from memviz.units import UnitSet, UnitsLike

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_INK = "#35456C"


def unit_scatter(x: Scores, y: Scores, ablated: UnitsLike = ()) -> Figure:
    """One dot per unit with both scores: hollow if either is an estimate, × if it is ablated.

    Parameters
    ----------
    x, y : Scores over units
    ablated : units

    Raises
    ------
    ValueError
        If scores are over examples.

    Examples
    --------
    >>> from memviz.units import Unit
    >>> units = (Unit("fc", 0), Unit("fc", 1))
    >>> x = Scores("UnitMem", "share", np.array([0.2, 0.9]), units=units)
    >>> y = Scores("entropy", "nats", np.array([1.1, np.nan]), units=units)
    >>> unit_scatter(x, y).axes[0].get_title(loc="left")
    'UnitMem against entropy: 1 of 2 units'
    """
    for scores in (x, y):
        if scores.units is None:
            raise ValueError(f"{scores.name!r} is over examples; give scores over units.")
    assert x.units is not None and y.units is not None
    row_in_y = {unit: row for row, unit in enumerate(y.units)}
    shared = [(row, row_in_y[unit]) for row, unit in enumerate(x.units) if unit in row_in_y]
    x_rows, y_rows = np.array(shared, int).reshape(-1, 2).T
    x_values, y_values = x.values[x_rows], y.values[y_rows]
    known = np.isfinite(x_values) & np.isfinite(y_values)
    is_exact = _exact(x)[x_rows] & _exact(y)[y_rows]
    chosen = UnitSet.of(ablated)
    off = np.array([x.units[row] in chosen for row in x_rows], dtype=bool)
    figure = style.figure(6, 4)
    axes = figure.add_subplot()
    looks: list[tuple[np.ndarray, dict[str, Any]]] = [
        (known & is_exact & ~off, {"c": _INK, "s": 14, "alpha": 0.7, "linewidths": 0}),
        (known & ~is_exact & ~off, {"facecolors": "none", "edgecolors": _INK, "s": 14, "lw": 0.8}),
        (known & off, {"c": "#D55E00", "marker": "x", "s": 26, "linewidths": 1.3}),
    ]
    for mask, look in looks:
        axes.scatter(x_values[mask], y_values[mask], **look)
    style.quiet(axes)
    axes.set_xlabel(_label(x), fontsize=8, parse_math=False)
    axes.set_ylabel(_label(y), fontsize=8, parse_math=False)
    title = f"{x.name} against {y.name}: {int(known.sum()):,} of {len(x.units):,} units"
    axes.set_title(title, fontsize=9, loc="left", parse_math=False)
    axes.tick_params(labelsize=8)
    return figure


def _exact(scores: Scores) -> np.ndarray:
    return np.ones(len(scores), bool) if scores.exact is None else scores.exact


def _label(scores: Scores) -> str:
    return f"{scores.name} ({scores.measure})" if scores.measure else scores.name
