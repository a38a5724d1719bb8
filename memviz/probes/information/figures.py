"""Figures of entropy and mutual information: by layer, by pair, by model, and with their edges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from memviz.plots import style
from memviz.plots.style import NULL, legend, quiet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from memviz.scores import Null
    from memviz.units import Layer, Unit

_MEASURED = "#D55E00"
_SHOWN = 48  # units whose activations are drawn, evenly over the layers
_DRAWN = 10  # parts of the bins whose edges are drawn


class Measured(Protocol):
    """What the figures read of the entropy of ``U`` units."""

    @property
    def units(self) -> Sequence[Unit] | None:
        """``U`` of them, layer by layer."""

    @property
    def layers(self) -> Sequence[Layer]:
        """The layers of these units."""

    @property
    def values(self) -> np.ndarray:
        """Entropy in nats, ``[U]``."""

    @property
    def null(self) -> Null | None:
        """The same of randomly initialized networks."""

    @property
    def constant(self) -> np.ndarray:
        """Units that are the same on all examples, bool ``[U]``."""

    @property
    def mean(self) -> float:
        """Mean over the other units."""

    @property
    def null_mean(self) -> float:
        """Mean over the null; NaN without one."""

    def live_null(self, members: np.ndarray, /) -> np.ndarray:
        """The null of some units, bool ``[U]``, over all draws, without constant ones."""

    @property
    def bins(self) -> int:
        """How many bins."""

    @property
    def edges(self) -> str:
        """Which units share the edges of the bins."""

    @property
    def ranges(self) -> np.ndarray:
        """Lower and upper end of each unit's bins, ``[2, U]``."""

    @property
    def reached(self) -> np.ndarray:
        """Least and largest activation of each unit, ``[2, U]``."""


class Pairs(Protocol):
    """What the figure reads of the mutual information of pairs of units."""

    @property
    def estimator(self) -> str:
        """The estimator in words."""

    def pairs(self, *, null: bool = False) -> np.ndarray:
        """One value per pair, or per pair and draw of the null."""


class Ranking(Protocol):
    """What the figure reads of a ranking of models."""

    @property
    def models(self) -> Sequence[str]:
        """Their names."""

    @property
    def measured(self) -> np.ndarray:
        """The measure of each."""

    @property
    def external(self) -> np.ndarray:
        """The external figure of each."""

    @property
    def better(self) -> str:
        """Which values of the measure count as better."""

    @property
    def tau(self) -> float:
        """Kendall's rank correlation of both."""

    @property
    def p(self) -> float:
        """Its p-value."""


def entropy_by_layer(result: Measured) -> Figure:
    """A notched box of the units of each layer, the null's in grey; constant units left out.

    The notch is the 95 % interval of the median; the dotted line is ``ln(bins)``, the largest
    entropy possible.
    """
    names = np.array([unit.layer for unit in result.units or ()])
    layers = [layer.name for layer in result.layers]
    places = np.arange(len(layers))
    figure = style.figure(max(4.0, 0.7 * len(layers) + 2.2), 3.2)
    axes = figure.subplots()
    measured = [result.values[(names == name) & ~result.constant] for name in layers]
    _boxes(axes, measured, places - 0.18, _MEASURED)
    axes.plot([], [], color=_MEASURED, lw=6, label="this network")
    if result.null is not None:
        _boxes(axes, [result.live_null(names == name) for name in layers], places + 0.18, NULL)
        axes.plot([], [], color=NULL, lw=6, label="randomly initialized")
    axes.axhline(np.log(result.bins), color=NULL, ls=":", lw=1)
    axes.set(ylabel="entropy of a unit, nats", xlim=(-0.6, len(layers) - 0.4))
    axes.set_ylim(bottom=0)
    axes.set_xticks(places, layers, fontsize=8, parse_math=False)
    _title(axes, f"{result.bins} bins, edges: {result.edges}")
    legend(axes)
    quiet(axes)
    return figure


