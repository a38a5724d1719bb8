"""Déjà vu and utility against the number of ablated units."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from memviz.plots import style
from memviz.plots.style import NULL, quiet

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PANELS = (("PPG", 0, 3), ("AUCG", 2, 5), ("utility", 6, None))
_HIGHEST, _HELD_OUT = "#D55E00", "#4A4A4A"


class Curve(Protocol):
    """What the figure reads of a curve: ``K`` counts of units, seven measures at each.

    These are PPG, PRG, AUCG, the three of the held-out pairs, and the utility.
    """

    @property
    def name(self) -> str:
        """What the units were ranked by."""

    @property
    def counts(self) -> Sequence[int]:
        """How many units at each point, ``K`` of them."""

    @property
    def chosen(self) -> np.ndarray:
        """The measures with the highest units ablated, ``[K, 7]``."""

    @property
    def random(self) -> np.ndarray:
        """The measures with as many random units ablated, ``[draws, K, 7]``."""


def gap_curve(curve: Curve) -> Figure:
    """Three panels: PPG, AUCG and utility, each against the number of units ablated together.

    Dotted, the gaps of held-out pairs with the same units ablated: where they fall too, the model
    is broken rather than made to forget. The grey band holds 95 % of the draws of random units.

    Parameters
    ----------
    curve : GapCurve

    Examples
    --------
    >>> from memviz.probes.deja_vu.ablation import GapCurve
    >>> values = np.linspace(0.6, 0, 14).reshape(2, 7)
    >>> figure = gap_curve(GapCurve([0, 8], values, values[None], "a ranking"))
    >>> [axes.get_title(loc="left") for axes in figure.axes]
    ['PPG', 'AUCG', 'utility']
    """
    figure = style.figure(8.6, 3.2)
    places = np.arange(len(curve.counts))
    low, high = np.percentile(curve.random, [2.5, 97.5], axis=0)
    mean, draws = curve.random.mean(0), len(curve.random)
    panels = figure.subplots(1, len(_PANELS))
    for axes, (name, column, held_out) in zip(panels, _PANELS, strict=True):
        axes.fill_between(places, low[:, column], high[:, column], color=NULL, alpha=0.3, lw=0)
        words = f"random units, mean of {draws} draw{'s' * (draws != 1)}"
        axes.plot(places, mean[:, column], color=NULL, marker="D", ms=4, label=words)
        highest = curve.chosen[:, column]
        axes.plot(places, highest, color=_HIGHEST, marker="o", ms=5, label="highest units")
        if held_out is not None:
            null = curve.chosen[:, held_out]
            if not np.isnan(null).all():
                words = "highest units: held-out pairs"
                axes.plot(places, null, color=_HELD_OUT, ls=":", lw=1.6, label=words)
            axes.axhline(0, color=NULL, lw=0.8, zorder=0)
        axes.set_xticks(places, [f"{count:,}" for count in curve.counts])
        axes.set_xlabel("units ablated")
        axes.set_title(name, loc="left", fontsize=9)
        quiet(axes)
    panels[-1].set_ylim(bottom=0)  # a share: cut off, a small loss would look like a large one
    figure.suptitle(
        textwrap.fill(f"by {curve.name}", 110), fontsize=9, x=0.01, ha="left", parse_math=False
    )
    lines = panels[0].get_legend_handles_labels()
    figure.legend(*lines, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure
