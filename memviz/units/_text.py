"""Units as text, ``"layer:5,17 fc:0-9"``: names, ranges and indices, written and read."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from memviz.checks import coded, quoted

# No layer has more units: the widest of known models, their vocabularies, have some 300,000. A slip
# such as "fc:0-9999999" must be refused before the range is spelled out.
_MOST = 1 << 20
_RANGE = "[0-9]+(?:-[0-9]+)?"
_PART = re.compile(
    rf"""\s*(?P<layer>"(?:[^"\\]|\\.)*"|[^\s:]*):(?P<ranges>{_RANGE}(?:,{_RANGE})*)(?!\S)"""
)
_PLAIN = re.compile(r"""[^\s:,"'\\]*""")


def name_in_text(layer: str) -> str:
    """A layer's name in text: in double quotes, as in JSON, if it could not be read otherwise."""
    if _PLAIN.fullmatch(layer) and layer.isprintable():
        return layer
    return json.dumps(layer, ensure_ascii=not layer.isprintable())


def _unquoted(name: str) -> str | None:
    """The name in text as it is; None if it opens a quote and is no JSON."""
    if len(name) < 2 or not name.startswith('"') or not name.endswith('"'):
        return name
    try:
        return str(json.loads(name))
    except ValueError:
        return None


def in_ranges(indices: Sequence[int]) -> str:
    """Runs of three or more become a range: 0,1,2,9 is written 0-2,9."""
    pieces: list[str] = []
    start = 0
    for stop in range(1, len(indices) + 1):
        if stop < len(indices) and indices[stop] == indices[stop - 1] + 1:
            continue
        run = indices[start:stop]
        pieces.extend([f"{run[0]}-{run[-1]}"] if len(run) > 2 else [str(i) for i in run])
        start = stop
    return ",".join(pieces)


def parsed(text: str) -> dict[str, Iterable[int]]:
    """Indices by layer, each once."""
    by_layer: dict[str, list[tuple[int, int]]] = {}
    place, end = 0, len(text.rstrip())
    while place < end:
        match = _PART.match(text, place)
        layer = match and _unquoted(match["layer"])
        if match is None or layer is None:
            raise ValueError(
                coded(
                    "E13",
                    f"{quoted(text[place:].split(maxsplit=1)[0])} is not a set of units; write "
                    "layer:indices, for example 'layer3.0.conv2:5,17 fc:0-9', with names that hold "
                    "spaces, colons or commas in double quotes; all units of a layer are "
                    "mv.layers(study)[0].all().",
                )
            )
        pieces = match["ranges"].split(",")
        by_layer.setdefault(layer, []).extend(_ends(layer, piece) for piece in pieces)
        place = match.end()
    return {layer: _spelled_out(ranges) for layer, ranges in by_layer.items()}


def _ends(layer: str, piece: str) -> tuple[int, int]:
    """First and last index of ``"5"`` or ``"5-17"``."""
    # More digits than Python reads at once still are too large an index.
    first, last = (int(end[-4000:]) for end in (piece.split("-") * 2)[:2])
    checked_index(layer, last)
    if last < first:
        raise ValueError(
            f"the range {quoted(piece)} of layer {quoted(layer)} runs backwards; "
            "write the smaller index first."
        )
    return first, last


def _spelled_out(ranges: list[tuple[int, int]]) -> Iterator[int]:
    """The indices of ranges that may overlap, each once."""
    start = 0
    for first, last in sorted(ranges):
        yield from range(max(first, start), last + 1)
        start = max(start, last + 1)


def plain(values: Any) -> Any:
    """Python's own numbers of a tensor, an array or a column of a table; all else as it is."""
    return values.tolist() if hasattr(values, "tolist") else values


def checked_index(layer: str, given: Any) -> int:
    """An index that a layer may have, as Python's own number."""
    value = plain(given)
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        hint = "; of a mask, give the indices where it is True" if isinstance(value, bool) else ""
        raise TypeError(
            f"the units of layer {quoted(layer)} hold {quoted(value)}; indices are whole numbers "
            f"from 0{hint}."
        )
    index = operator.index(value)
    if index < 0:
        raise ValueError(
            f"unit {name_in_text(layer)}:{quoted(index)} is negative; units are counted from 0."
        )
    if index >= _MOST:
        raise ValueError(
            coded(
                "E12",
                f"there is no unit {quoted(index)} of layer {quoted(layer)}; units are counted "
                f"from 0, and no layer has more than {_MOST:,}.",
            )
        )
    return index
