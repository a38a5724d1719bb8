"""Curves over training: the soft network beside the hard one, and early learning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from memviz.checks import listed, quoted

COLUMNS = ("step", "reading", "group", "given", "true")
_GAP = 0.05  # of accuracy, from which on it is marked
GateCurves = Mapping[str, Any]
NONE = (
    "No curves of the training were given; pass curves=, a table with the columns "
    f"{', '.join(COLUMNS)}."
)


def check_curves(curves: Any) -> list[dict[str, Any]]:
    """A line for each reading and group: steps, and shares said as given and as truly labelled.

    Parameters
    ----------
    curves : DataFrame, or mapping of column to sequence
        ``step``, ``reading`` ("soft" or "hard"), ``group``, and the shares of the group that are
        predicted as their ``given`` and as their ``true`` label.

    Raises
    ------
    TypeError, ValueError
        If it is no such table.
    """
    try:
        columns = {name: list(curves[name]) for name in COLUMNS}
    except (KeyError, TypeError, IndexError) as error:
        raise TypeError(
            f"curves is {quoted(curves)}; give a table with the columns {listed(COLUMNS)}."
        ) from error
    lengths = {len(values) for values in columns.values()}
    if len(lengths) != 1:
        raise ValueError("the columns of curves have different lengths; give one value a row.")
    numbers = {name: np.asarray(columns[name], float) for name in ("step", "given", "true")}
    shares = np.stack([numbers["given"], numbers["true"]])
    if not np.isfinite(numbers["step"]).all() or not ((shares >= 0) & (shares <= 1)).all():
        raise ValueError("curves has a step that is no number, or a share outside 0 to 1.")
    wrong = set(columns["reading"]) - {"soft", "hard"}
    if wrong:
        raise ValueError(f"curves has the reading {quoted(wrong.pop())}; give 'soft' or 'hard'.")
    lines: dict[tuple[str, str], dict[str, Any]] = {}
    for k in np.argsort(numbers["step"], kind="stable").tolist():
        key = str(columns["reading"][k]), str(columns["group"][k])
        line = lines.setdefault(
            key, {"reading": key[0], "group": key[1], "step": [], "given": [], "true": []}
        )
        for name, values in numbers.items():
            line[name].append(float(values[k]))
    return list(lines.values())


def charts(lines: list[dict[str, Any]], classes: int) -> list[dict[str, Any]]:
    """The two charts, as the browser draws them: lines, a level, a gap, and what they say."""
    return [chart for chart in (_soft_and_hard(lines, classes), _early(lines)) if chart]


def _soft_and_hard(lines: list[dict[str, Any]], classes: int) -> dict[str, Any] | None:
    groups = list(dict.fromkeys(line["group"] for line in lines))
    group = next((name for name in groups if name.lower() == "test"), groups[-1])
    found = {line["reading"]: line for line in lines if line["group"] == group}
    if len(found) < 2:
        return None
    soft, hard = found["soft"], found["hard"]
    at_step = dict(zip(hard["step"], hard["given"], strict=True))
    gaps = [
        (value - at_step[step], step, value, at_step[step])
        for step, value in zip(soft["step"], soft["given"], strict=True)
        if step in at_step
    ]
    gap, step, high, low = max(gaps, default=(0.0, 0.0, 0.0, 0.0))
    words, note = f"step {step:,.0f}: soft {_share(high)}, hard {_share(low)}", "The hard network"
    if gap > _GAP:
        note = (
            "Until a gate's weight overtakes that of the gate it starts from, the hard network "
            f"stays as it began: {_share(low)} where the soft one is at {_share(high)}."
        )
    else:
        note += f" never falls more than {_share(max(gap, 0.0))} behind the soft one."
    return {
        "title": "Soft against hard",
        "small": f"accuracy on {group} over steps",
        "note": note,
        "lines": [
            _line(hard, "given", "hard"),
            _line(soft, "given", "soft", dashed="5 3"),
        ],
        "level": {"value": 1 / classes, "words": "chance"},
        "gap": {"step": step, "high": high, "low": low, "words": words} if gap > _GAP else None,
    }


def _early(lines: list[dict[str, Any]]) -> dict[str, Any] | None:
    drawn, notes = [], []
    for line in lines:
        if line["reading"] != "hard":
            continue
        wrong = line["given"] != line["true"]
        group = line["group"]
        if not wrong:
            drawn.append(_line(line, "given", group, mark="shape"))
        else:
            words = f"{group}: says the given label", f"{group}: says the true label"
            drawn.append(_line(line, "given", f"{group} given", words[0], "8 3", "shape"))
            drawn.append(_line(line, "true", "true label", words[1], "2 3", "ring"))
            best = int(np.argmax(line["true"]))
            notes.append(
                f"{line['group']}: the true label at most {_share(line['true'][best])}, at step "
                f"{line['step'][best]:,.0f}; at the end the given one {_share(line['given'][-1])} "
                f"and the true one {_share(line['true'][-1])}."
            )
    small = "share of which the hard network says the label"
    note = " ".join(words[0].upper() + words[1:] for words in notes)
    facts = {"title": "Early learning", "small": small, "note": note, "level": None, "gap": None}
    return {**facts, "lines": drawn} if drawn else None


def _line(
    line: dict[str, Any], of: str, name: str, words: str = "", dashed: str = "", mark: str = ""
) -> dict[str, Any]:
    line = {"name": name, "group": line["group"], "step": line["step"], "value": line[of]}
    return {**line, "words": words or name, "dashed": dashed, "mark": mark}


def _share(value: float) -> str:
    return f"{value:.2f}".removeprefix("0")
