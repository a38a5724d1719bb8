"""Accuracy of each group against the number of ablated units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from memviz.plots import style
from memviz.plots.style import group_style, legend, quiet

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Curve(Protocol):
    """What the figure reads of an ablation curve: ``K`` counts of units, ``G`` groups."""

    @property
    def name(self) -> str:
        """What the units were ranked by."""

    @property
    def counts(self) -> Sequence[int]:
        """How many units at each point, ``K`` of them."""

    @property
    def groups(self) -> Sequence[str]:
        """``G`` of them."""

    @property
    def chosen(self) -> np.ndarray:
        """Accuracy with the k highest units ablated, ``[K, G]``."""

    @property
    def random(self) -> np.ndarray:
        """Accuracy with as many random units ablated, ``[draws, K, G]``; perhaps no draws."""


def ablation_curve(curve: Curve) -> Figure:
    """One study's curve; dashed lines and bands: as many random units."""
    return ablation_curves([curve])


def ablation_curves(curves: Sequence[Curve]) -> Figure:
    """Mean of several studies' curves, a thin line per study, with the same counts and groups.

    Raises
    ------
    ValueError
        If the curves differ in counts or groups.
    """
    first = curves[0]
    if any(c.counts != first.counts or c.groups != first.groups for c in curves):
        raise ValueError("the curves differ in counts or groups; draw them one by one.")
    figure = style.figure(5.6, 3.4)
    axes = figure.subplots()
    chosen = np.stack([c.chosen for c in curves])
    random = np.concatenate([c.random for c in curves])
    for g, name in enumerate(first.groups):
        look = group_style(name)
        if len(curves) > 1:
            for line in chosen:
                axes.plot(first.counts, line[:, g], color=look["color"], lw=0.7, alpha=0.4)
        axes.plot(first.counts, chosen.mean(0)[:, g], ms=5, lw=1.8, label=name, **look)
        if len(random):
            low, high = np.percentile(random[..., g], [2.5, 97.5], axis=0)
            axes.plot(first.counts, random[..., g].mean(0), ls="--", lw=1, color=look["color"])
            axes.fill_between(first.counts, low, high, color=look["color"], alpha=0.1, lw=0)
    words = "as many random units" if len(random) else "no null: no random units drawn"
    axes.plot([], [], ls="--" if len(random) else "", lw=1, color="#555555", label=words)
    axes.set(ylim=(-0.03, 1.03), xlabel="units ablated", ylabel="accuracy")
    axes.set_title(f"by {first.name}", loc="left", fontsize=10, parse_math=False)
    legend(axes)
    quiet(axes)
    return figure
