"""The highest of a Scores as bars, its null beside."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np

from memviz.plots import style
from memviz.plots.style import NULL, quiet

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from memviz.scores import Scores


def scores(scores: Scores, k: int = 40) -> Figure:
    """Bars of the k highest; filled where exact, hatched where estimated; the null's 95 % in grey.

    Examples
    --------
    >>> import numpy as np
    >>> from memviz.scores import Scores
    >>> figure = scores_figure = scores(Scores("demo", "logits", np.ones(3), examples=np.arange(3)))
    >>> len(figure.axes)
    1
    """
    rows = scores.order()[:k]
    figure = style.figure(max(4.0, 0.22 * len(rows) + 1.5), 3.2)
    axes = figure.subplots()
    places = np.arange(len(rows))
    exact = np.ones(len(scores), bool) if scores.exact is None else scores.exact
    bars = axes.bar(places, scores.values[rows], width=0.7, color="#4D556C", zorder=2)
    for bar, row in zip(bars, rows, strict=True):
        if not exact[row]:
            bar.set(facecolor="none", edgecolor="#4D556C", hatch="////")
    if scores.null is not None:
        low, high = scores.null.interval
        middle = scores.null.mean[rows]
        spread = np.abs(np.stack([middle - low[rows], high[rows] - middle]))
        axes.errorbar(
            places,
            middle,
            spread,
            fmt="D",
            color=NULL,
            ms=3,
            lw=3,
            alpha=0.7,
            zorder=3,
            label="null: " + textwrap.shorten(scores.null.words, 70),
        )
        axes.legend(frameon=False, fontsize=8)
    if scores.units is not None:
        labels = [str(scores.units[row]) for row in rows]
    else:
        labels = [str(example) for example in np.asarray(scores.examples)[rows]]
        axes.set_xlabel("example", fontsize=8)
    axes.set_xticks(places, labels, rotation=90, fontsize=7, parse_math=False)
    axes.set_ylabel("\n".join(textwrap.wrap(scores.measure, 34)), fontsize=8)
    axes.set_title(f"{scores.name}: the {len(rows)} highest", loc="left", fontsize=10)
    quiet(axes)
    return figure
