"""A figure of mitigation: what a model has memorized against what it is good for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from memviz.plots import style
from memviz.plots.style import NULL, legend, quiet

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LOOKS = (
    ("#D55E00", "o"),
    ("#0072B2", "s"),
    ("#00805E", "^"),
    ("#CC79A7", "D"),
    ("#4A4A4A", "v"),
    ("#8A6D00", "P"),
)
# Where a setting is written: directions that share a point don't share the place.
_LABELS = (((5, 4), "left"), ((-5, -10), "right"), ((5, -10), "left"), ((-5, 4), "right"))
_NEAR, _CROWD = 0.04, 3  # share of an axis; settings near each other of which all can be read


def mitigation(
    table: pd.DataFrame, memorized: str = "PPG", utilities: tuple[str, ...] = ("utility",)
) -> Figure:
    """Memorization against utility: settings of one direction joined, the null as a band.

    Down is less memorized, right is more useful. A point is the mean of the seeds; its cross goes
    from the lowest to the highest. The band has every null of the table in it.

    Parameters
    ----------
    table : DataFrame
        One row per setting and seed: ``direction``, ``setting`` (written beside its point), and the
        columns that the others name. With a column ``"null " + memorized`` the band is drawn.
    memorized : str
        The column of the upward axis: ``PPG``, ``PRG`` or ``AUCG``.
    utilities : tuple of str
        Columns of the axes to the right, one panel each.

    Raises
    ------
    ValueError
        On an empty table, or one without a column.

    Examples
    --------
    >>> import pandas as pd
    >>> rows = [("masking", p, 0, 0.4 - p / 4, 0.5 + p / 9) for p in (0.0, 0.5, 0.9)]
    >>> table = pd.DataFrame(rows, columns=["direction", "setting", "seed", "PPG", "utility"])
    >>> [text.get_text() for text in mitigation(table).axes[0].texts]
    ['0.0', '0.5', '0.9']
    """
    needed = ["direction", "setting", memorized, *utilities]
    missing = [name for name in needed if name not in table]
    if missing or not len(table) or not utilities:
        raise ValueError(
            f"the table has {len(table)} rows and no column {', '.join(map(repr, missing))}; it "
            f"needs {', '.join(needed)}."
            if missing
            else "the table is empty, or no utility is named; give rows and a column."
        )
    figure = style.figure(4.4 * len(utilities) + 0.8, 3.8)
    panels = figure.subplots(1, len(utilities), sharey=True, squeeze=False)[0]
    null = table.get(f"null {memorized}")
    for axes, utility in zip(panels, utilities, strict=True):
        if null is not None:
            axes.axhspan(null.min(), null.max(), color=NULL, alpha=0.3, lw=0, label="null")
        axes.axhline(0, color=NULL, lw=0.8)
        directions = table.groupby("direction", sort=False)
        means = [
            _direction(axes, str(name), rows, utility, memorized, index)
            for index, (name, rows) in enumerate(directions)
        ]
        _write_settings(axes, means)
        axes.set_xlabel(f"{utility} (right: more useful)")
        quiet(axes)
    panels[0].set_ylabel(f"{memorized} (up: more memorized)")
    legend(figure, *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _direction(
    axes: Axes, name: str, rows: pd.DataFrame, utility: str, memorized: str, index: int
) -> pd.DataFrame:
    """Draw a direction; the mean of each of its settings."""
    colour, mark = _LOOKS[index % len(_LOOKS)]
    settings = rows.groupby("setting", sort=False)[[utility, memorized]]
    low, mean, high = settings.min(), settings.mean(), settings.max()
    axes.hlines(mean[memorized], low[utility], high[utility], color=colour, lw=0.8, alpha=0.5)
    axes.vlines(mean[utility], low[memorized], high[memorized], color=colour, lw=0.8, alpha=0.5)
    axes.plot(mean[utility], mean[memorized], color=colour, marker=mark, ms=5, lw=1.2, label=name)
    return mean


def _write_settings(axes: Axes, means: Sequence[pd.DataFrame]) -> None:
    """Write settings beside their points, but for those in a crowd, where none could be read."""
    named = [
        (index, str(setting), point)
        for index, mean in enumerate(means)
        for setting, point in zip(mean.index, mean.to_numpy(), strict=True)
    ]
    spans = [high - low for low, high in (axes.get_xlim(), axes.get_ylim())]
    places = np.array([point for _, _, point in named]) / spans
    for (index, setting, (x, y)), place in zip(named, places, strict=True):
        near = (np.abs(places - place) < _NEAR).all(1)
        if near.sum() > _CROWD:
            continue
        offset, side = _LABELS[index % len(_LABELS)]
        axes.annotate(
            setting, (x, y), textcoords="offset points", xytext=offset, ha=side, fontsize=7,
            color=_LOOKS[index % len(_LOOKS)][0], parse_math=False,
        )  # fmt: skip
