"""Named values as bars, with their null beside them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from memviz.plots import style
from memviz.plots.style import NULL, legend, quiet

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def bars(
    labels: Sequence[str],
    values: np.ndarray,
    *,
    title: str,
    measure: str,
    along: str = "",
    exact: np.ndarray | None = None,
    null: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
    null_words: str = "",
) -> Figure:
    """Bars in the order given: filled if exact, hatched if estimated, the null in grey.

    Parameters
    ----------
    labels : sequence of str, ``R`` of them
    values : float ``[R]``
    title, measure, along : str
        Title, label of the vertical axis and of the horizontal one.
    exact : bool ``[R]``, optional
        All of them by default.
    null : three arrays, float ``[R]`` each, optional
        Lower end, mean and upper end of the null.
    null_words : str
        What the null is.

    Examples
    --------
    >>> figure = bars(["fc:0", "fc:1"], np.array([0.4, 0.1]), title="demo", measure="logits")
    >>> len(figure.axes)
    1
    """
    longest = max((len(label) for label in labels), default=0)
    # Long names stand under the bars, and must not take their room.
    figure = style.figure(max(4.0, 0.22 * len(labels) + 1.5), max(3.2, 2.2 + 0.06 * longest))
    axes = figure.subplots()
    places = np.arange(len(labels))
    drawn = axes.bar(places, values, width=0.7, color="#4D556C", zorder=2)
    for bar, filled in zip(
        drawn, np.ones(len(labels), bool) if exact is None else exact, strict=True
    ):
        if not filled:
            bar.set(facecolor="none", edgecolor="#4D556C", hatch="////")
    if null is not None:
        low, middle, high = null
        look: dict[str, Any] = {
            "fmt": "D",
            "color": NULL,
            "ms": 3,
            "lw": 3,
            "alpha": 0.7,
            "zorder": 3,
        }
        spread = np.abs(np.stack([middle - low, high - middle]))
        axes.errorbar(
            places, middle, spread, label="null: " + textwrap.shorten(null_words, 70), **look
        )
        legend(axes)
    if along:
        axes.set_xlabel(along, fontsize=8, parse_math=False)
    axes.set_xticks(places, labels, rotation=90, fontsize=7, parse_math=False)
    axes.set_ylabel("\n".join(textwrap.wrap(measure, 34)), fontsize=8, parse_math=False)
    axes.set_title(title, loc="left", fontsize=10, parse_math=False)
    quiet(axes)
    return figure
