"""Figures of capacity: units needed, precision, the first layer's width, clusters; plain tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memviz.checks import checked
from memviz.plots import style
from memviz.plots.style import NULL, quiet

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Lines are theorems where solid, derivations where dotted; what is measured is a mark.
_LOOKS = {
    "yun": ("Yun, ReLU", "#0072B2"),
    "yun hardtanh": ("Yun, hard-tanh", "#00805E"),
    "yun4": ("Yun, classes", "#56B4E9"),
    "zhang": ("Zhang", "#D55E00"),
    "bubeck": ("Bubeck, slabs", "#CC79A7"),
    "yu": ("certified", "#4A4A4A"),
    "narrow": ("narrow, deep", "#B8860B"),
    "none": ("needed for the worst data", NULL),
}
_INK = "#35456C"


@checked
def units_needed(counts: pd.DataFrame, trained: pd.DataFrame | None = None) -> Figure:
    """Hidden units against the number of points, both axes logarithmic.

    A line each for what a construction takes, solid for a theorem, dotted for our derivation;
    dashed, below which no network of two hidden layers fits the worst data (others may take less);
    triangles, trained networks.

    Parameters
    ----------
    counts : DataFrame
        Of :func:`~memviz.probes.capacity.units_by_points`.
    trained : DataFrame, optional
        Of :func:`~memviz.probes.capacity.units_by_training`.

    Examples
    --------
    >>> from memviz.probes.capacity import units_by_points
    >>> len(units_needed(units_by_points([10, 100, 1000], 10)).axes)
    1
    """
    _needs(counts, "counts", "units_by_points", "method", "points", "units", "label")
    figure = style.figure(6.4, 4.2)
    axes = figure.subplots()
    for method, rows in counts.groupby("method", sort=False):
        name, colour = _LOOKS.get(str(method), (str(method), "#4A4A4A"))
        label = str(rows.label.iloc[0])
        dash = "--" if "necessary" in label else "-" if "theorem" in label else ":"
        axes.plot(rows.points, rows.units, dash, color=colour, lw=1.6, label=f"{name}: {label}")
    if trained is not None:
        _needs(trained, "trained", "units_by_training", "points", "units", "reached")
        known = trained[trained.reached]
        words = "trained by Adam: measured"
        axes.plot(known.points, known.units, "^", color=_INK, ms=7, mfc="none", label=words)
        beyond = trained[~trained.reached]
        if len(beyond):
            words = "measured, not reached: more units than"
            axes.plot(beyond.points, beyond.units, "^", color=NULL, ms=7, mfc="none", label=words)
    axes.set(xscale="log", yscale="log")
    _named(axes, "points", "hidden units")
    style.legend(axes, fontsize=6.5)
    return figure


@checked
def precision_lost(table: pd.DataFrame) -> Figure:
    """Largest error in float64 and in float32, and the largest weight, against points.

    Parameters
    ----------
    table : DataFrame
        Of :func:`~memviz.probes.capacity.precision`.

    Examples
    --------
    >>> from memviz.probes.capacity import precision
    >>> len(precision_lost(precision([16, 64], 5)).axes)
    1
    """
    _needs(table, "table", "precision", "float64", "float32", "largest_weight", "signs")
    figure = style.figure(5.6, 3.4)
    axes = figure.subplots()
    axes.plot(table.index, table.float64, "o-", color="#0072B2", ms=4, label="error, float64")
    axes.plot(table.index, table.float32, "s-", color="#D55E00", ms=4, label="error, float32")
    axes.plot(table.index, table.largest_weight, "--", color=NULL, label="largest weight")
    axes.axhline(1, color=NULL, lw=0.8)
    axes.annotate("1: a sign may flip", (table.index[0], 1), fontsize=7, va="bottom", color="0.4")
    for number, error, share in zip(table.index, table.float32, table.signs, strict=True):
        if share < 1:
            words, above = f"{share:.3f} right", (0, 5)
            axes.annotate(
                words, (number, error), above, textcoords="offset points", fontsize=7, ha="right"
            )
    axes.set(xscale="log", yscale="log")
    _named(axes, "points", "measured")
    style.legend(axes)
    return figure


@checked
def accuracies(table: pd.DataFrame, covered: float | None = None) -> Figure:
    """Training and test accuracy of memorizers, and the test accuracy of random labels.

    Parameters
    ----------
    table : DataFrame
        Of :func:`~memviz.probes.capacity.compare_memorizers`.
    covered : float, optional
        Share of the test examples in certified balls, drawn at "yu".

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"train": [1.0], "test": [0.5]}, index=["zhang"])
    >>> len(accuracies(table).axes)
    1
    """
    _needs(table, "table", "compare_memorizers", "train", "test")
    figure = style.figure(5.6, 0.42 * len(table) + 1.2)
    axes = figure.subplots()
    rows = range(len(table))
    axes.hlines(rows, table.test, table.train, color="0.75", lw=1)
    axes.plot(table.train, rows, "o", color=style.COLOURS["memorized"], label="train")
    axes.plot(table.test, rows, "^", color=style.COLOURS["test"], label="test")
    if "random_test" in table:
        words = "test, labels shuffled"
        axes.plot(table.random_test, rows, "D", color=NULL, ms=5, label=words)
    if covered is not None and "yu" in table.index:
        place = list(table.index).index("yu")
        words = "covered by certified balls"
        axes.plot(covered, place, "|", color=_INK, ms=14, mew=2, label=words)
    names = {name: words for name, (words, _) in _LOOKS.items()} | {"yun": "Yun, hard-tanh"}
    axes.set_yticks(rows, [names.get(str(name), str(name)) for name in table.index])
    axes.set(xlim=(-0.02, 1.02), ylim=(len(table) - 0.5, -0.5))
    _named(axes, "accuracy", "")
    style.legend(axes, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.28), ncols=4)
    return figure


@checked
def by_first_width(table: pd.DataFrame, features: int) -> Figure:
    """Training and test accuracy against the width of the first layer alone.

    Parameters
    ----------
    table : DataFrame
        Of :func:`~memviz.probes.capacity.width_test`.
    features : int
        Dimensions of the data, where the line stands.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"train": [0.8, 1.0], "test": [0.7, 1.0]}, index=[1, 2])
    >>> len(by_first_width(table, 2).axes)
    1
    """
    _needs(table, "table", "width_test", "train", "test")
    figure = style.figure(5.0, 3.0)
    axes = figure.subplots()
    _train_and_test(axes, table)
    axes.axvline(features, color=NULL, ls="--", lw=1)
    words = "dashed: as wide as the data have dimensions (theorem, Yu et al. 2024)"
    axes.set_title(words, loc="left", fontsize=8)
    _named(axes, "units of the first layer", "accuracy")
    style.legend(axes)
    return figure


@checked
def clusters_met(table: pd.DataFrame, bound: int | None = None) -> Figure:
    """Test accuracy and covered share of the certified memorizer against examples of clusters.

    Parameters
    ----------
    table : DataFrame
        Of :func:`~memviz.probes.capacity.cluster_curve`.
    bound : int, optional
        Of :func:`~memviz.probes.capacity.coupon_bound`, drawn as a line.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"test": [0.7, 1.0], "covered": [0.3, 1.0]}, index=[10, 100])
    >>> len(clusters_met(table, 658).axes)
    1
    """
    _needs(table, "table", "cluster_curve", "test", "covered")
    figure = style.figure(5.0, 3.0)
    axes = figure.subplots()
    axes.plot(table.index, table.test, "^-", color=style.COLOURS["test"], label="test accuracy")
    words = "covered by certified balls"
    axes.plot(table.index, table.covered, "|-", color=_INK, ms=10, mew=2, label=words)
    if "random_test" in table:
        words = "test, labels shuffled"
        axes.plot(table.index, table.random_test, "D", color=NULL, ms=4, label=words)
    if bound is not None:
        axes.axvline(bound, color=NULL, ls="--", lw=1)
        axes.set_title(
            "dashed: enough for the share asked for (derivation)", loc="left", fontsize=8
        )
    axes.set(xscale="log", ylim=(-0.02, 1.04))
    _named(axes, "examples", "share")
    style.legend(axes)
    return figure


def _train_and_test(axes: Axes, table: pd.DataFrame) -> None:
    axes.plot(table.index, table.train, "o-", color=style.COLOURS["memorized"], label="train")
    axes.plot(table.index, table.test, "^-", color=style.COLOURS["test"], label="test")
    axes.set_ylim(0, 1.04)


def _named(axes: Axes, below: str, beside: str) -> None:
    axes.set_xlabel(below, fontsize=8)
    axes.set_ylabel(beside, fontsize=8)
    axes.tick_params(labelsize=7)
    quiet(axes)


def _needs(table: object, name: str, maker: str, *columns: str) -> None:
    import pandas as pd

    lacking = [c for c in columns if not isinstance(table, pd.DataFrame) or c not in table]
    if lacking or not len(table):  # type: ignore[arg-type]
        missing = f"lacks {', '.join(lacking)}" if lacking else "has no rows"
        raise ValueError(f"{name} {missing}; give the table of memviz.probes.capacity.{maker}.")
