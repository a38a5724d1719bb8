"""Figures of memorization in generative models: quantiles of M, its distribution, images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from memviz.checks import check_shapes, checked
from memviz.plots import style
from memviz.plots.style import NULL, quiet

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from memviz.scores import Scores

_LINES = ("#0072B2", "#D55E00", "#00805E", "#4A4A4A")
_BINS = 40


class HasQuantiles(Protocol):
    """Trainings that know the quantiles of M by epoch, such as a CrossFit."""

    def quantiles(self, q: Any = ..., seed: int = ...) -> pd.DataFrame:
        """One row per epoch."""


@checked
def against_epochs(fits: Mapping[float, HasQuantiles], level: float = 0.95) -> Figure:
    """A quantile of M against epochs for each learning rate, and held-out log p below it.

    Dashed, the same quantile with in and out of training drawn at random.

    Parameters
    ----------
    fits : mapping of learning rate to CrossFit
    level : float
        Of the quantile, from 0 to 1.

    Examples
    --------
    >>> import torch
    >>> from memviz.probes.density import cross_fit
    >>> def fit(inputs, chosen, seed):
    ...     return {epoch: torch.rand(6) for epoch in (1, 2)}
    >>> fits = cross_fit(torch.zeros(6), fit, folds=3, repeats=2, progress=False)
    >>> len(against_epochs({0.001: fits}).axes)
    2
    """
    if not fits or not 0 <= level <= 1:
        raise ValueError(
            f"there are trainings of {len(fits)} rates and level is {level}; give at least one, "
            "and a level from 0 to 1."
        )
    figure = style.figure(5.6, 4.8)
    upper, lower = figure.subplots(2, 1, sharex=True)
    name = f"q{level:g}".replace("0.", ".")
    for (rate, of_rate), colour in zip(fits.items(), _LINES * len(fits), strict=False):
        table = of_rate.quantiles([level])
        look = {"color": colour, "marker": "o", "ms": 4}
        upper.plot(table.index, table[name], label=f"learning rate {rate:g}", **look)
        upper.plot(table.index, table[f"null {name}"], color=colour, ls="--", lw=1)
        lower.plot(table.index, table["held-out log p"], **look)
    upper.set_ylabel(f"{name[1:]} quantile of M, nats", fontsize=8)
    lower.set_ylabel("held-out log p, nats", fontsize=8)
    lower.set_xlabel("epoch", fontsize=8)
    upper.set_title("dashed: in and out of training drawn at random", loc="left", fontsize=9)
    style.legend(upper)
    for axes in (upper, lower):
        axes.tick_params(labelsize=7)
        quiet(axes)
    return figure


def histogram(scores: Scores, marked: Mapping[str, np.ndarray] | None = None) -> Figure:
    """Distribution of M; grey, its null; a line at its .95 quantile; marked examples as ticks.

    Parameters
    ----------
    scores : Scores
        Over examples, with a null.
    marked : mapping of words to int ``[m]``, optional
        Examples to mark.
    """
    if scores.examples is None or scores.null is None:
        raise ValueError("give scores over examples with their null, such as memorization().")
    values = scores.values[np.isfinite(scores.values)]
    null = scores.null.values[np.isfinite(scores.null.values)]
    figure = style.figure(5.6, 3.0)
    axes = figure.subplots()
    bins = np.linspace(min(values.min(), null.min()), values.max() + 1e-9, _BINS).tolist()
    weights = np.full(len(null), len(values) / max(len(null), 1))
    axes.hist(null, bins=bins, weights=weights, color=NULL, alpha=0.5, log=True, label="null")
    axes.hist(values, bins=bins, histtype="step", color=_LINES[0], lw=1.6, log=True, label="M")
    cut = float(np.quantile(values, 0.95))
    axes.axvline(cut, color=_LINES[0], ls="--", lw=1)
    axes.annotate(" .95", (cut, 0.97), xycoords=("data", "axes fraction"), fontsize=7, va="top")
    for place, (words, examples) in enumerate((marked or {}).items(), 1):
        chosen = scores.values[np.isin(scores.examples, examples)]
        height = np.full(len(chosen), 0.5 * 1.35**place)
        colour = _LINES[place % len(_LINES)]
        axes.plot(chosen, height, "|", color=colour, ms=12, mew=2, label=words)
    axes.set_ylim(bottom=0.5)
    axes.set_xlabel("M, nats", fontsize=8)
    axes.set_ylabel("examples", fontsize=8)
    axes.tick_params(labelsize=7)
    style.legend(axes)
    quiet(axes)
    return figure


@checked
def against_log_p(log_p: np.ndarray, memorization: np.ndarray, bins: int = 12) -> Figure:
    """Examples by log p(x), and the share of the 5 % largest M in each bin.

    Parameters
    ----------
    log_p : ``[n]``
        In nats, of models that were trained on the examples: ``CrossFit.in_training()``.
    memorization : ``[n]``
    bins : int

    Examples
    --------
    >>> len(against_log_p(np.arange(40.0), np.arange(40.0)).axes)
    2
    """
    check_shapes(1, log_p=log_p, memorization=memorization)
    if bins < 1 or not len(log_p):
        raise ValueError(f"bins is {bins} for {len(log_p)} examples; give at least one of each.")
    high = memorization >= np.nanquantile(memorization, 0.95)
    edges = np.histogram_bin_edges(log_p[np.isfinite(log_p)], bins)
    all_of, high_of = (np.histogram(some, edges)[0] for some in (log_p, log_p[high]))
    figure = style.figure(5.6, 3.0)
    axes = figure.subplots()
    width = np.diff(edges)
    axes.bar(edges[:-1], all_of, width, align="edge", color=NULL, alpha=0.5)
    axes.set_xlabel("log p(x) in training, nats", fontsize=8)
    axes.set_ylabel("examples (grey)", fontsize=8)
    right: Axes = axes.twinx()
    known = all_of > 0
    share = high_of[known] / all_of[known]
    right.plot((edges[:-1] + width / 2)[known], share, "o", color=_LINES[1], ms=5)
    right.set_ylim(0, 1.05)
    right.set_ylabel("share of the 5 % largest M (points)", fontsize=8)
    for some in (axes, right):
        some.tick_params(labelsize=7)
    axes.spines["top"].set_visible(False)
    right.spines["top"].set_visible(False)
    return figure


def extremes(images: np.ndarray, scores: Scores, count: int = 12) -> Figure:
    """Images of the lowest, the median and the highest M, a row each, with M below them.

    Parameters
    ----------
    images : ``[N, h, w]`` or ``[N, h, w, 3]``
        Of all examples, such as ``study.images``.
    scores : Scores
        Over examples.
    count : int
        Images per row.
    """
    if scores.examples is None:
        raise ValueError(f"{scores.name!r} is over units; give scores over examples.")
    order = scores.order()[::-1]
    count = min(count, len(order))
    if count < 1:
        raise ValueError("there is no example with a known score to show.")
    middle = (len(order) - count) // 2
    rows = {
        "lowest": order[:count],
        "median": order[middle : middle + count],
        "highest": order[-count:][::-1],
    }
    figure = style.figure(0.62 * count + 0.7, 2.9)
    panels = figure.subplots(3, count, squeeze=False)
    for axes_of_row, (words, chosen) in zip(panels, rows.items(), strict=True):
        for axes, row in zip(axes_of_row, chosen, strict=True):
            axes.imshow(images[scores.examples[row]], cmap="gray", interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.set_xlabel(f"{scores.values[row]:.1f}", fontsize=7)
        axes_of_row[0].set_ylabel(words, fontsize=8)
    return figure


@checked
def against_ratio(ratio: np.ndarray, memorization: np.ndarray) -> Figure:
    """The nearest-neighbour ratio against M: what the usual test sees of memorization.

    Parameters
    ----------
    ratio, memorization : ``[n]``

    Examples
    --------
    >>> len(against_ratio(np.ones(4), np.arange(4.0)).axes)
    1
    """
    from memviz.statistics import spearman

    check_shapes(1, ratio=ratio, memorization=memorization)
    figure = style.figure(4.6, 3.4)
    axes = figure.subplots()
    axes.plot(memorization, ratio, ".", color=_LINES[0], ms=4, alpha=0.6)
    axes.axhline(1, color=NULL, lw=1, ls="--")
    correlation = spearman(ratio, memorization)
    axes.set_title(f"Spearman rank correlation {correlation:.2f}", loc="left", fontsize=9)
    axes.set_xlabel("M, nats", fontsize=8)
    axes.set_ylabel("nearest held-out / nearest generated", fontsize=8)
    axes.tick_params(labelsize=7)
    quiet(axes)
    return figure
