"""Messages of the workbench: pictures, readouts, effects."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from memviz.engine.sets import GroupReading, Reading, Readout
from memviz.engine.sweep import Effects, contrast
from memviz.widgets.core import (
    COLUMNS,
    NO_RANDOM,
    ROUNDING,
    Labels,
    Message,
    Pictures,
    Sink,
    pack,
)

_AT_ONCE = 64  # thumbnails per answer to a view: a click never waits for more
_WAITING = 16  # requests that wait; older ones are of what was scrolled past
_KEPT = 16  # answers that a page without a kernel is given of a large study, before others
_SHEETS = 64  # that a page keeps of a large study, as in asked.js
_MOST_BYTES = 2_000_000  # of the thumbnails in a page of a large study


class Thumbnails:
    """Sprite sheets, made when they are needed.

    Parameters
    ----------
    pictures : Pictures
    """

    def __init__(self, pictures: Pictures) -> None:
        self._pictures = pictures
        self._asked: deque[tuple[Sink, torch.Tensor]] = deque(maxlen=_WAITING)
        self._sent: deque[Message] = deque(maxlen=_KEPT)

    def at_once(self) -> Sequence[Message]:
        """The sheets that a new view is sent unasked."""
        return [] if self._pictures.on_demand else self._all()

    def for_page(self) -> Sequence[Message]:
        """The sheets for a page that has nobody to ask; of a large study, as many as fit.

        Those last seen come first, then the first examples of each group in turn.
        """
        if not self._pictures.is_large:
            return self._all()
        found, room = list(self._sent), _MOST_BYTES - _bytes(self._sent)
        seen = {int(i) for message in found for i in np.frombuffer(message.buffers[1], np.uint32)}
        for part in self._in_turn(seen).split(_AT_ONCE):
            try:
                sheet = self._picked(part)
            except Exception:  # the dataset's own, of an example that nobody asked for
                break
            room -= _bytes([sheet])
            if room < 0 or len(found) == _SHEETS:
                break
            found.append(sheet)
        return found

    def _in_turn(self, seen: set[int]) -> torch.Tensor:
        """All examples but those seen, a member of each group in turn."""
        study = self._pictures.study
        grouped = [mask.nonzero()[:, 0].tolist() for mask in study.groups.values()]
        others = torch.arange(len(study)).tolist()
        turns = itertools.zip_longest(*grouped)
        listed = dict.fromkeys(i for turn in turns for i in turn if i is not None)
        listed |= dict.fromkeys(others)
        return torch.tensor([i for i in listed if i not in seen], dtype=torch.long)

    def ask(self, sink: Sink, examples: torch.Tensor) -> None:
        """Note which thumbnails a view wants; ``steps`` makes them."""
        for part in examples.split(_AT_ONCE):
            self._asked.append((sink, part))

    def steps(self, tell: Callable[[Sink, Message], None]) -> Iterator[None]:
        """Make what was asked for, the newest request first."""
        while self._asked:
            sink, examples = self._asked.pop()
            message = self._picked(examples)
            self._sent.append(message)
            tell(sink, message)
            yield

    def _all(self) -> list[Message]:
        size = self._pictures.per_sheet
        return [self._sheet(first, size) for first in range(0, len(self._pictures.study), size)]

    def _sheet(self, first: int, count: int) -> Message:
        examples = torch.arange(first, min(first + count, len(self._pictures.study)))
        content = {"type": "sprites", "first": first, "count": len(examples)}
        return pack({**content, **self._layout}, png=self._png(examples))

    def _picked(self, examples: torch.Tensor) -> Message:
        ids = examples.numpy().astype(np.uint32)
        return pack({"type": "thumbnails", **self._layout}, png=self._png(examples), examples=ids)

    @property
    def _layout(self) -> dict[str, Any]:
        return {"tile": list(self._pictures.tile), "columns": COLUMNS}

    def _png(self, examples: torch.Tensor) -> np.ndarray:
        return np.frombuffer(self._pictures.sheet(examples), np.uint8)


def _bytes(messages: Iterable[Message]) -> int:
    return sum(len(buffer) for message in messages for buffer in message.buffers)


def pictured_words(messages: Iterable[Message], of: int) -> str:
    """How many examples of a large study a page has pictures of, and by which rule."""
    asked = [m for m in messages if m.content["type"] == "thumbnails"]
    count = len({i for m in asked for i in np.frombuffer(m.buffers[1], np.uint32).tolist()})
    if not asked or count == of:
        return ""
    return (
        f"this page has the pictures of {count:,} of {of:,} examples: those last seen, then the "
        "first of each group in turn"
    )


def readout_message(
    readout: Readout, version: int, labels: Labels | None = None, key: str = ""
) -> Message:
    """The figures of the readout column, the live sentence and each example's prediction.

    ``labels`` number the predictions; without them, they are classes. ``key`` says under which
    intervention and variant.
    """
    content = {
        "type": "readout",
        "version": version,
        "sentence": readout.sentence,
        "ablated": str(readout.units),
        "key": key,
        "intervention_words": how_words(readout.how),
        "units": len(readout.units),
        "of": readout.of,
        "groups": [_group(name, group) for name, group in readout.groups.items()],
    }
    before, after = predicted(readout, labels)
    return pack(
        content,
        before=before,
        after=after,
        change=readout.margin_change.numpy().astype(np.float32),
    )


def predicted(
    readout: Readout, labels: Labels | None, examples: torch.Tensor | None = None
) -> list[np.ndarray]:
    """Numbers of the predictions before and after, uint16, of all examples by default."""
    rows = torch.arange(len(readout.before)) if examples is None else examples
    sides = (readout.before, readout.right_before), (readout.after, readout.right_after)
    if labels is None:
        return [said[rows].numpy().astype(np.uint16) for said, _ in sides]
    return [labels.said(rows, said[rows], right[rows]) for said, right in sides]


def ahead_message(readout: Readout, version: int, key: str = "") -> Message:
    """The figures of the first group, sent while the readout of all is computed."""
    groups = [_group(name, group) for name, group in readout.groups.items()]
    sentence = f"{readout.sentence.removesuffix('.')}; the rest is on its way."
    content = {"type": "ahead", "version": version, "sentence": sentence, "groups": groups}
    return Message({**content, "ablated": str(readout.units), "key": key}, [])


_WORDS = {
    "zero": "unit ablation: activations set to 0",
    "mean": "unit ablation: activations set to their mean",
    "filter": "filter ablation: weights set to 0",
}


def how_words(how: str) -> str:
    """What an intervention does."""
    return _WORDS.get(how, how)


def _group(name: str, group: GroupReading) -> dict[str, Any]:
    return {
        "name": name,
        "n": group.before.n,
        "before": reading_fields(group.before),
        "after": reading_fields(group.after),
        "right_to_wrong": group.right_to_wrong,
        "wrong_to_right": group.wrong_to_right,
        "now_true": group.now_true,
    }


def reading_fields(reading: Reading) -> dict[str, float | None]:
    """The figures of one group on one side."""
    return {
        "accuracy": reading.accuracy,
        "correct": reading.correct,
        "low": reading.low,
        "high": reading.high,
        "margin": _finite(reading.margin),
        "margin_low": _finite(reading.margin_low),
        "margin_high": _finite(reading.margin_high),
    }


def _finite(value: float) -> float | None:
    # JSON has no NaN, and an ablated model's logits may be anything.
    return value if math.isfinite(value) else None


def random_message(
    draws: Sequence[dict[str, tuple[float, float]]], version: int, units: int, of: int
) -> Message:
    """The null so far: mean and central 95 % range of the random draws."""
    groups = []
    for name in draws[0]:
        values = np.array([draw[name] for draw in draws])
        low, high = np.percentile(values[:, 0], [2.5, 97.5])
        groups.append(
            {
                "name": name,
                "accuracy": float(values[:, 0].mean()),
                "low": float(low),
                "high": float(high),
                "margin": _finite(float(values[:, 1].mean())),
            }
        )
    words = f"{units} random unit{'s' if units != 1 else ''} of the same layers"
    content: dict[str, Any] = {
        "type": "random",
        "version": version,
        "units": units,
        "draws": len(draws),
        "of": of,
    }
    return Message({**content, "words": words, "groups": groups}, [])


def no_random_message(version: int, units: int) -> Message:
    """Says that no null is possible."""
    content = {"type": "random", "version": version, "units": units, "draws": 0, "of": 0}
    return Message({**content, "words": NO_RANDOM, "groups": []}, [])


def effects_message(
    key: str,
    label: str,
    exact: Effects | None,
    estimate: Effects | None,
    measure: str,
    note: str,
    units: int,
) -> Message:
    """Exact effects where the sweep has computed them, estimates elsewhere, as far as there are."""
    values = np.full(units, np.nan) if estimate is None else group_effect(estimate)
    state = np.where(np.isnan(values), 0, 1).astype(np.uint8)
    arrays: dict[str, np.ndarray] = {}
    done = 0
    if exact is not None:
        mask = exact.done.numpy()
        done = int(mask.sum())
        values = np.where(mask, group_effect(exact), values)
        state[mask] = 2
        lost = torch.stack([exact.lost(name) for name in exact.study.groups], 1)
        arrays["lost"] = lost.numpy().astype(np.uint16)
        most = np.full((len(values), 6), 2**32 - 1, np.uint32)
        most_lost = exact.most_lost(6).numpy()
        most[mask, : most_lost.shape[1]] = most_lost[mask]
        arrays["most"] = most
    content: dict[str, Any] = {
        "type": "scores",
        "key": key,
        "label": label,
        "measure": measure,
        "note": note,
    }
    content |= {"kind": "estimate" if exact is None else "exact", "done": done}
    shown = estimate if exact is None else exact
    if shown is not None and shown.why:
        words = shown.why if exact is None else f"computed by {exact.engine}: {exact.why}"
        content["why"] = f"{words[0].upper()}{words[1:]}."
    # A unit whose ablation does no harm is drawn as 0, however far below it is.
    content |= {"total": len(values), "floor": 0}
    return pack(content, value=values.astype(np.float32), state=state, **arrays)


def group_effect(effects: Effects) -> np.ndarray:
    """Mean margin drop on the first group minus on the second, as in ``Effects.scores``."""
    names = list(effects.study.groups)
    rest = effects.members(names[1]) if len(names) > 1 else torch.arange(0)
    values = contrast(-effects.margin_change, effects.members(names[0]), rest)
    # A unit that nothing depends on differs from 0 by rounding, which must not look like a score.
    rounding = ROUNDING * effects.margin.abs().mean()
    return np.asarray(torch.where(values.abs() < rounding, values * 0, values).numpy())
