"""Figures of a contest: who finds the planted units, what their ablation does, what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from memviz.checks import quoted
from memviz.plots import style
from memviz.plots.style import NULL, legend, quiet

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = "PuOr_r"  # orange is more than random, violet less; safe for colour-blind eyes
_LINES = ("#0072B2", "#D55E00", "#00805E", "#CC79A7", "#8A6D00", "#4A4A4A", "#56B4E9")
_MARKS = "os^DvP*"


class Entry(Protocol):
    """What the curves read of one localizer on one truth."""

    @property
    def truth(self) -> str:
        """Name of the truth."""

    @property
    def localizer(self) -> str:
        """Name of the localizer."""

    @property
    def units(self) -> int:
        """How many units there are."""

    @property
    def k(self) -> int:
        """How many of them are named."""

    @property
    def curve(self) -> np.ndarray:
        """Recall at 0, 1, … units named, ``[units + 1]``."""


class Contest(Protocol):
    """What the figures read of a contest."""

    @property
    def entries(self) -> Sequence[Entry]:
        """One per truth, seed and localizer."""

    @property
    def truths(self) -> Sequence[str]:
        """Names of the truths."""

    @property
    def localizers(self) -> Sequence[str]:
        """Names of the rows, the references among them."""

    @property
    def references(self) -> tuple[str, str]:
        """Names of the rows of planted and of random units."""

    @property
    def frame(self) -> pd.DataFrame:
        """Columns ``localizer``, ``truth``, ``recall`` and ``random high``, a row per entry."""

    def table(self, what: str, /) -> pd.DataFrame:
        """One measure, localizers × truths, mean over the seeds."""


def contest(result: Contest) -> Figure:
    """Recall, net drop and seconds: a row per localizer, a column per truth, means over the seeds.

    The number is the measure. Its colour says how far it lies from what random units reach (white)
    towards the maximum (orange); below random it is violet. Recall above the 95 % interval of
    random units in every seed is bold.
    """
    recall, net, seconds = (result.table(what) for what in ("recall", "net drop", "seconds"))
    planted = [truth for truth in result.truths if recall[truth].notna().any()]
    order = _order(result, recall[planted])
    height = 0.3 * len(order) + 1.9
    figure = style.figure(0.62 * (len(planted) + len(result.truths)) + 5.2, height)
    widths = [max(len(planted), 1), len(result.truths), 3]
    left, middle, right = figure.subplots(1, 3, sharey=True, width_ratios=widths)
    _matrix(left, recall.loc[order, planted], _sure(result))
    left.set_title("planted units found", loc="left", fontsize=10)
    _matrix(middle, net.loc[order], set())
    middle.set_title("accuracy lost, memorized − clean", loc="left", fontsize=10)
    for row, name in enumerate(order):
        values = seconds.loc[name].dropna().to_numpy(float)
        if len(values):
            right.hlines(row, values.min(), values.max(), color=NULL, lw=1.5)
            right.plot(np.median(values), row, "o", color="#4A4A4A", ms=5)
    right.set(xscale="log", xlabel="seconds per truth")
    right.set_title("cost: median, range", loc="left", fontsize=10)
    right.spines[["top", "right", "left"]].set_visible(False)
    right.grid(axis="x", alpha=0.25, linewidth=0.6)
    left.set_yticks(range(len(order)), order, fontsize=9, parse_math=False)
    for name, label in zip(order, left.get_yticklabels(), strict=True):
        if name in result.references:
            label.set_style("italic")
    for axes in (middle, right):
        axes.tick_params(left=False)
    return figure


def recall_curves(result: Contest, localizers: Sequence[str] | None = None) -> Figure:
    """Recall against units named, a panel per truth; thin lines are seeds, grey is random.

    Raises
    ------
    ValueError
        If a localizer was not in the contest, or no truth is known.
    """
    recall = result.table("recall")
    planted = [truth for truth in result.truths if recall[truth].notna().any()]
    if not planted:
        raise ValueError("no truth of this contest is known, so there is no recall to draw.")
    ranked = _order(result, recall[planted])
    chosen = [name for name in ranked if name not in result.references][:5]
    chosen += ["exact ablation"] * ("exact ablation" in ranked and "exact ablation" not in chosen)
    chosen = chosen if localizers is None else list(localizers)
    unknown = [name for name in chosen if name not in ranked]
    if unknown:
        raise ValueError(
            f"{quoted(unknown[0])} was not in the contest; there are {', '.join(ranked)}."
        )
    columns = min(3, len(planted))
    rows = -(-len(planted) // columns)
    figure = style.figure(3.2 * columns + 1.8, 2.6 * rows + 0.3)
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for axes, truth in zip(panels, planted, strict=False):
        _panel(axes, result, truth, chosen)
    for axes in panels[len(planted) :]:
        axes.set_visible(False)
    for row in range(rows):
        panels[row * columns].set_ylabel("recall")
    handles, labels = panels[0].get_legend_handles_labels()
    legend(figure, handles, labels, loc="outside right center")
    return figure


def _panel(axes: Axes, result: Contest, truth: str, chosen: Sequence[str]) -> None:
    entries = [entry for entry in result.entries if entry.truth == truth]
    size = max(entry.units for entry in entries)  # seeds may differ
    named = np.arange(size + 1)

    def curves_of(name: str) -> list[np.ndarray]:
        found = [entry.curve for entry in entries if entry.localizer == name]
        return [np.pad(curve, (0, size + 1 - len(curve)), mode="edge") for curve in found]

    random = np.mean(curves_of(result.references[1]), 0)
    axes.plot(named, random, color=NULL, ls="--", lw=1, label=result.references[1])
    for k, name in enumerate(chosen):
        curves = curves_of(name)
        look: dict[str, Any] = {"color": _LINES[k % len(_LINES)], "marker": _MARKS[k % len(_MARKS)]}
        if len(curves) == 0:
            axes.plot([], [], ms=4, label=name, **look)  # it does not fit, but has its legend
            continue
        for curve in curves if len(curves) > 1 else ():
            axes.plot(named, curve, color=look["color"], lw=0.6, alpha=0.4)
        axes.plot(
            named,
            np.mean(curves, 0),
            lw=1.6,
            ms=4,
            markevery=(k, size // 6 or 1),
            label=name,
            **look,
        )
    for k in {entry.k for entry in entries}:
        axes.axvline(k, color="#555555", ls=":", lw=0.8)
    axes.set(ylim=(-0.03, 1.03), xlabel="units named")
    axes.set_title(truth, loc="left", fontsize=9, parse_math=False)
    quiet(axes)


def _order(result: Contest, recall: pd.DataFrame) -> list[str]:
    """Planted units first, random ones last, between them by mean recall."""
    planted, random = result.references
    mean = recall.fillna(0).mean(axis="columns").to_dict()
    others = [name for name in result.localizers if name not in result.references]
    others.sort(key=lambda name: -mean.get(name, 0.0))
    first = [planted] if planted in result.localizers else []
    return [*first, *others, random]


def _sure(result: Contest) -> set[tuple[str, str]]:
    """(localizer, truth) where recall is above random's interval in every seed."""
    frame = result.frame
    frame = frame[~frame["localizer"].isin(result.references)]
    above = (frame["recall"] > frame["random high"]).groupby([frame["localizer"], frame["truth"]])
    return {key for key, every in above.all().items() if every}  # type: ignore[misc]


def _matrix(axes: Axes, values: pd.DataFrame, sure: set[tuple[str, str]]) -> None:
    table = values.to_numpy(float)
    null = table[-1:]  # random units stand last
    with np.errstate(invalid="ignore", divide="ignore"):
        colour = np.where(table >= null, (table - null) / (1 - null), (table - null) / (1 + null))
    axes.imshow(np.ma.masked_invalid(colour), cmap=_COLOURS, vmin=-1.2, vmax=1.2, aspect="auto")
    for row, name in enumerate(values.index):
        for column, truth in enumerate(values.columns):
            value = table[row, column]
            text = "–" if np.isnan(value) else f"{value:.2f}"
            weight = "bold" if (name, truth) in sure else "normal"
            strong = abs(np.nan_to_num(colour[row, column])) > 0.85
            shade = "white" if strong else "black"
            axes.text(
                column, row, text, ha="center", va="center", fontsize=8, weight=weight, color=shade
            )
    axes.set_xticks(
        range(len(values.columns)),
        values.columns,
        rotation=35,
        ha="right",
        rotation_mode="anchor",
        fontsize=8,
        parse_math=False,
    )
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
