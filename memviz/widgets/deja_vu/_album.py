"""The pairs of a saved page: what their captions find, and as many pictures as fit."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from memviz.probes.deja_vu.ablation import Retrieval, Retrieved
from memviz.units import Layer
from memviz.widgets.core import Message, pack

from ._messages import A_SHEET, SORTS, PrivateWords, Tiles, pair_message, sentence

_MOST_BYTES = 4_500_000  # of pictures and of single units; the whole page may have 8 MB
_MOST_TEXT = 1_500_000  # characters about its pairs


def album_entries(
    retrieval: Retrieval, now: Retrieved, private: PrivateWords, opened: int | None
) -> list[dict[str, Any]]:
    """The pairs in the order of the recall gap, as many as fit; the opened one is among them."""
    clean, units = retrieval.clean.found, len(now.units)
    sides = [clean.target, now.found.target, clean.reference]

    def entry(row: int) -> dict[str, Any]:
        caption = retrieval.training.captions[row]
        words = private.of(caption)
        return pair_message(retrieval, row, caption, sides, row, words, units, -1).content

    rows = np.asarray(clean.scored)
    gap = clean.scores("recall_gap").values[rows]
    entries, text = [], 0
    for row in rows[np.argsort(-gap, kind="stable")].tolist():
        found = entry(row)
        text += len(json.dumps(found))
        if text > _MOST_TEXT:
            break
        entries.append(found)
    if opened is not None and all(found["row"] != opened for found in entries):
        entries.append(entry(opened))
    return entries


def album_messages(
    retrieval: Retrieval,
    now: Retrieved,
    entries: Sequence[dict[str, Any]],
    tiles: Tiles,
    known: Sequence[Layer],
    taken: int,
    first: Sequence[int],
) -> Iterator[Message]:
    """The pairs for a page without a kernel, and their pictures, which share its room.

    The pictures ``first`` come first; then the first ``pictured`` pairs get all of theirs.
    ``taken`` bytes are needed otherwise.
    """
    clean = retrieval.clean.found
    values = {sort: clean.scores(sort).values for sort in SORTS if " " not in sort}  # type: ignore[arg-type]
    held, pictured = set(tiles.sent), 0
    room = _MOST_BYTES - taken - bytes_of(tiles.all())
    wanted = [number for number in dict.fromkeys(first) if number not in held]
    sheets = list(tiles.sheets(wanted))
    if bytes_of(sheets) <= room:
        room -= bytes_of(sheets)
        held.update(wanted)
        yield from sheets
    while pictured < len(entries):
        few = entries[pictured : pictured + A_SHEET // 4]
        wanted = [number for entry in few for number in _pictures(entry) if number not in held]
        sheets = list(tiles.sheets(list(dict.fromkeys(wanted))))
        room -= bytes_of(sheets)
        if room < 0:
            break
        held.update(wanted)
        pictured += len(few)
        yield from sheets
    content = {"type": "album", "pairs": list(entries), "pictured": pictured}
    content["sentence"] = sentence(retrieval.clean, now, known, "")
    yield pack(content, **{name: np.asarray(v, np.float64) for name, v in values.items()})


def bytes_of(messages: Iterable[Message]) -> int:
    """How much the arrays and pictures of some messages take."""
    return sum(len(buffer) for message in messages for buffer in message.buffers)


def _pictures(pair: dict[str, Any]) -> list[int]:
    return [pair["row"], *(number for side in pair["sides"] for number in side["pictures"])]
