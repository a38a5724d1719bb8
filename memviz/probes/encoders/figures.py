"""Figures of memorization in encoders: LayerMem, UnitMem against ClassMem, pruning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from memviz.plots import style
from memviz.plots.style import NULL, legend, quiet

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from memviz.scores import Scores

# Colour and mark, so that colour is never alone.
_SUBSETS = {"S_C": ("#D55E00", "o"), "S_S": ("#0072B2", "s"), "S_E": ("#00805E", "^"),
            "S_I": ("#CC79A7", "v")}  # fmt: skip
_WORDS = {"S_C": "candidates (f alone)", "S_S": "shared (f and g)", "S_E": "external (neither)",
          "S_I": "independent (g alone)"}  # fmt: skip
_CHOICES = {"top": ("#D55E00", "o"), "random": ("#4A4A4A", "D"), "low": ("#0072B2", "s")}
_LAYERS = ("#0072B2", "#D55E00", "#00805E", "#CC79A7", "#4A4A4A", "#E69F00", "#56B4E9")
_MARKS = "osv^DPX"


class Point(Protocol):
    """What the figure reads of a point of the data path."""

    @property
    def kind(self) -> str:
        """``"join"`` for a residual join."""


class Layers(Protocol):
    """What the figure reads of LayerMem: ``P`` points, the candidates S_C and other subsets."""

    @property
    def points(self) -> Sequence[Point]:
        """``P`` of them."""

    @property
    def names(self) -> Sequence[str]:
        """Of the points."""

    @property
    def pairs(self) -> int:
        """How many pairs of encoders."""

    @property
    def values(self) -> Mapping[str, np.ndarray]:
        """LayerMem of each subset, ``[pairs, P]``."""

    @property
    def errors(self) -> Mapping[str, np.ndarray]:
        """Standard error over the images of each subset, ``[pairs, P]``."""

    def gap(self, beside: str, /) -> np.ndarray:
        """LayerMem of the candidates less that of another subset, ``[pairs, P]``."""


class Pruned(Protocol):
    """What the figure reads of a pruning."""

    @property
    def name(self) -> str:
        """Of the scores that chose the units."""

    @property
    def frame(self) -> pd.DataFrame:
        """Columns ``share``, ``choice``, ``accuracy``, ``least`` and ``largest``."""


def layer_mem(result: Layers) -> Figure:
    """LayerMem of each subset along the data path, and the candidates' gap to the others.

    Lines are means over the pairs of encoders; bars run from lowest to highest (with one pair: the
    standard error over images). An open mark is a residual join.

    Examples
    --------
    >>> from memviz.probes.encoders.layers import LayerMem, Point
    >>> path = (Point("one", "conv", 0), Point("two", "conv", 1, "one"))
    >>> values = {"S_C": np.array([[0.1, 0.2]]), "S_I": np.array([[0.1, 0.0]])}
    >>> len(layer_mem(LayerMem(path, values, values)).axes)
    2
    """
    figure = style.figure(max(7.2, 0.45 * len(result.points) + 4), 3.4)
    levels, gaps = figure.subplots(1, 2)
    places = np.arange(len(result.points))
    joins = np.array([point.kind == "join" for point in result.points])
    for name, values in result.values.items():
        _line(levels, joins, values, result.errors[name], name, _WORDS[name])
    for name in result.values:
        if name != "S_C":
            gap, error = result.gap(name), np.hypot(result.errors["S_C"], result.errors[name])
            _line(gaps, joins, gap, error, name, f"S_C less {name}")
    for axes in (levels, gaps):
        axes.axhline(0, color=NULL, lw=0.8)
        axes.set_xticks(places, result.names, rotation=90 if len(places) > 6 else 0, fontsize=7,
                        parse_math=False)  # fmt: skip
        legend(axes, fontsize=7)
        quiet(axes)
    levels.set_ylabel("LayerMem")
    gaps.set_ylabel("gap")
    pairs = f"{result.pairs} pair{'s' * (result.pairs != 1)} of encoders"
    levels.set_title(pairs, loc="left", fontsize=9)
    return figure


def unit_against_class(units: Scores, classes: Scores, title: str = "") -> Figure:
    """UnitMem against ClassMem, a mark per unit and a colour per layer; dead units are left out.

    Units above the diagonal belong to one image more than to one class. ClassMem of 1 alone says
    little: a unit of a single image has it too.

    Raises
    ------
    ValueError
        If the scores are not over the same units.

    Examples
    --------
    >>> from memviz.scores import Scores
    >>> from memviz.units import Unit
    >>> scores = Scores("UnitMem", "", np.ones(1), units=(Unit("fc", 0),))
    >>> len(unit_against_class(scores, scores).axes)
    1
    """
    if units.units is None or units.units != classes.units:
        raise ValueError("the two scores are over other units; score the same layers.")
    figure = style.figure(4.6, 4.2)
    axes = figure.subplots()
    layers = np.array([unit.layer for unit in units.units])
    axes.plot([0, 1], [0, 1], color=NULL, lw=0.8, ls="--", zorder=1)
    for k, layer in enumerate(dict.fromkeys(layers.tolist())):
        rows = layers == layer
        axes.plot(classes.values[rows], units.values[rows], ls="", ms=5, alpha=0.75,
                  marker=_MARKS[k % len(_MARKS)], color=_LAYERS[k % len(_LAYERS)], mec="white",
                  mew=0.4, label=layer)  # fmt: skip
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=classes.name, ylabel=units.name)
    axes.set_aspect("equal")
    axes.set_title(title, loc="left", fontsize=9, parse_math=False)
    legend(axes, fontsize=7)
    quiet(axes)
    return figure


def pruning(result: Pruned) -> Figure:
    """Accuracy against the share of units pruned; bars are the range over draws of random units.

    Examples
    --------
    >>> import pandas as pd
    >>> from memviz.probes.encoders.experiments import Pruning
    >>> rows = [(0.0, "none", 0.9, 0.9, 0.9), (0.1, "top", 0.5, 0.5, 0.5)]
    >>> table = pd.DataFrame(rows, columns=["share", "choice", "accuracy", "least", "largest"])
    >>> len(pruning(Pruning("UnitMem", table)).axes)
    1
    """
    figure = style.figure(4.6, 3.2)
    axes = figure.subplots()
    whole = result.frame[result.frame["choice"] == "none"].iloc[0]
    for choice, (colour, mark) in _CHOICES.items():
        rows = result.frame[result.frame["choice"] == choice]
        if rows.empty:
            continue
        shares = np.array([0.0, *rows["share"]])
        values = np.array([whole["accuracy"], *rows["accuracy"]])
        low = values - np.array([whole["accuracy"], *rows["least"]])
        high = np.array([whole["accuracy"], *rows["largest"]]) - values
        axes.errorbar(shares, values, np.stack([low, high]), color=colour, marker=mark,
                      label=choice, lw=1.4, elinewidth=1)  # fmt: skip
    axes.set(xlabel="share of the units pruned", ylabel="accuracy of a probe")
    axes.set_title(f"chosen by {result.name}", loc="left", fontsize=9, parse_math=False)
    legend(axes)
    quiet(axes)
    return figure


def _line(
    axes: Axes, joins: np.ndarray, values: np.ndarray, errors: np.ndarray, name: str, label: str
) -> None:
    colour, mark = _SUBSETS[name]
    places = np.arange(len(joins))
    mean = values.mean(0)
    if len(values) > 1:
        spread = np.stack([mean - values.min(0), values.max(0) - mean])
    else:
        spread = np.stack([errors[0], errors[0]])
    axes.errorbar(places, mean, spread, color=colour, marker=mark, ms=5, lw=1.4, elinewidth=1,
                  label=label)  # fmt: skip
    axes.plot(places[joins], mean[joins], ls="", marker=mark, ms=5, mfc="white", mec=colour,
              zorder=3)  # fmt: skip