def pair_density(results: Mapping[Any, Pairs], bins: int = 60) -> Figure:
    """Density of the pairs of each model; dashed its mean, grey the shuffled nulls of all.

    Parameters
    ----------
    results : mapping of a model's name to PairInformation
    bins : int
        Of the histogram.
    """
    if not results:
        raise ValueError("there is nothing to draw; give the pairs of at least one model.")
    pairs = {str(name): model.pairs() for name, model in results.items()}
    shuffled = np.concatenate([model.pairs(null=True) for model in results.values()])
    everything = np.concatenate([*pairs.values(), shuffled])
    # The few highest pairs are left out, or all others would be squeezed to the left.
    edges = np.linspace(everything.min(), np.percentile(everything, 99.8), bins + 1)
    figure = style.figure(5.6, 3.2)
    axes = figure.subplots()
    for (name, values), colour in zip(pairs.items(), _shades(len(pairs)), strict=True):
        axes.stairs(
            _density(values, edges),
            edges,
            color=colour,
            lw=1.6,
            label=f"{name}: {values.mean():.2f}",
        )
        axes.axvline(values.mean(), color=colour, ls="--", lw=1)
    top = axes.get_ylim()[1]
    if len(shuffled):
        axes.stairs(_density(shuffled, edges), edges, fill=True, color=NULL, alpha=0.4)
        axes.axvline(shuffled.mean(), color=NULL, lw=1.2, label=f"shuffled: {shuffled.mean():.2f}")
        axes.set_ylim(0, top)
    axes.set(xlabel="mutual information of a pair of units, nats", ylabel="density")
    _title(axes, next(iter(results.values())).estimator)
    legend(axes, title="mean over pairs", title_fontsize=8)
    quiet(axes)
    return figure


def entropy_by_model(results: Mapping[Any, Sequence[Measured]], label: str = "model") -> Figure:
    """Mean entropy of each model, and the edges of the bins it depends on.

    Left: each seed a thin line, their mean a thick one, the null dashed. Right: for the first and
    the last model of the first seed, where the activations of some units lie (bars), and the edges
    of their bins (ticks, one in ten).

    Parameters
    ----------
    results : mapping of a model's setting (the share of wrong labels, say) to Entropy of each seed
    label : str
        What the settings are.
    """
    figure = style.figure(9.6, 3.0)
    row = np.asarray(figure.subplots(1, 3, width_ratios=[5, 4, 4]))
    _by_model(row, results, label)
    legend(row[0])
    return figure


def entropy_under_edges(
    results: Mapping[str, Mapping[Any, Sequence[Measured]]], label: str = "model"
) -> Figure:
    """:func:`entropy_by_model` for several choices of edges, a row each.

    Parameters
    ----------
    results : mapping of edges to what :func:`entropy_by_model` draws
    label : str
    """
    figure = style.figure(9.6, 2.7 * len(results))
    rows = figure.subplots(len(results), 3, width_ratios=[5, 4, 4], squeeze=False)
    for row, models in zip(rows, results.values(), strict=True):
        _by_model(row, models, label)
    legend(rows[0][0])
    return figure


def model_ranking(result: Ranking) -> Figure:
    """The external figure against the measure, a named dot per model."""
    figure = style.figure(4.4, 3.2)
    axes = figure.subplots()
    axes.plot(result.measured, result.external, "o", color=_MEASURED, ms=6)
    for name, x, y in zip(result.models, result.measured, result.external, strict=True):
        axes.annotate(
            name, (x, y), (5, 4), textcoords="offset points", fontsize=8, parse_math=False
        )
    axes.margins(0.12)
    axes.set(xlabel=f"measure ({result.better} is taken for better)", ylabel="external figure")
    _title(axes, f"Kendall's τ = {result.tau:.2f}, p = {result.p:.3f}")
    quiet(axes)
    return figure


