"""Figures of déjà vu: curves of recall, gaps and their null, sortings, quadrants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np

from memviz.plots import style
from memviz.plots.style import NULL, legend, quiet

from .._gaps import survival

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor

TARGET, REFERENCE = "#D55E00", "#0072B2"
_GAP_STYLES = {"PPG": ("#D55E00", "o"), "PRG": ("#0072B2", "s"), "AUCG": ("#00805E", "^")}


class Side(Protocol):
    """What the figure reads of one model."""

    @property
    def recall(self) -> Tensor:
        """Of each pair, float64 ``[n]``."""


class TwoModels(Protocol):
    """What the figure reads of a test of ``n`` pairs."""

    @property
    def names(self) -> tuple[str, str]:
        """What target and reference are called."""

    @property
    def target(self) -> Side:
        """The model that was trained on the pairs."""

    @property
    def reference(self) -> Side:
        """The model that was not."""

    @property
    def scored(self) -> Tensor:
        """Pairs whose recall is defined, int64."""

    @property
    def aucg(self) -> float:
        """Area between the two curves."""

    def summary(self, draws: int, seed: int) -> pd.DataFrame:
        """A row per gap: value, low, high; with held-out pairs also null, null low, null high."""


def gaps(result: TwoModels, draws: int = 1000, seed: int = 0) -> Figure:
    """The two curves ``Pr[recall >= t]``, and PPG, PRG, AUCG with interval beside their null.

    Parameters
    ----------
    result : DejaVu
    draws, seed : int
        Of the resampled intervals.

    Examples
    --------
    >>> import torch
    >>> from memviz.probes.deja_vu import Embedded, two_model_test
    >>> target = Embedded(torch.eye(3), torch.eye(3))
    >>> reference = Embedded(torch.eye(3).flip(0), torch.eye(3))
    >>> len(gaps(two_model_test(target, reference, torch.eye(3) > 0, torch.eye(3) > 0, k=1)).axes)
    2
    """
    figure = style.figure(7.6, 3.0)
    curves, bars = figure.subplots(1, 2, width_ratios=[1, 1])
    sides = zip(result.names, (result.target, result.reference), (TARGET, REFERENCE), strict=True)
    for (name, side, colour), dashes in zip(sides, ("-", "--"), strict=True):
        _survival(curves, side.recall[result.scored], label=name, color=colour, ls=dashes)
    curves.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="share of pairs at or above it")
    legend(curves)
    curves.set_title(f"area between: AUCG {result.aucg:+.3f}", loc="left", fontsize=9)
    quiet(curves)
    frame = result.summary(draws, seed)
    places = np.arange(len(frame))
    _intervals(bars, places, frame["value"], frame["low"], frame["high"], TARGET, "o", "pairs")
    if "null" in frame:
        columns = (frame["null"], frame["null low"], frame["null high"])
        _intervals(bars, places + 0.25, *columns, NULL, "D", "held-out pairs")
    bars.axvline(0, color=NULL, lw=0.8)
    bars.set_yticks(places, list(frame.index))
    bars.set(ylim=(len(frame) + 0.2, -0.6), xlabel="gap, 95 % interval over pairs")
    legend(bars)
    quiet(bars)
    return figure


def most_memorized(tables: Mapping[str, pd.DataFrame], gap: str = "recall_gap") -> Figure:
    """A gap over the first pairs of a sorting; dashed, the held-out pairs sorted the same way.

    Parameters
    ----------
    tables : mapping of name to DataFrame
        As :meth:`DejaVu.most_memorized` returns it, one per sorting.
    gap : str
        Its column: ``precision_gap``, ``recall_gap`` or ``f_gap``.
    """
    if not tables:
        raise ValueError("there is no table to draw; give at least one.")
    figure = style.figure(4.6, 3.2)
    axes = figure.subplots()
    looks = zip(("#D55E00", "#0072B2", "#00805E", "#4A4A4A"), "os^D", strict=True)
    for (name, table), (colour, mark) in zip(tables.items(), looks, strict=False):
        axes.plot(table["pairs"], table[gap], color=colour, marker=mark, label=name)
        if f"null_{gap}" in table:
            axes.plot(table["pairs"], table[f"null_{gap}"], color=colour, marker=mark, ls="--",
                      lw=1, ms=4, mfc="none", alpha=0.6)  # fmt: skip
    axes.set(xlabel="pairs, the first of the sorting", ylabel=gap.replace("_", " "))
    _logarithmic(axes, next(iter(tables.values()))["pairs"])
    axes.axhline(0, color=NULL, lw=0.8)
    axes.set_title("dashed: held-out pairs", loc="left", fontsize=9)
    legend(axes)
    quiet(axes)
    return figure


def curve(table: pd.DataFrame) -> Figure:
    """PPG, PRG and AUCG against k, a panel per number of labels; dashed, the held-out null.

    Parameters
    ----------
    table : DataFrame
        As :meth:`DejaVu.curve` returns it.
    """
    labels = list(dict.fromkeys(table["labels"]))
    figure = style.figure(2.5 * len(labels) + 1.2, 2.9)
    panels = figure.subplots(1, len(labels), sharey=True, squeeze=False)[0]
    for axes, kept in zip(panels, labels, strict=True):
        rows = table[table["labels"] == kept]
        for name, (colour, mark) in _GAP_STYLES.items():
            axes.plot(rows["k"], rows[name], color=colour, marker=mark, label=name)
            if f"null {name}" in rows:
                axes.plot(rows["k"], rows[f"null {name}"], color=colour, ls="--", lw=1, alpha=0.6)
        axes.axhline(0, color=NULL, lw=0.8)
        axes.set_xlabel("neighbours k")
        _logarithmic(axes, rows["k"])
        axes.set_title(kept, loc="left", fontsize=9)
        quiet(axes)
    panels[0].set_ylabel("gap")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", frameon=False)
    return figure


def _survival(axes: Axes, recall: Tensor, **look: str) -> None:
    levels, shares = survival(recall)
    edges, heights = [0.0, *levels.tolist()], shares.tolist()
    if edges[-1] < 1:
        edges, heights = [*edges, 1.0], [*heights, 0.0]
    axes.plot(np.repeat(edges, 2)[1:-1], np.repeat(heights, 2), lw=1.6, **look)  # type: ignore[arg-type]


def _intervals(
    axes: Axes,
    places: np.ndarray,
    values: pd.Series,
    low: pd.Series,
    high: pd.Series,
    colour: str,
    mark: str,
    label: str,
) -> None:
    axes.hlines(places, low, high, color=colour, lw=2)
    axes.plot(values, places, mark, color=colour, label=label)


def _logarithmic(axes: Axes, values: pd.Series) -> None:
    """A log axis with a tick at each value."""
    axes.set_xscale("log")
    axes.set_xticks(list(values), [str(value) for value in values])
    axes.minorticks_off()
