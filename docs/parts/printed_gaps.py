"""Tables of déjà vu, as ``memviz.demos.scenes.directions`` printed them into ``figures.md``, read.

Each cell is a mean with the lowest and the highest of its rows, rounded to .001.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import pandas as pd

_CELL = re.compile(r"(-?\d\.\d{3}) \((-?\d\.\d{3}) to (-?\d\.\d{3})\)")
_FIRST = re.compile(r"^first pairs by (\w+); .*$", re.M)
_NAMES = "PPG", "PRG", "AUCG", "null PPG", "null PRG", "null AUCG", "utility", "linear probe"
_COMMAND, _BASE = "`python -m memviz.demos.scenes.directions --seeds", "neighbours and labels; "
SEEDS = 3


def directions(text: str) -> pd.DataFrame:
    """Columns ``direction``, ``setting`` and the measures; three rows a setting.

    The rows are not the seeds', which were not printed, but have their mean, lowest and highest,
    which is all that the figure shows.
    """
    begin = text.index("```", text.index(_COMMAND))
    rows = []
    for table in text[begin : text.index("\n```", begin)].strip("`\n").split("\n\n"):
        title, _, _, *lines = table.splitlines()
        for line in lines:
            setting, cells = _row(line, _NAMES)
            rows += [
                {"direction": title, "setting": setting.split()[0], **one}
                for one in _as_many_rows(cells)
            ]
    return pd.DataFrame(rows)


def _as_many_rows(cells: dict[str, tuple[float, float, float]]) -> Iterator[dict[str, float]]:
    """As many rows as seeds, of the printed mean, lowest and highest."""
    yield {name: low for name, (_, low, _) in cells.items()}
    yield {name: SEEDS * mean - low - high for name, (mean, low, high) in cells.items()}
    yield {name: high for name, (_, _, high) in cells.items()}


def neighbours(text: str) -> pd.DataFrame:
    """Columns ``labels``, ``k`` and the mean gaps with their null."""
    labels, rows = "", []
    for line in _lines(text, text.index(_BASE)):
        heading, cells = _row(line, _NAMES[:6])
        *named, k = heading.split()
        labels = " ".join(named) or labels  # written at the first of its rows
        rows.append({"labels": labels, "k": int(k), **{name: c[0] for name, c in cells.items()}})
    return pd.DataFrame(rows)


def first_pairs(text: str) -> dict[str, pd.DataFrame]:
    """Of each sort order that was printed, columns ``pairs``, the mean gaps and their null."""
    names = "precision_gap", "null_precision_gap", "recall_gap", "null_recall_gap"
    found = {}
    for match in _FIRST.finditer(text):
        rows = [_row(line, names) for line in _lines(text, match.start())]
        table = [{"pairs": int(n), **{name: c[0] for name, c in row.items()}} for n, row in rows]
        found[match[1]] = pd.DataFrame(table)
    return found


def _lines(text: str, begin: int) -> list[str]:
    """The rows of a table below its title and two lines of names."""
    return re.split(r"\n(?:\n|```)", text[begin:], maxsplit=1)[0].splitlines()[3:]


def _row(line: str, names: Sequence[str]) -> tuple[str, dict[str, tuple[float, float, float]]]:
    """What stands before the cells, and the cells by name: mean, lowest, highest."""
    found = list(_CELL.finditer(line))
    assert len(found) >= len(names), line
    cells = [(float(m[1]), float(m[2]), float(m[3])) for m in found]
    return line[: found[0].start()].strip(), dict(zip(names, cells, strict=False))
