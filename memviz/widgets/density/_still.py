"""The density explorer as a still picture, for notebooks without a kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from memviz.plots import style

from ._table import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_HELD_OUT = "#9A9A9A"


def still(estimate: Estimate, columns: np.ndarray, opened: int | None, words: str) -> Figure:
    """Histogram of M of all images, beside the likelihoods of the opened one in and out.

    Parameters
    ----------
    estimate : Estimate
        The one looked at.
    columns : int ``[m]``
        The study's example of each column.
    opened : int or None
        The column of the opened image.
    words : str
        When: the learning rate and epoch.
    """
    figure = style.figure(9, 2.8)
    left, right = figure.subplots(1, 2, width_ratios=[1, 1])
    values = np.asarray(estimate.memorization, float)
    known = values[np.isfinite(values)]
    left.hist(known, bins=40, color=style.COLOURS["memorized"])
    low, high = estimate.null_of_quantile
    left.axvspan(low, high, color=style.NULL, alpha=0.4, lw=0)
    left.set_yscale("symlog")
    _name(left, f"M of {len(known):,} images {words}; grey: null of .95", "nats")
    if opened is None:
        right.set_axis_off()
        return figure
    log_p, inside = np.asarray(estimate.log_p)[:, opened], np.asarray(estimate.is_in)[:, opened]
    bins = np.histogram_bin_edges(log_p[np.isfinite(log_p)], bins=30)
    right.hist(log_p[inside], bins, color=style.COLOURS["memorized"], label="in training")
    right.hist(log_p[~inside], bins, color=_HELD_OUT, label="held out")
    for value in (estimate.inside[opened], estimate.outside[opened]):
        right.axvline(float(value), color="0.3", lw=1)
    style.legend(right, fontsize=8)
    _name(right, f"image {int(columns[opened]):,}: M {values[opened]:.1f} nats", "log p, nats")
    return figure


def _name(axes: Axes, title: str, below: str) -> None:
    style.quiet(axes)
    axes.set_title(title, fontsize=9, loc="left", parse_math=False)
    axes.set_xlabel(below, fontsize=8)
    axes.tick_params(labelsize=8)
