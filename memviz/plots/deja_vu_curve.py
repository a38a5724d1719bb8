"""Déjà vu and utility against the number of ablated units."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from memviz.plots import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from memviz.probes.deja_vu_units import GapCurve

_PANELS = (("PPG", 0, 3), ("AUCG", 2, 5), ("utility", 6, None))


def gap_curve(curve: GapCurve) -> Figure:
    """Three panels: PPG, AUCG and utility; held-out pairs dotted, random units as a grey band."""
    figure = style.figure(8.4, 2.7)
    places = np.arange(len(curve.counts))
    low, high = np.percentile(curve.random, [2.5, 97.5], axis=0)
    for axes, (name, column, null) in zip(figure.subplots(1, 3), _PANELS, strict=True):
        axes.fill_between(places, low[:, column], high[:, column], color="0.85", lw=0)
        axes.plot(
            places,
            curve.random.mean(0)[:, column],
            color="0.6",
            marker="D",
            ms=3,
            label="random units",
        )
        axes.plot(
            places,
            curve.chosen[:, column],
            color="#D55E00",
            marker="o",
            ms=4,
            label="highest units",
        )
        if null is not None:
            axes.plot(places, curve.chosen[:, null], color="0.3", ls=":", label="held-out pairs")
            axes.axhline(0, color="0.8", lw=0.8, zorder=0)
        axes.set_xticks(places, [f"{count:,}" for count in curve.counts], fontsize=7)
        axes.set_xlabel("units ablated", fontsize=8)
        axes.set_title(name, fontsize=9, loc="left")
        axes.tick_params(labelsize=7)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    figure.axes[0].legend(fontsize=7, frameon=False)
    return figure
