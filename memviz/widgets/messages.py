"""The messages to the browser: a small dict each, arrays as binary buffers beside it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from memviz.engine.sets import GroupReading, Reading, Readout
from memviz.engine.sweep import Effects
from memviz.scores import Scores
from memviz.session import Session
from memviz.study import Study
from memviz.units import Unit
from memviz.widgets.pictures import COLUMNS, Pictures

UNKNOWN = 65535
_ROUNDING = 1e-6  # of the mean margin


class Message(NamedTuple):
    """What goes over the wire."""

    content: dict[str, Any]
    buffers: list[bytes]


class Sink(Protocol):
    """A view that takes messages."""

    def tell(self, message: Message) -> None:
        """Send one."""


def pack(content: dict[str, Any], **arrays: np.ndarray) -> Message:
    """A message whose arrays travel as little-endian buffers in the order given."""
    specs, buffers = [], []
    for name, array in arrays.items():
        flat = np.ascontiguousarray(array)
        specs.append({"name": name, "dtype": flat.dtype.name, "shape": list(flat.shape)})
        buffers.append(flat.tobytes())
    return Message({**content, "arrays": specs}, buffers)


def study_message(
    session: Session,
    pictures: Pictures,
    scores: Sequence[dict[str, str]],
    interventions: Sequence[dict[str, str]],
    methods: Sequence[dict[str, str]],
) -> Message:
    """What never changes: layers, groups, classes, labels, what can be picked."""
    study, start, layers = session.study, 0, []
    for layer in session.known:
        layers.append(
            {"name": layer.name, "kind": layer.kind, "units": layer.units, "start": start}
        )
        start += layer.units
    group = np.full(len(study), 255, np.uint8)
    for index, mask in enumerate(study.groups.values()):
        group[mask.numpy()] = index
    truth = study.true_labels
    height, width, channels = pictures.shape
    content = {
        "type": "study",
        "name": study.name,
        "summary": study.summary,
        "classes": class_names(study),
        "groups": [{"name": n, "count": int(m.sum())} for n, m in study.groups.items()],
        "layers": layers,
        "units": start,
        "of_words": f"{start:,} units",
        "scores": list(scores),
        "interventions": list(interventions),
        "image": {"height": height, "width": width, "channels": channels, "ink": pictures.ink},
        "examples": len(study),
        "methods": list(methods),
        "variants": [{"key": key, "label": words} for key, words in session.variants.items()],
    }
    return pack(
        content,
        label=study.labels.numpy().astype(np.uint16),
        truth=np.full(len(study), UNKNOWN, np.uint16)
        if truth is None
        else truth.numpy().astype(np.uint16),
        group=group,
    )


def class_names(study: Study) -> list[str]:
    """A name for every class that a label or the names go up to."""
    count = int(study.labels.max()) + 1
    if study.class_names is not None:
        count = max(count, len(study.class_names))
    return [study.class_name(label) for label in range(count)]


def sprite_messages(pictures: Pictures) -> Iterator[Message]:
    """The thumbnails, a sheet a message."""
    sheets = -(-len(pictures.study) // pictures.per_sheet)
    for index, (first, count, png) in enumerate(pictures.sheets()):
        content = {"type": "sprites", "tile": list(pictures.tile), "columns": COLUMNS}
        content |= {"first": first, "count": count, "index": index, "of": sheets}
        yield pack(content, png=np.frombuffer(png, np.uint8))


def readout_message(readout: Readout, version: int) -> Message:
    """The figures of the readout column, the live sentence and each example's prediction."""
    content = {
        "type": "readout",
        "version": version,
        "sentence": readout.sentence,
        "intervention_words": _WORDS.get(readout.how, readout.how),
        "units": len(readout.units),
        "of": readout.of,
        "groups": [_group(name, group) for name, group in readout.groups.items()],
    }
    return pack(
        content,
        before=readout.before.numpy().astype(np.uint16),
        after=readout.after.numpy().astype(np.uint16),
        change=readout.margin_change.numpy().astype(np.float32),
    )


def ahead_message(readout: Readout, version: int) -> Message:
    """The figures of the groups that are answered first; the readout of all follows."""
    groups = [_group(name, group) for name, group in readout.groups.items()]
    sentence = f"{readout.sentence.removesuffix('.')}; the rest is on its way."
    return Message(
        {"type": "ahead", "version": version, "sentence": sentence, "groups": groups}, []
    )


def error_message(error: Exception) -> Message:
    """One clear line in place of silence."""
    text = str(error) or type(error).__name__
    return Message({"type": "error", "text": text.splitlines()[0]}, [])


def progress_message(job: str, done: int, total: int, words: str = "") -> Message:
    """How far a job is; a total of 0 ends the bar."""
    content = {"type": "progress", "job": job, "words": words, "done": done, "total": total}
    return Message(content, [])


_WORDS = {
    "zero": "unit ablation: activations set to 0",
    "mean": "unit ablation: activations set to their mean",
    "filter": "filter ablation: weights set to 0",
}


