"""Which layers and units hold the memorized examples, and what it costs to switch them off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from memviz.engine.sets import AblationCurve
from memviz.plots.bars import bars
from memviz.scores import Scores
from memviz.units import UnitSet

from ._halves import Halves
from ._parts import Section, between, figure, plural, points, share, table, words

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_SHOWN = 24  # units in the figure; the file has all
_LAYERS = 40  # in the figure, those with the largest mean
_MOST_NAMED = 1500  # characters of a list of units


def units_section(ranking: Scores, layers: pd.DataFrame, halves: Halves) -> Section:
    """The chapter on units and layers, with the curve.

    Parameters
    ----------
    ranking : Scores
        Over units, on all examples.
    layers : DataFrame
        As :func:`layer_table` gives it.
    halves : Halves
    """
    source = f"Source: {ranking.source}." if ranking.source else ""
    null = "" if ranking.null is None else f"Grey: 95% of the null, {ranking.null.words}. "
    method = f"{ranking.measure}, each unit ablated alone. {null}{source}"
    parts = [*effect_parts(ranking, layers, method), *_curve_parts(halves)]
    return Section("units", "Which layers and units hold them", tuple(parts))


def effect_parts(ranking: Scores, layers: pd.DataFrame, method: str) -> list[str]:
    """The units with the largest effects, and the layers."""
    return [
        figure(
            lambda: ranking.plot(_SHOWN),
            f"The {min(_SHOWN, len(ranking.order()))} units with the largest effect",
            "units",
            ranking.frame,
            method=method,
        ),
        figure(
            lambda: _layers_figure(layers, ranking),
            "The layers: mean over the units of each",
            "layers",
            layers,
            method=method,
        ),
        table(
            layers,
            "Layers",
            "layer-table",
            method="Units above the null: above 97.5% of their own null."
            if "units above the null" in layers
            else "",
        ),
    ]


def layer_table(ranking: Scores, chosen: UnitSet) -> pd.DataFrame:
    """One row per layer, in the order of the forward pass."""
    import pandas as pd

    units = ranking.units or ()
    names = list(dict.fromkeys(unit.layer for unit in units))
    place = {name: row for row, name in enumerate(names)}
    of = np.array([place[unit.layer] for unit in units], int)
    off = np.array([unit in chosen for unit in units], bool)
    rows = []
    for name, row in place.items():
        mask = of == row
        values = ranking.values[mask]
        known = values[~np.isnan(values)]
        told: dict[str, Any] = {
            "layer": name,
            "units": int(mask.sum()),
            "mean effect": float(known.mean()) if len(known) else float("nan"),
            "largest effect": float(known.max()) if len(known) else float("nan"),
            "ablated together": int((mask & off).sum()),
        }
        if ranking.null is not None and len(ranking.null.values) > 1:
            told["units above the null"] = int((values > ranking.null.interval[1][mask]).sum())
            drawn = np.nanmean(ranking.null.values[:, mask], axis=1)
            low, high = np.percentile(drawn, [2.5, 97.5])
            told |= {"null, mean": float(drawn.mean()), "null, low": low, "null, high": high}
        rows.append(told)
    return pd.DataFrame(rows)


def _layers_figure(layers: pd.DataFrame, ranking: Scores) -> Figure:
    shown = layers
    if len(layers) > _LAYERS:
        shown = layers.sort_values("mean effect", ascending=False).head(_LAYERS).sort_index()
    null = None
    if "null, mean" in shown:
        null = (
            shown["null, low"].to_numpy(),
            shown["null, mean"].to_numpy(),
            shown["null, high"].to_numpy(),
        )
    return bars(
        [str(name) for name in shown["layer"]],
        shown["mean effect"].to_numpy(),
        title="mean over a layer's units",
        measure=ranking.measure,
        null=null,
        null_words="random groups",
    )


def _curve_parts(halves: Halves) -> list[str]:
    curve, draws = halves.curve, len(halves.curve.random)
    which = (
        "The units are chosen on one half of the first two groups, drawn with the seed; what is "
        "shown is the other half, which had no part in the choice. Groups behind them were never "
        "used to choose."
        if halves.own
        else "A group has a single example: nothing could be held out, and units were chosen on "
        "the same examples that are shown."
    )
    method = (
        f"Units by {curve.name}, ablated together exactly. Dashed and shaded: mean and "
        f"95% of {draws} draws of as many random units of the same layers."
    )
    return [
        words(which),
        words(f"The {len(halves.units)} units: {named(halves.units)}", "note"),
        figure(
            halves.shown.plot,
            "Accuracy against the number of units ablated together"
            + (", on the half that was held out" if halves.own else ""),
            "curve",
            curve.frame,
            method=method,
        ),
        outcome_table(halves, method),
    ]


def outcome_table(halves: Halves, method: str) -> str:
    """Every group before and after, and with random units."""
    whole = outcome(halves)
    frame = whole[["group", "examples", "before", "after"]].copy()
    frame["95%"] = _ends(whole, "low", "high")
    frame["random"] = whole["random, mean"]
    frame["95% of draws"] = _ends(whole, "random, low", "random, high")
    frame = frame.join(whole[["margin before", "margin after", "wrong now", "true label now"]])
    return table(
        frame,
        f"With {plural(len(halves.units), 'unit')} ablated",
        "ablated",
        method=f"{method} After: with Wilson's 95% interval.",
        formats=dict.fromkeys(("before", "after", "random"), share)
        | dict.fromkeys(("margin before", "margin after"), "{:.2f}".format),
        whole=whole,
    )


def outcome(halves: Halves) -> pd.DataFrame:
    """One row per group: accuracy before, after and with random units, and the margins."""
    import pandas as pd

    curve, rows = halves.curve, []
    for column, name in enumerate(curve.groups):
        reading = halves.readout.groups[name]
        rows.append(
            {
                "group": name,
                "examples": reading.before.n,
                "before": reading.before.accuracy,
                "after": reading.after.accuracy,
                "low": reading.after.low,
                "high": reading.after.high,
                "random, mean": float(curve.random_mean[-1, column]),
                "random, low": float(curve.random_low[-1, column]),
                "random, high": float(curve.random_high[-1, column]),
                "margin before": reading.before.margin,
                "margin after": reading.after.margin,
                "wrong now": reading.right_to_wrong,
                "true label now": reading.now_true,
            }
        )
    return pd.DataFrame(rows)


def _ends(frame: pd.DataFrame, low: str, high: str) -> list[str]:
    return [between(*ends, share) for ends in zip(frame[low], frame[high], strict=True)]


def cost_section(halves: Halves, group: str, against: str) -> Section:
    """The chapter on what is lost elsewhere, first of all on test examples."""
    shown = halves.shown
    others = [name for name in shown.groups if name != group]
    parts = []
    if "test" in others:
        parts.append(points([_cost(shown, "test")]))
    else:
        parts.append(
            words(
                "This study has no group test, so what the ablation costs on new examples is not "
                f"known; below is what it costs {against}."
            )
        )
    whole = shown.frame
    whole = whole[whole["group"].isin(others)]
    frame = whole[["group", "units", "accuracy"]].rename(columns={"units": "units ablated"})
    frame["random"] = whole["random_mean"]
    frame["95% of draws"] = _ends(whole, "random_low", "random_high")
    parts.append(
        table(
            frame.sort_values(["group", "units ablated"], kind="stable"),
            "Accuracy elsewhere, by number of units ablated",
            "cost",
            method="The same ablations as above; random: as many random units of the same layers.",
            formats=dict.fromkeys(("accuracy", "random"), share),
            whole=whole,
        )
    )
    return Section("cost", "What it costs", tuple(parts))


def _cost(curve: AblationCurve, name: str) -> str:
    """What becomes of a group, in points of accuracy."""
    column = curve.groups.index(name)
    before = float(curve.chosen[0, column])
    change = float(curve.chosen[-1, column]) - before
    random = float(curve.random_mean[-1, column]) - before
    beside = "" if np.isnan(random) else f"; with random units {100 * random:+.1f}"
    return f"{effect_words(curve, name)} A change of {100 * change:+.1f} points{beside}."


def effect_words(curve: AblationCurve, name: str) -> str:
    """What the most units of a curve do to a group, beside random ones."""
    column = curve.groups.index(name)
    before, after = curve.chosen[0, column], curve.chosen[-1, column]
    mean, low, high = (
        ends[-1, column] for ends in (curve.random_mean, curve.random_low, curve.random_high)
    )
    done = (
        f"{name}: {share(before)} → {share(after)} with {plural(curve.counts[-1], 'unit')} ablated"
    )
    if np.isnan(mean):
        return f"{done}; these layers have no other units to draw at random."
    return f"{done}; with as many random ones {share(mean)} ({between(low, high, share)})."


def verdict(curve: AblationCurve, name: str) -> list[str]:
    """A sentence where the chosen units take no more from a group than random ones do.

    Examples
    --------
    >>> random = np.array([[[1.0], [0.3]], [[1.0], [0.1]]])
    >>> curve = AblationCurve([0, 4], ["memorized"], np.array([[1.0], [0.2]]), random, "effect")
    >>> verdict(curve, "memorized")
    ['Random units of the same layers take as much from memorized: ...']
    """
    column = curve.groups.index(name)
    after, low = curve.chosen[-1, column], curve.random_low[-1, column]
    if np.isnan(low) or after < low:
        return []
    return [
        f"Random units of the same layers take as much from {name}: this shows nothing of the "
        "chosen ones in particular."
    ]


def named(units: UnitSet) -> str:
    """Units as text, cut where there are too many to read."""
    text = str(units)
    return text if len(text) <= _MOST_NAMED else f"{text[:_MOST_NAMED]} … (cut)"


def counts_to(n: int) -> list[int]:
    """0, the powers of two below `n`, and `n`.

    Examples
    --------
    >>> counts_to(5)
    [0, 1, 2, 4, 5]
    """
    return [0, *(2**k for k in range(n.bit_length()) if 2**k < n), n]


def at_most(units: int) -> int:
    """One unit in twenty: few enough to show that memorization sits somewhere.

    Examples
    --------
    >>> at_most(320), at_most(8)
    (16, 1)
    """
    return max(1, units // 20)
