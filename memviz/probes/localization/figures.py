"""Figures of where memorization is: gradients, rewinding, retraining, critical units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from memviz.plots import style
from memviz.plots.style import NULL, group_style, legend, quiet

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NOISY, _CLEAN = group_style("memorized"), group_style("clean")


class Accounting(Protocol):
    """What a figure reads of gradient accounting: ``E`` epochs, ``L`` layers."""

    @property
    def layers(self) -> Sequence[str]:
        """``L`` of them."""

    @property
    def clean(self) -> np.ndarray:
        """Gradient norm of clean examples, ``[E, L]``."""

    @property
    def noisy(self) -> np.ndarray:
        """Gradient norm of noisy examples, ``[E, L]``."""

    @property
    def cosine(self) -> np.ndarray:
        """Cosine between the two gradients, ``[E, L]``."""

    @property
    def null_cosine(self) -> np.ndarray:
        """The same for random examples, ``[draws, E, L]``."""

    @property
    def ratio(self) -> np.ndarray:
        """Noisy norm over clean norm, ``[L]``."""

    @property
    def null_ratio(self) -> np.ndarray:
        """The same for random examples, ``[draws, L]``."""

    @property
    def share(self) -> float:
        """Share of noisy examples."""


class Rewound(Protocol):
    """What a figure reads of layer rewinding: ``L`` layers, ``E`` epochs, ``G`` groups."""

    @property
    def layers(self) -> Sequence[str]:
        """``L`` of them."""

    @property
    def epochs(self) -> Sequence[int]:
        """``E`` of them."""

    @property
    def groups(self) -> Sequence[str]:
        """``G`` of them."""

    @property
    def parameters(self) -> np.ndarray:
        """Accuracy with a layer's parameters put back, ``[L, E, G]``."""

    @property
    def with_buffers(self) -> np.ndarray:
        """Accuracy with its batch-norm statistics put back as well, ``[L, E, G]``."""

    @property
    def checkpoints(self) -> np.ndarray:
        """Accuracy with the whole network put back, ``[E, G]``."""


class Retrained(Protocol):
    """What a figure reads of layer retraining."""

    @property
    def by_layer(self) -> pd.DataFrame:
        """A row per layer; columns ``"<group> rewound"`` and ``"<group> retrained"``."""

    @property
    def groups(self) -> Sequence[str]:
        """Names of the groups."""

    @property
    def epoch(self) -> int:
        """The epoch the layers were put back to."""

    @property
    def trained_on(self) -> str:
        """The group the layers were trained on."""


class Critical(Protocol):
    """What a figure reads of a search for critical units, of ``k`` examples."""

    @property
    def frame(self) -> pd.DataFrame:
        """A row per example, with its ``group`` and ``count``."""

    @property
    def by_layer(self) -> pd.DataFrame:
        """A row per layer, a column per group: the layer's share of the group's units."""

    @property
    def random(self) -> np.ndarray:
        """How many units in random order flip each example, ``[draws, k]``."""

    @property
    def how(self) -> str:
        """The intervention."""

    @property
    def method(self) -> str:
        """How the units were searched."""


def gradient_accounting(result: Accounting) -> Figure:
    """Norms of both parts by layer, their ratio beside its null, and the cosine by layer."""
    places = np.arange(len(result.layers))
    figure = style.figure(3 * max(2.6, 0.45 * len(places) + 1.2), 3.2)
    norms, ratio, cosine = figure.subplots(1, 3)
    for offset, values, look, name in (
        (-0.2, result.clean, _CLEAN, "clean"),
        (0.2, result.noisy, _NOISY, "noisy"),
    ):
        norms.bar(places + offset, values.mean(0), 0.38, color=look["color"], label=name)
    norms.set_title("gradient norm, mean over epochs", loc="left", fontsize=9)
    legend(norms)
    _points(ratio, result.ratio, result.null_ratio)
    ratio.axhline(result.share / (1 - result.share), color=NULL, ls=":", lw=1)
    ratio.set_ylim(bottom=0)
    ratio.set_title("noisy over clean (dotted: by numbers)", loc="left", fontsize=9)
    _points(cosine, result.cosine.mean(0), result.null_cosine.mean(1))
    cosine.axhline(0, color=NULL, lw=0.8)
    cosine.set_ylim(-1.05, 1.05)
    cosine.set_title("cosine of clean and noisy", loc="left", fontsize=9)
    legend(cosine)
    for axes in (norms, ratio, cosine):
        _name_layers(axes, result.layers)
    return figure


