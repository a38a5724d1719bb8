"""Figures of entropy and mutual information: by layer, by pair, by model, and with their edges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from memviz.plots import style
from memviz.plots.style import NULL, quiet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ._entropy import Entropy
    from ._pairs import PairInformation
    from ._ranking import ModelRanking

_MEASURED = "#D55E00"
_SHOWN = 48  # units whose activations are drawn, evenly over the layers
_DRAWN = 10  # parts of the bins whose edges are drawn


def entropy_by_layer(found: Entropy) -> Figure:
    """A notched box of the units of each layer, the null's in grey; constant units left out.

    The notch is the 95 % interval of the median; the dotted line is ``ln(bins)``, the most there
    can be.
    """
    names = np.array([unit.layer for unit in found.units or ()])
    layers = [layer.name for layer in found.layers]
    places = np.arange(len(layers))
    figure = style.figure(max(4.0, 0.7 * len(layers) + 2.2), 3.2)
    axes = figure.subplots()
    measured = [found.values[(names == name) & ~found.constant] for name in layers]
    _boxes(axes, measured, places - 0.18, _MEASURED)
    axes.plot([], [], color=_MEASURED, lw=6, label="this network")
    if found.null is not None:
        _boxes(axes, [found.null.values[:, names == name] for name in layers], places + 0.18, NULL)
        axes.plot([], [], color=NULL, lw=6, label="randomly initialized")
    axes.axhline(np.log(found.bins), color=NULL, ls=":", lw=1)
    axes.set(ylabel="entropy of a unit, nats", xlim=(-0.6, len(layers) - 0.4))
    axes.set_ylim(bottom=0)
    axes.set_xticks(places, layers, fontsize=8, parse_math=False)
    _title(axes, f"{found.bins} bins, edges: {found.edges}")
    axes.legend(frameon=False, fontsize=8)
    quiet(axes)
    return figure


def pair_density(found: Mapping[Any, PairInformation], bins: int = 60) -> Figure:
    """Density of the pairs of each model; dashed its mean, grey the shuffled nulls of all.

    Parameters
    ----------
    found : mapping of a model's name to PairInformation
    bins : int
        Of the histogram.
    """
    if not found:
        raise ValueError("there is nothing to draw; give the pairs of at least one model.")
    pairs = {str(name): one.pairs() for name, one in found.items()}
    shuffled = np.concatenate([one.pairs(null=True) for one in found.values()])
    everything = np.concatenate([*pairs.values(), shuffled])
    # A few pairs that know all of each other would leave no room for the others.
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
    _title(axes, next(iter(found.values())).estimator)
    axes.legend(frameon=False, fontsize=8, title="mean over pairs", title_fontsize=8)
    quiet(axes)
    return figure


def entropy_by_model(found: Mapping[Any, Sequence[Entropy]], label: str = "model") -> Figure:
    """Mean entropy against the model, and the edges that it depends on; one choice of edges.

    Left: each seed a thin line, their mean a thick one, the null dashed. Right: for the first and
    the last model of the first seed, where the activations of some units lie (bars), and the edges
    of their bins (ticks, one in ten).

    Parameters
    ----------
    found : mapping of a model's setting (the share of wrong labels, say) to Entropy of each seed
    label : str
        What the settings are.
    """
    figure = style.figure(9.6, 3.0)
    _by_model(np.asarray(figure.subplots(1, 3, width_ratios=[5, 4, 4])), found, label)
    return figure


def entropy_under_edges(
    found: Mapping[str, Mapping[Any, Sequence[Entropy]]], label: str = "model"
) -> Figure:
    """The same for several choices of edges, a row each.

    Parameters
    ----------
    found : mapping of edges to what :func:`entropy_by_model` draws
    label : str
    """
    figure = style.figure(9.6, 2.7 * len(found))
    rows = figure.subplots(len(found), 3, width_ratios=[5, 4, 4], squeeze=False)
    for row, models in zip(rows, found.values(), strict=True):
        _by_model(row, models, label)
    return figure


def model_ranking(found: ModelRanking) -> Figure:
    """The external figure against the measure, each model with its name."""
    figure = style.figure(4.4, 3.2)
    axes = figure.subplots()
    axes.plot(found.measured, found.external, "o", color=_MEASURED, ms=6)
    for name, x, y in zip(found.models, found.measured, found.external, strict=True):
        axes.annotate(
            name, (x, y), (5, 4), textcoords="offset points", fontsize=8, parse_math=False
        )
    axes.margins(0.12)
    axes.set(xlabel=f"measure ({found.better} is taken for better)", ylabel="external figure")
    _title(axes, f"Kendall's τ = {found.tau:.2f}, p = {found.p:.3f}")
    quiet(axes)
    return figure


def _by_model(row: np.ndarray, found: Mapping[Any, Sequence[Entropy]], label: str) -> None:
    names, models = list(found), list(found.values())
    if not models or len({len(seeds) for seeds in models}) > 1 or not models[0]:
        raise ValueError("give at least one model, and as many seeds of each.")
    first, last = models[0][0], models[-1][0]
    if len({(one.bins, one.edges) for seeds in models for one in seeds}) > 1:
        raise ValueError("the models differ in bins or edges; measure all alike.")
    curve = row[0]
    means = np.array([[one.mean for one in seeds] for seeds in models])
    places = np.arange(len(models))
    curve.plot(places, means, color=_MEASURED, lw=0.7, alpha=0.5)
    curve.plot(places, means.mean(1), "o-", color=_MEASURED, lw=1.8, label="mean of units")
    nulls = [np.mean([one.null_mean for one in seeds]) for seeds in models]
    if np.isfinite(nulls).all():
        curve.plot(places, nulls, "D--", color=NULL, ms=4, lw=1, label="random networks")
    curve.set_xticks(places, [str(name) for name in names], parse_math=False)
    curve.set(ylabel="entropy, nats")
    curve.set_xlabel(label, parse_math=False)
    _title(curve, f"edges: {first.edges}, {first.bins} bins")
    curve.legend(frameon=False, fontsize=8)
    quiet(curve)
    for axes, name, one in zip(row[1:], (names[0], names[-1]), (first, last), strict=True):
        _edges(axes, one)
        _title(axes, f"{label} {name}")
    low = min(axes.get_ylim()[0] for axes in row[1:])
    high = max(axes.get_ylim()[1] for axes in row[1:])
    for axes in row[1:]:
        axes.set_ylim(low, high)


def _edges(axes: Axes, found: Entropy) -> None:
    """Each unit's activations as a bar, the edges of its bins as ticks behind it."""
    from matplotlib.collections import LineCollection

    count = len(found.values)
    step = -(-count // _SHOWN)
    places = np.arange(0, count, step)
    heights = np.linspace(found.ranges[0, ::step], found.ranges[1, ::step], _DRAWN + 1)
    ticks = np.empty((*heights.shape, 2, 2))
    ticks[..., 0, 0], ticks[..., 1, 0] = places - 0.5 * step, places + 0.5 * step
    ticks[..., 1] = heights[..., None]
    axes.vlines(places, *found.reached[:, ::step], color=_MEASURED, lw=1.8, alpha=0.7)
    lines = LineCollection(list(ticks.reshape(-1, 2, 2)), colors="#6E6E6E", linewidths=0.6)
    axes.add_collection(lines)
    for start in np.flatnonzero(_changes([unit.layer for unit in found.units or ()])):
        axes.axvline(start - 0.5, color=NULL, lw=0.8, ls=":")
    axes.set(xlabel="unit, layer by layer", ylabel="activation", xlim=(-step, count))
    axes.margins(y=0.03)
    axes.autoscale_view(scalex=False)
    axes.spines[["top", "right"]].set_visible(False)


def _changes(names: Sequence[str]) -> np.ndarray:
    return np.array([k > 0 and names[k] != names[k - 1] for k in range(len(names))], bool)


def _boxes(axes: Axes, values: Sequence[np.ndarray], places: np.ndarray, colour: str) -> None:
    """Notched boxes; a set of no units has none."""
    held = [k for k, one in enumerate(values) if one.size]
    axes.boxplot(
        [values[k].ravel() for k in held],
        positions=places[held],
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
