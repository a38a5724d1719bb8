"""Messages of the workbench: pictures, readouts, effects."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from memviz.engine.sets import GroupReading, Reading, Readout
from memviz.engine.sweep import Effects
from memviz.widgets.core import COLUMNS, NO_RANDOM, ROUNDING, Message, Pictures, pack


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


def contrast(effects: Effects) -> np.ndarray:
    """Mean margin drop on the first group minus on the second, as ``Effects.scores`` has it."""
    names = list(effects.study.groups)
    drop = -effects.margin_change
    values = drop[:, effects.members(names[0])].mean(1)
    if len(names) > 1:
        values = values - drop[:, effects.members(names[1])].mean(1)
    # A unit that nothing depends on is off by rounding, which must not be drawn as a score.
    rounding = ROUNDING * effects.margin.abs().mean()
    return np.asarray(torch.where(values.abs() < rounding, values * 0, values).numpy())
