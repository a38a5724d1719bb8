"""Hidden units that each construction takes, and how many no network can do without."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, sqrt
from typing import TYPE_CHECKING

from memviz.checks import Count, checked, quoted

if TYPE_CHECKING:
    import pandas as pd

# What each count is: the theorem that says it suffices, or our own weights.
_LABELS = {
    "yun": "theorem (Yun et al. 2019), weights derived",
    "yun4": "theorem (Yun et al. 2019), weights derived",
    "zhang": "theorem (Zhang et al. 2017)",
    "bubeck": "theorem (Bubeck et al. 2020), weights derived",
    "yu": "derivation",
    "narrow": "derivation",
}


@checked
def hidden_units(
    method: str, points: Count, features: Count, outputs: Count = 1, *, hardtanh: bool = False
) -> int:
    """Hidden units of a construction on so many points.

    For "yun" and "yun4" with widths as equal as they can be, for "yu" with half of the points of
    either sign; ``outputs`` are the classes of "yun4".

    Raises
    ------
    ValueError
        If there is no such method.

    Examples
    --------
    >>> hidden_units("yun", 2500, 50), hidden_units("yun", 2500, 50, hardtanh=True)
    (200, 100)
    >>> hidden_units("zhang", 2500, 50), hidden_units("bubeck", 2500, 50)
    (2500, 200)
    """
    if method in ("yun", "yun4"):
        d2 = max(1, round(sqrt(points)))
        d1 = ceil(points / d2)
        times = 1 if hardtanh else 2
        if method == "yun4":
            return 2 * (d1 + d2) + 4 * outputs
        return times * (d1 + d2 * outputs)
    if method == "zhang":
        return points
    if method == "bubeck":
        return 4 * ceil(points / features) * outputs
    if method == "yu":
        return 2 * (points // 2) * (points - points // 2) + points
    if method == "narrow":
        return 2 + (points - 1) * (2 + outputs)
    raise ValueError(f"method is {quoted(method)}; use {', '.join(_LABELS)}.")


@checked
def necessary(points: Count) -> int:
    """Hidden units below which no network of two hidden ReLU layers fits all data, one output.

    On a line with alternating labels n - 1 slopes alternate, and widths d1 and d2 give at most
    (d1 + 1)(d2 + 1) linear pieces. Our own derivation; the theorem of Yun et al. 2019, that
    2 d1 d2 + d2 + 2 < n fails for some data, gives a lower count.

    Examples
    --------
    >>> necessary(2500)
    98
    """
    return min(
        first + max(0, ceil((points - 1) / (first + 1)) - 1)
        for first in range(1, ceil(sqrt(points)) + 2)
    )


@checked
def units_by_points(points: Sequence[Count], features: Count, outputs: Count = 1) -> pd.DataFrame:
    """Hidden units of every construction against the number of points.

    Returns
    -------
    pandas.DataFrame
        A row for each method and number: ``method``, ``points``, ``units``, ``label``, which is
        a theorem's, a derivation's or both. "yun hardtanh" is "yun" with hard-tanh units; the last,
        "none", is what no network of two hidden layers can do without.

    Examples
    --------
    >>> table = units_by_points([100, 400], 10)
    >>> table[table.method == "yun"].units.tolist()
    [40, 80]
    """
    import pandas as pd

    rows = [
        (method, number, hidden_units(method, number, features, outputs), label)
        for method, label in _LABELS.items()
        for number in points
    ]
    for number in points:
        tanh = hidden_units("yun", number, features, outputs, hardtanh=True)
        rows.append(("yun hardtanh", number, tanh, _LABELS["yun"]))
    rows += [("none", number, necessary(number), "derivation, necessary") for number in points]
    return pd.DataFrame(rows, columns=["method", "points", "units", "label"])