def rewinding(result: Rewound, *, buffers: bool = False) -> Figure:
    """Accuracy by the epoch each layer was put back to, a panel per group; dashed: all layers."""
    import matplotlib

    figure = style.figure(3.2 * len(result.groups) + 1.2, 3.2)
    panels = np.atleast_1d(figure.subplots(1, len(result.groups), sharey=True))
    table = result.with_buffers if buffers else result.parameters
    colours = matplotlib.colormaps["cividis"](np.linspace(0, 0.92, len(result.layers)))
    marks = "os^DvPX<>*"
    for g, (axes, name) in enumerate(zip(panels, result.groups, strict=True)):
        for k, layer in enumerate(result.layers):
            axes.plot(
                result.epochs,
                table[k, :, g],
                color=colours[k],
                marker=marks[k % len(marks)],
                ms=4,
                lw=1.3,
                label=layer,
            )
        axes.plot(result.epochs, result.checkpoints[:, g], ls="--", lw=1, color=NULL, label="all")
        axes.set(ylim=(-0.03, 1.03), xlabel="layer put back to epoch")
        axes.set_title(name, loc="left", fontsize=10, parse_math=False)
        quiet(axes)
    panels[0].set_ylabel("accuracy")
    handles_and_labels = panels[0].get_legend_handles_labels()
    legend(figure, *handles_and_labels, fontsize=10, loc="outside right center")
    return figure


def retraining(result: Retrained) -> Figure:
    """Accuracy of each group by layer: hollow right after rewinding, filled at the end."""
    table = result.by_layer
    places = np.arange(len(table))
    figure = style.figure(max(4.0, 0.6 * len(places) + 2.0), 3.2)
    axes = figure.subplots()
    for g, name in enumerate(result.groups):
        look = group_style(name)
        shifted = places + 0.18 * (g - (len(result.groups) - 1) / 2)
        ends = table[f"{name} rewound"], table[f"{name} retrained"]
        axes.vlines(shifted, *ends, color=look["color"], lw=1)
        axes.plot(shifted, ends[0], ls="", ms=5, mfc="white", **look)
        axes.plot(shifted, ends[1], ls="", ms=5, label=name, **look)
    axes.set(ylim=(-0.03, 1.03), ylabel="accuracy")
    axes.set_title(
        f"hollow: layer put back to epoch {result.epoch}; filled: trained again on "
        f"{result.trained_on} alone",
        loc="left",
        fontsize=9,
        parse_math=False,
    )
    legend(axes)
    _name_layers(axes, list(table.index))
    return figure


def critical_units(result: Critical) -> Figure:
    """Share of a group flipped by this many units (dotted: random order), and their layers."""
    frame, by_layer = result.frame, result.by_layer
    groups = list(by_layer.columns)
    figure = style.figure(5.4 + max(2.4, 0.45 * len(by_layer) + 1), 3.2)
    curve, shares = figure.subplots(1, 2, width_ratios=[5, 4])
    for name in groups:
        examples, look = frame[frame["group"] == name], group_style(name)
        _flipped(curve, examples["count"].to_numpy(), **look, ms=4, label=name)
        if len(result.random):
            _flipped(curve, result.random[:, examples.index].ravel(), color=look["color"], ls=":")
    curve.plot([], [], ls=":", color="#555555", label="random order")
    curve.set(xscale="log", xlabel="units ablated", ylabel="share flipped", ylim=(-0.03, 1.03))
    legend(curve)
    curve.set_title(f"{result.how} ablation, {result.method}", loc="left", fontsize=9)
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
    """Share of the examples flipped by at most this many units, as a step curve."""
    ends = np.sort(counts[np.isfinite(counts)])
    share = np.arange(1, len(ends) + 1) / len(counts)
    axes.step(np.maximum(ends, 1), share, where="post", lw=1.5, **look)  # type: ignore[arg-type]


def _name_layers(axes: Axes, names: Sequence[str]) -> None:
    turn = 90 if sum(map(len, names)) > 30 else 0
    axes.set_xticks(range(len(names)), names, fontsize=8, rotation=turn, parse_math=False)
    quiet(axes)
