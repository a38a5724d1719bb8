"""Figures of gate networks, of plain tables: soft against hard, early learning, gates off."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memviz.checks import checked
from memviz.plots import style
from memviz.plots.style import NULL, quiet

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_BLUE, _RED, _GREEN = "#0072B2", "#D55E00", "#00805E"
_DASH = {"soft": "--", "hard": "-"}


@checked
def soft_against_hard(curves: pd.DataFrame, group: str = "test") -> Figure:
    """Share of a group that is right after each step, read soft (dashed) and hard.

    Parameters
    ----------
    curves : pandas.DataFrame
        Of :class:`memviz.training.gates.GateTraining`.
    group : str

    Examples
    --------
    >>> from memviz.demos.gates import curves
    >>> len(soft_against_hard(curves(seed=0)).axes)
    1
    """
    figure = style.figure(5.6, 2.8)
    axes = figure.subplots()
    for reading, colour in (("soft", _RED), ("hard", _BLUE)):
        rows = curves[(curves.group == group) & (curves.reading == reading)]
        axes.plot(rows.step, rows.true, _DASH[reading], color=colour, lw=1.6, label=reading)
    axes.set(xscale="log", ylim=(0, 1.02), xlabel="step", ylabel=f"{group} digits right")
    style.legend(axes)
    quiet(axes)
    return figure


@checked
def three_ways(curves: pd.DataFrame, reading: str = "hard") -> Figure:
    """Early learning, then memorization: what becomes of right and of wrong labels.

    Parameters
    ----------
    curves : pandas.DataFrame
        With the groups wrong, clean and test.
    reading : {"hard", "soft"}

    Examples
    --------
    >>> from memviz.demos.gates import curves
    >>> len(three_ways(curves(seed=0)).axes)
    1
    """
    figure = style.figure(5.6, 2.8)
    axes = figure.subplots()
    rows = curves[curves.reading == reading]
    for group, share, colour, label in (
        ("clean", "given", _BLUE, "clean labels fitted"),
        ("test", "true", NULL, "test digits right"),
        ("wrong", "true", _GREEN, "wrong labels: the true one predicted"),
        ("wrong", "given", _RED, "wrong labels: the wrong one fitted"),
    ):
        part = rows[rows.group == group]
        axes.plot(part.step, part[share], color=colour, lw=1.6, label=label)
    axes.set(xscale="log", ylim=(0, 1.02), xlabel="step", ylabel=f"share, of the {reading} network")
    style.legend(axes)
    quiet(axes)
    return figure


@checked
def gates_off(table: pd.DataFrame) -> Figure:
    """What is still given its label without the first gates of a ranking, and without random ones.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns ``gates``, ``chosen`` ("none", "top" or "random"), ``memorized`` and ``test``.

    Examples
    --------
    >>> import pandas as pd
    >>> rows = {"gates": [0, 50, 50], "chosen": ["none", "top", "random"]}
    >>> len(gates_off(pd.DataFrame(rows | {"memorized": [1, 0.7, 0.9], "test": 0.9})).axes)
    1
    """
    figure = style.figure(5.6, 2.8)
    axes = figure.subplots()
    for group, colour in (("memorized", _RED), ("test", _BLUE)):
        for chosen, dash in (("top", "o-"), ("random", "s:")):
            rows = table[table.chosen.isin(("none", chosen))]
            label = f"{group}, {chosen} gates off"
            axes.plot(rows.gates, rows[group], dash, color=colour, lw=1.4, ms=4, label=label)
    axes.set(ylim=(0, 1.05), xlabel="gates off, of those that are live", ylabel="given their label")
    axes.set_xscale("symlog", linthresh=25)
    style.legend(axes)
    quiet(axes)
    return figure