def _group(name: str, group: GroupReading) -> dict[str, Any]:
    return {
        "name": name,
        "n": group.before.n,
        "before": _reading(group.before),
        "after": _reading(group.after),
        "right_to_wrong": group.right_to_wrong,
        "wrong_to_right": group.wrong_to_right,
        "now_true": group.now_true,
    }


def _reading(reading: Reading) -> dict[str, float | None]:
    found: dict[str, float | None] = {"accuracy": reading.accuracy, "correct": reading.correct}
    found |= {"low": reading.low, "high": reading.high, "margin": _finite(reading.margin)}
    found |= {"margin_low": _finite(reading.margin_low)}
    return found | {"margin_high": _finite(reading.margin_high)}


def _finite(value: float) -> float | None:
    # JSON has no NaN; an ablated model's logits may be anything.
    return value if math.isfinite(value) else None


def random_message(
    draws: Sequence[dict[str, tuple[float, float]]], version: int, units: int, of: int
) -> Message:
    """The null so far: mean and range of the middle 95 % of the draws."""
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


NO_RANDOM = "All units of these layers are off: no random ones to compare with"


def no_random_message(version: int, units: int) -> Message:
    """That there is no null."""
    content = {"type": "random", "version": version, "units": units, "draws": 0, "of": 0}
    return Message({**content, "words": NO_RANDOM, "groups": []}, [])


def effects_message(
    key: str, label: str, exact: Effects | None, estimate: Effects, measure: str, note: str
) -> Message:
    """Exact values where they are done, estimates where they are not."""
    names = list(estimate.study.groups)
    values = contrast(estimate)
    state = np.ones(len(values), np.uint8)
    arrays: dict[str, np.ndarray] = {}
    done = 0
    if exact is not None:
        mask = exact.done.numpy()
        done = int(mask.sum())
        values = np.where(mask, contrast(exact), values)
        state[mask] = 2
        lost = torch.stack([exact.lost(name) for name in names], 1)
        arrays["lost"] = lost.numpy().astype(np.uint16)
        most = np.full((len(values), 6), 2**32 - 1, np.uint32)
        found = exact.most_lost(6).numpy()
        most[mask, : found.shape[1]] = found[mask]
        arrays["most"] = most
    content: dict[str, Any] = {
        "type": "scores",
        "key": key,
        "label": label,
        "measure": measure,
        "note": note,
    }
    content |= {"kind": "estimate" if exact is None else "exact", "done": done}
    content |= {"total": len(values)}
    return pack(content, value=values.astype(np.float32), state=state, **arrays)


def unit_scores_message(
    key: str,
    label: str,
    measure: str,
    value: np.ndarray,
    note: str = "",
    exact: np.ndarray | None = None,
) -> Message:
    """Any other score of the units, float32 ``[units]``; NaN where a unit has none.

    Where some are ``exact``, bool ``[units]``, and some are not, estimates are not ranked.
    """
    value = np.where(np.isfinite(value), value, np.nan).astype(np.float32)
    known = ~np.isnan(value)
    sure = known if exact is None else known & exact
    kind = "other" if sure.sum() == known.sum() else "exact" if sure.any() else "estimate"
    content = {"type": "scores", "key": key, "label": label, "measure": measure, "note": note}
    counts = {"kind": kind, "done": int(sure.sum()), "total": len(value)}
    state = known.astype(np.uint8) + sure.astype(np.uint8)
    return pack({**content, **counts}, value=value, state=state)


def extra_scores_message(key: str, scores: Scores, units: Sequence[Unit]) -> Message:
    """A user's own scores, put in the order of the map's units."""
    assert scores.units is not None
    row = {unit: place for place, unit in enumerate(scores.units)}
    rows = np.array([row.get(unit, -1) for unit in units])
    value = np.where(rows < 0, np.nan, scores.values[rows].astype(np.float32))
    exact = None if scores.exact is None else scores.exact[rows] & (rows >= 0)
    return unit_scores_message(key, scores.name, scores.measure, value, scores.higher, exact)


def ranking(message: Message) -> list[int]:
    """Rows from the highest score down; an estimate is never ranked among exact effects."""
    content, buffers = message
    value, state = np.frombuffer(buffers[0], np.float32), np.frombuffer(buffers[1], np.uint8)
    least = 2 if content["kind"] == "exact" or content["key"] == "effect" else 1
    known = np.flatnonzero((state >= least) & np.isfinite(value))
    ranked: list[int] = known[np.argsort(-value[known], kind="stable")].tolist()
    return ranked


def contrast(effects: Effects) -> np.ndarray:
    """Mean margin drop on the first group minus on the second, as ``Effects.scores`` has it."""
    names = list(effects.study.groups)
    drop = -effects.margin_change
    values = drop[:, effects.members(names[0])].mean(1)
    if len(names) > 1:
        values = values - drop[:, effects.members(names[1])].mean(1)
    # A unit that nothing depends on is off by rounding, which must not be drawn as a score.
    rounding = _ROUNDING * effects.margin.abs().mean()
    return np.asarray(torch.where(values.abs() < rounding, values * 0, values).numpy())
