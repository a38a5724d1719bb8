"""Figures of scores over examples: rank correlations, agreement with the truth, distributions."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from memviz.checks import quoted
from memviz.plots import style
from memviz.plots.style import NULL, group_style, is_dark, quiet

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from memviz.scores import Scores
    from memviz.study import Study

_BINS = 30


def rank_correlations(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Rank correlation of each pair of scores, a panel per set of examples, a number per cell.

    Parameters
    ----------
    tables : mapping of title to DataFrame ``[scores, scores]``
        As :func:`memviz.probes.examples.rank_correlations` returns it.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame([[1.0, 0.3], [0.3, 1.0]], index=["a", "b"], columns=["a", "b"])
    >>> len(rank_correlations({"all examples": table, "clean examples": table}).axes)
    3
    """
    import seaborn as sns

    if not tables:
        raise ValueError("there is no table to draw; give at least one.")
    sizes = [len(table) for table in tables.values()]
    side = max(2.6, 0.42 * max(sizes) + 1.1)
    figure = style.figure(side * len(tables) + 2.8, side + 0.9)
    panels = figure.subplots(1, len(tables), squeeze=False)[0]
    for place, (title, table) in enumerate(tables.items()):
        axes = panels[place]
        sns.heatmap(
            table,
            ax=axes,
            vmin=-1,
            vmax=1,
            cmap="icefire" if is_dark() else "vlag",
            annot=np.vectorize(_short)(table.to_numpy(float)),
            fmt="",
            annot_kws={"fontsize": 7.5},
            cbar=False,
            linewidths=0.4,
            linecolor=NULL,
        )
        axes.set_title(title, loc="left", fontsize=10, parse_math=False)
        axes.tick_params(length=0)
        names = [str(name) for name in table.columns]
        axes.set_xticklabels(names, fontsize=8, rotation=90, parse_math=False)
        axes.set_yticklabels(names if place == 0 else [], fontsize=8, rotation=0, parse_math=False)
    bar = figure.colorbar(panels[-1].collections[0], ax=list(panels), shrink=0.6, pad=0.02)
    bar.set_label("Spearman rank correlation", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return figure


def agreement(table: pd.DataFrame) -> Figure:
    """AUROC of each score with its bootstrap interval; grey, the AUROC with the truth permuted.

    Parameters
    ----------
    table : DataFrame
        As :func:`memviz.probes.examples.agreement` returns it.
    """
    figure = style.figure(6.4, 0.3 * len(table) + 1.2)
    axes = figure.subplots()
    places = np.arange(len(table))
    axes.hlines(places, table["null low"], table["null high"], color=NULL, lw=7, alpha=0.45)
    axes.hlines(places, table["low"], table["high"], color="#0072B2", lw=2)
    axes.plot(table["auroc"], places, "o", color="#0072B2", ms=5)
    for place, value in zip(places, table["auroc"], strict=True):
        axes.annotate(
            _short(value, 3),
            (1.0, float(place)),
            xycoords=axes.get_yaxis_transform(),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.set_yticks(places, [str(name) for name in table.index], fontsize=8, parse_math=False)
    axes.set(ylim=(len(table) - 0.4, -0.6), xlim=(min(0.4, float(table["low"].min())), 1.01))
    axes.set_xlabel("AUROC: planted above the others, ties half", fontsize=8)
    axes.set_title("what each score finds (grey: truth permuted)", loc="left", fontsize=10)
    quiet(axes)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.grid(axis="x", alpha=0.25, linewidth=0.6)
    return figure


def distribution(scores: Scores, study: Study) -> Figure:
    """Histogram of the finite scores of each group, on a log scale; dashed, the ends of the null.

    Parameters
    ----------
    scores : Scores
        Over examples.
    study : Study

    Raises
    ------
    ValueError
        If the scores are over units.

    Examples
    --------
    >>> import torch
    >>> from memviz.scores import Scores
    >>> from memviz.study import Study
    >>> study = Study(torch.nn.Linear(1, 2).eval(), torch.zeros(4, 1), [0] * 4, {"test": range(4)})
    >>> figure = distribution(Scores("demo", "nats", np.arange(4.0), examples=np.arange(4)), study)
    >>> len(figure.axes)
    1
    """
    if scores.examples is None:
        raise ValueError(f"{quoted(scores.name)} is over units; give scores over examples.")
    known = np.isfinite(scores.values)
    values, examples = scores.values[known], np.asarray(scores.examples)[known]
    present = {name: mask.numpy()[examples] for name, mask in study.groups.items()}
    present = {name: mask for name, mask in present.items() if mask.any()}
    figure = style.figure(5.6, 1.1 * max(len(present), 1) + 1.0)
    panels = figure.subplots(max(len(present), 1), 1, sharex=True, squeeze=False)[:, 0]
    ends = (values.min(), values.max()) if len(values) else (0.0, 1.0)
    for axes, (name, mask) in zip(panels, present.items(), strict=True):
        _group(axes, name, values[mask], ends)
        if scores.null is not None:
            for end in scores.null.interval:
                axes.axvline(float(np.nanmean(end)), color=NULL, lw=1, ls="--")
    panels[0].set_title(scores.name, loc="left", fontsize=10, parse_math=False)
    panels[-1].set_xlabel("\n".join(textwrap.wrap(scores.measure, 70)), fontsize=8)
    return figure


def _group(axes: Axes, name: str, values: np.ndarray, ends: tuple[float, float]) -> None:
    colour = group_style(name)["color"]
    # Most clean examples score about 0; the long tail shows on a log scale only.
    axes.hist(values, bins=_BINS, range=ends, color=colour, alpha=0.85, log=True)
    axes.set_ylim(bottom=0.7)
    axes.axvline(float(values.mean()), color=colour, lw=1.2)
    words = f"{name} · {len(values)}\nmean {_short(values.mean())}"
    axes.set_ylabel(words, fontsize=8, rotation=0, ha="right", va="center", parse_math=False)
    axes.tick_params(labelsize=7)
    quiet(axes)


def _short(value: float, digits: int = 2) -> str:
    """The number without its leading zero, to fit into a cell."""
    if np.isnan(value):
        return "–"
    return f"{value:.{digits}f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.{digits}f}"
