"""Tables that commands printed into ``figures.md``, each block below its command, read again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd

_CELL = re.compile(r"(–|-?\d\.\d\d)(?: \((-?\d\.\d\d) to (-?\d\.\d\d)\))?(?=\s|$)")
_TITLES = {
    "recall": "share of the planted units that were named",
    "memorized drop": "accuracy on memorized examples lost",
    "clean drop": "accuracy on clean examples lost",
    "seconds": "processor seconds",
}
_CHANCE = re.compile(r"^  (\S.*?)  +\d+ of \d+.*?  +(\d\.\d\d) to (\d\.\d\d)$", re.M)
_CORNERS = re.compile(
    r"corners of (\d+)% of each side: DV ([+-]\d\.\d+ ± \d\.\d+), held out ([+-]\d\.\d+ ± \d\.\d+);"
)


class PrintedContest(NamedTuple):
    """What the figure of a contest reads, from the tables that the contest printed."""

    means: dict[str, pd.DataFrame]
    frame: pd.DataFrame
    truths: list[str]
    localizers: list[str]
    references: tuple[str, str] = ("planted units", "random")
    entries: Sequence[Any] = ()  # the curves, which no table holds

    def table(self, what: str) -> pd.DataFrame:
        """One measure, localizers × truths, mean over the seeds."""
        return self.means[what]


def contest(text: str) -> PrintedContest:
    """The contest of the first block of ``figures.md`` that has its tables."""
    begin = text.index(_TITLES["recall"])
    block = text[begin : text.index("\n```", begin)]
    tables = {name: _table(block, title) for name, title in _TITLES.items()}
    means = {name: table.map(lambda cell: cell[0]) for name, table in tables.items()}
    means["net drop"] = means["memorized drop"] - means["clean drop"]
    highest = {name: float(high) for name, _, high in _CHANCE.findall(block)}
    recall = tables["recall"]
    rows = [
        # The lowest of the seeds: it is above chance if every one is.
        {"localizer": row, "truth": truth, "recall": recall.at[row, truth][1], "random high": high}
        for truth, high in highest.items()
        for row in recall.index
    ]
    truths, localizers = list(recall.columns), list(recall.index)
    return PrintedContest(means, pd.DataFrame(rows), truths, localizers)


def _table(block: str, title: str) -> pd.DataFrame:
    """A printed table whose cells are (mean, lowest, highest); NaN where there is a dash."""
    lines = block[block.index(title) :].split("\n\n")[0].split("\n")[1:]
    found = {}
    for line in lines[1:]:
        first = _CELL.search(line)
        assert first is not None, line
        cells = [match.groups() for match in _CELL.finditer(line, first.start())]
        found[line[: first.start()].strip()] = [_numbers(*cell) for cell in cells]
    # The columns are as wide as their cells, whose ends are those of their names.
    full = max(lines[1:], key=len)
    ends = [match.end() for match in _CELL.finditer(full)]
    names = [lines[0][a:b].strip() for a, b in zip([0, *ends], ends, strict=False)]
    return pd.DataFrame.from_dict(found, orient="index", columns=names)


def _numbers(mean: str, low: str | None, high: str | None) -> tuple[float, float, float]:
    values = [float("nan") if text in (None, "–") else float(text) for text in (mean, low, high)]
    return values[0], values[1], values[2]


def corners(text: str) -> list[tuple[str, str, str, str]]:
    """Corners, seed, DV score and held out, for each line that ``cifar10.report`` printed."""
    begin = text.index("\n", text.index("cifar10.report("))
    rows, seed = [], ""
    for line in text[begin : text.index("\n```\n", text.index("```", begin) + 3)].split("\n"):
        if line.startswith("seed "):
            seed = line.removeprefix("seed ")
        if found := _CORNERS.match(line):
            share, score, null = (_plain(value) for value in found.groups())
            rows.append((f"{share} % of each side", seed, score, null))
    return sorted(rows)


def _plain(text: str) -> str:
    return text.replace("0.", ".").replace("-", "−")
