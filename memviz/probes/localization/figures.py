"""Figures of where memorization is: gradients, rewinding, retraining, critical units."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from memviz.plots import style
from memviz.plots.style import NULL, group_style, quiet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from memviz.probes.localization.critical import CriticalUnits

    from ._gradient_table import GradientAccounting
    from ._retraining import Retraining
    from ._rewinding import Rewinding

_NOISY, _CLEAN = group_style("memorized"), group_style("clean")


def gradient_accounting(found: GradientAccounting) -> Figure:
    """Norms of both parts by layer, their ratio beside its null, and the cosine by layer."""
    places = np.arange(len(found.layers))
    figure = style.figure(3 * max(2.6, 0.45 * len(places) + 1.2), 3.2)
    norms, ratio, cosine = figure.subplots(1, 3)
    for offset, values, look, name in (
        (-0.2, found.clean, _CLEAN, "clean"),
        (0.2, found.noisy, _NOISY, "noisy"),
    ):
        norms.bar(places + offset, values.mean(0), 0.38, color=look["color"], label=name)
    norms.set_title("gradient norm, mean over epochs", loc="left", fontsize=9)
    norms.legend(frameon=False, fontsize=8)
    _points(ratio, found.ratio, found.null_ratio)
    ratio.axhline(found.share / (1 - found.share), color=NULL, ls=":", lw=1)
    ratio.set_ylim(bottom=0)
    ratio.set_title("noisy over clean (dotted: by numbers)", loc="left", fontsize=9)
    _points(cosine, found.cosine.mean(0), found.null_cosine.mean(1))
    cosine.axhline(0, color=NULL, lw=0.8)
    cosine.set_ylim(-1.05, 1.05)
    cosine.set_title("cosine of clean and noisy", loc="left", fontsize=9)
    cosine.legend(frameon=False, fontsize=8)
    for axes in (norms, ratio, cosine):
        _name_layers(axes, found.layers)
    return figure


def rewinding(found: Rewinding, *, buffers: bool = False) -> Figure:
    """Accuracy by the epoch that each layer was put back to, a panel a group; dashed: all of it."""
    import matplotlib

    figure = style.figure(3.2 * len(found.groups) + 1.2, 3.2)
    panels = np.atleast_1d(figure.subplots(1, len(found.groups), sharey=True))
    table = found.with_buffers if buffers else found.parameters
    colours = matplotlib.colormaps["cividis"](np.linspace(0, 0.92, len(found.layers)))
    marks = "os^DvPX<>*"
    for g, (axes, name) in enumerate(zip(panels, found.groups, strict=True)):
        for k, layer in enumerate(found.layers):
            axes.plot(
                found.epochs,
                table[k, :, g],
                color=colours[k],
                marker=marks[k % len(marks)],
                ms=4,
                lw=1.3,
                label=layer,
            )
        axes.plot(found.epochs, found.checkpoints[:, g], ls="--", lw=1, color=NULL, label="all")
        axes.set(ylim=(-0.03, 1.03), xlabel="layer put back to epoch")
        axes.set_title(name, loc="left", fontsize=10, parse_math=False)
        quiet(axes)
    panels[0].set_ylabel("accuracy")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", frameon=False)
    return figure


def retraining(found: Retraining) -> Figure:
    """Accuracy of each group by layer: hollow right after rewinding, filled at the end."""
    table = found.by_layer
    places = np.arange(len(table))
    figure = style.figure(max(4.0, 0.6 * len(places) + 2.0), 3.2)
    axes = figure.subplots()
    for g, name in enumerate(found.groups):
        look = group_style(name)
        shifted = places + 0.18 * (g - (len(found.groups) - 1) / 2)
        ends = table[f"{name} rewound"], table[f"{name} retrained"]
        axes.vlines(shifted, *ends, color=look["color"], lw=1)
        axes.plot(shifted, ends[0], ls="", ms=5, mfc="white", **look)
        axes.plot(shifted, ends[1], ls="", ms=5, label=name, **look)
    axes.set(ylim=(-0.03, 1.03), ylabel="accuracy")
    axes.set_title(
        f"hollow: layer put back to epoch {found.epoch}; filled: trained again on "
        f"{found.trained_on} alone",
        loc="left",
        fontsize=9,
        parse_math=False,
    )
    axes.legend(frameon=False, fontsize=8)
    _name_layers(axes, list(table.index))
    return figure


def critical_units(found: CriticalUnits) -> Figure:
    """Share of a group that so many units flip (dotted: random order), and in which layers."""
    frame, by_layer = found.frame, found.by_layer
    groups = list(by_layer.columns)
    figure = style.figure(5.4 + max(2.4, 0.45 * len(by_layer) + 1), 3.2)
    curve, shares = figure.subplots(1, 2, width_ratios=[5, 4])
    for name in groups:
        mine, look = frame[frame["group"] == name], group_style(name)
        _flipped(curve, mine["count"].to_numpy(), **look, ms=4, label=name)
        if len(found.random):
            _flipped(curve, found.random[:, mine.index].ravel(), color=look["color"], ls=":")
    curve.plot([], [], ls=":", color="#555555", label="random order")
    curve.set(xscale="log", xlabel="units ablated", ylabel="share flipped", ylim=(-0.03, 1.03))
    curve.legend(frameon=False, fontsize=8)
    curve.set_title(f"{found.how} ablation, {found.method}", loc="left", fontsize=9)
    quiet(curve)
    places = np.arange(len(by_layer))
    for k, name in enumerate(groups):
        offset = 0.4 * (k - (len(groups) - 1) / 2)
        look = group_style(name)
        shares.bar(places + offset, by_layer[name], 0.38, color=look["color"], label=name)
    shares.set_title("where these units are", loc="left", fontsize=9)
    shares.set_ylabel("share of the units")
    _name_layers(shares, list(by_layer.index))
    return figure


def _points(axes: Axes, values: np.ndarray, null: np.ndarray) -> None:
    places = np.arange(len(values))
    axes.plot(places, values, ls="", ms=6, **_NOISY, label="noisy")
    for row in null:
        axes.plot(places, row, "D", color=NULL, ms=3.5, alpha=0.7)
    axes.plot([], [], "D", color=NULL, ms=3.5, label="random examples")


def _flipped(axes: Axes, counts: np.ndarray, **look: object) -> None:
    """How many of the examples are flipped by so many units, as a step curve."""
    ends = np.sort(counts[np.isfinite(counts)])
    share = np.arange(1, len(ends) + 1) / len(counts)
    axes.step(np.maximum(ends, 1), share, where="post", lw=1.5, **look)  # type: ignore[arg-type]


def _name_layers(axes: Axes, names: list[str] | tuple[str, ...]) -> None:
    turn = 90 if sum(map(len, names)) > 30 else 0
    axes.set_xticks(range(len(names)), names, fontsize=8, rotation=turn, parse_math=False)
    quiet(axes)