def _by_model(row: np.ndarray, results: Mapping[Any, Sequence[Measured]], label: str) -> None:
    names, models = list(results), list(results.values())
    if not models or len({len(seeds) for seeds in models}) > 1 or not models[0]:
        raise ValueError("give at least one model, and as many seeds of each.")
    first, last = models[0][0], models[-1][0]
    if len({(seed.bins, seed.edges) for seeds in models for seed in seeds}) > 1:
        raise ValueError("the models differ in bins or edges; measure all alike.")
    curve = row[0]
    means = np.array([[seed.mean for seed in seeds] for seeds in models])
    places = np.arange(len(models))
    curve.plot(places, means, color=_MEASURED, lw=0.7, alpha=0.5)
    curve.plot(places, means.mean(1), "o-", color=_MEASURED, lw=1.8, label="mean of units")
    nulls = [np.mean([seed.null_mean for seed in seeds]) for seeds in models]
    if np.isfinite(nulls).all():
        curve.plot(places, nulls, "D--", color=NULL, ms=4, lw=1, label="random networks")
    curve.set_xticks(places, [str(name) for name in names], parse_math=False)
    curve.set(ylabel="entropy, nats")
    curve.set_xlabel(label, parse_math=False)
    _title(curve, f"edges: {first.edges}, {first.bins} bins")
    quiet(curve)
    for axes, name, model in zip(row[1:], (names[0], names[-1]), (first, last), strict=True):
        _edges(axes, model)
        _title(axes, f"{label} {name}")
    low = min(axes.get_ylim()[0] for axes in row[1:])
    high = max(axes.get_ylim()[1] for axes in row[1:])
    for axes in row[1:]:
        axes.set_ylim(low, high)


def _edges(axes: Axes, result: Measured) -> None:
    """Each unit's activations as a bar, the edges of its bins as ticks behind it."""
    from matplotlib.collections import LineCollection

    count = len(result.values)
    step = -(-count // _SHOWN)
    places = np.arange(0, count, step)
    heights = np.linspace(result.ranges[0, ::step], result.ranges[1, ::step], _DRAWN + 1)
    ticks = np.empty((*heights.shape, 2, 2))
    ticks[..., 0, 0], ticks[..., 1, 0] = places - 0.5 * step, places + 0.5 * step
    ticks[..., 1] = heights[..., None]
    axes.vlines(places, *result.reached[:, ::step], color=_MEASURED, lw=1.8, alpha=0.7)
    lines = LineCollection(list(ticks.reshape(-1, 2, 2)), colors="#6E6E6E", linewidths=0.6)
    axes.add_collection(lines)
    for start in np.flatnonzero(_changes([unit.layer for unit in result.units or ()])):
        axes.axvline(start - 0.5, color=NULL, lw=0.8, ls=":")
    axes.set(xlabel="unit, layer by layer", ylabel="activation", xlim=(-step, count))
    axes.margins(y=0.03)
    axes.autoscale_view(scalex=False)
    axes.spines[["top", "right"]].set_visible(False)


def _changes(names: Sequence[str]) -> np.ndarray:
    return np.array([k > 0 and names[k] != names[k - 1] for k in range(len(names))], bool)


def _boxes(axes: Axes, values: Sequence[np.ndarray], places: np.ndarray, colour: str) -> None:
    """Notched boxes; a layer without units has none."""
    filled = [k for k, layer in enumerate(values) if layer.size]
    axes.boxplot(
        [values[k].ravel() for k in filled],
        positions=places[filled],
        widths=0.3,
        notch=True,
        showfliers=False,
        manage_ticks=False,
        patch_artist=True,
        boxprops={"facecolor": colour, "alpha": 0.35, "edgecolor": colour},
        medianprops={"color": colour, "lw": 2},
        whiskerprops={"color": colour},
        capprops={"color": colour},
    )


def _density(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    counts = np.histogram(values, edges)[0]
    return np.asarray(counts / (max(len(values), 1) * np.diff(edges)))


def _shades(count: int) -> np.ndarray:
    import matplotlib

    if count == 1:
        return np.array([matplotlib.colors.to_rgba(_MEASURED)])
    return np.asarray(matplotlib.colormaps["cividis"](np.linspace(0, 0.92, count)))


def _title(axes: Axes, words: str) -> None:
    axes.set_title(words, loc="left", fontsize=9, parse_math=False)
