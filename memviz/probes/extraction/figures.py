"""Figures of what is recited: against copies or the prompt's length, and by score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np

from memviz.checks import checked, listed
from memviz.plots import style
from memviz.plots.style import NULL, quiet

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_LOOKS = (("#E69F00", "o"), ("#0072B2", "s"), ("#D55E00", "^"), ("#00805E", "D"), ("#8A6FB0", "v"))
_AXES = {"copies": "copies in training", "prompt": "tokens of the prompt"}


class HasScores(Protocol):
    """What is read of an Extraction."""

    @property
    def scores(self) -> np.ndarray:
        """The share of right tokens of each passage."""

    @property
    def constant_rate(self) -> np.ndarray:
        """The share of passages with each score, by chance."""

    @property
    def continuation(self) -> int:
        """Tokens of a continuation."""


@checked
def recited(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """The recited share against copies or the prompt's length, a line per model.

    Bands are Wilson's 95 % intervals. Grey, the null: held-out passages of the first model that has
    some.

    Parameters
    ----------
    tables : mapping of name to pandas.DataFrame
        What :func:`~memviz.probes.extraction.recited_by_copies` or
        :func:`~memviz.probes.extraction.recited_by_prompt` returned, all of the same kind.

    Raises
    ------
    ValueError
        If there are no tables, or some of another kind.

    Examples
    --------
    >>> from memviz.probes.extraction import recited_by_copies
    >>> table = recited_by_copies([True, False, False], [8, 1, 0])
    >>> recited({"large": table}).axes[0].get_xlabel()
    'copies in training'
    """
    kinds = {str(table.index.name) for table in tables.values()}
    if len(kinds) != 1 or not kinds <= set(_AXES):
        raise ValueError(
            f"the tables are by {listed(kinds)}; give tables of recited_by_copies(), or of "
            "recited_by_prompt()."
        )
    figure = style.figure(5.6, 3.0)
    axes = figure.subplots()
    for place, (name, table) in enumerate(tables.items()):
        colour, mark = _LOOKS[place % len(_LOOKS)]
        axes.fill_between(table.index, table["low"], table["high"], color=colour, alpha=0.18, lw=0)
        axes.plot(table.index, table["share"], color=colour, marker=mark, ms=4, label=name)
    null = next((t for t in tables.values() if t["null"].notna().any()), None)
    if null is not None:
        axes.fill_between(null.index, null["null_low"], null["null_high"], color=NULL, alpha=0.3)
        axes.plot(null.index, null["null"], color=NULL, marker="D", ms=3, label="held out")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel(_AXES[kinds.pop()], fontsize=8)
    axes.set_ylabel("share recited", fontsize=8)
    axes.tick_params(labelsize=7)
    style.legend(axes)
    quiet(axes)
    return figure


def histogram(extractions: Mapping[str, HasScores]) -> Figure:
    """Passages by score, a panel each; the line is what a constant rate per token would give.

    Parameters
    ----------
    extractions : mapping of title to Extraction
        Such as of passages in training, and of held-out ones.

    Raises
    ------
    ValueError
        If there are none.

    Examples
    --------
    >>> import torch
    >>> from memviz.probes.extraction import Extraction
    >>> found = Extraction(("a",), torch.tensor([[0, 1, 2]]), torch.tensor([[1, 0]]), 1, 2)
    >>> len(histogram({"trained on": found, "held out": found}).axes)
    2
    """
    if not extractions:
        raise ValueError("there is nothing to draw; give extractions by title.")
    figure = style.figure(1 + 3.6 * len(extractions), 2.8)
    places = figure.subplots(1, len(extractions), sharex=True, squeeze=False)[0]
    for axes, (title, found) in zip(places, extractions.items(), strict=True):
        n, steps = len(found.scores), found.continuation
        edges = ((np.arange(steps + 2) - 0.5) / steps).tolist()
        axes.hist(found.scores, edges, color=_LOOKS[1][0])
        axes.plot(
            np.arange(steps + 1) / steps, found.constant_rate * n, color=NULL, label="constant rate"
        )
        axes.set_title(f"{n:,} passages {title}", fontsize=9, loc="left", parse_math=False)
        axes.set_xlabel("score", fontsize=8)
        axes.tick_params(labelsize=7)
        quiet(axes)
    places[0].set_ylabel("passages", fontsize=8)
    style.legend(places[-1])
    return figure
