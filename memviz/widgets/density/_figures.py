"""Figures of groups under ablation, M and held-out log p; how often an image is in training."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memviz.engine.sets import Readout
from memviz.statistics import NORMAL
from memviz.study import Study
from memviz.widgets.workbench import Controller

from ._messages import nats

_AT_ONCE = 1024  # images read together


@dataclass(frozen=True)
class Row:
    """One group's mean, in nats, before and after ablation; with random units, if drawn.

    ``shift`` is what is added to a mean margin to get this mean.
    """

    measure: str
    n: int
    before: float
    after: float
    low: float
    high: float
    shift: float
    random: tuple[float, float, float] | None = None

    @property
    def words(self) -> str:
        """The change in words."""
        return f"{self.measure} {nats(self.before)} → {nats(self.after)}"


@dataclass(frozen=True)
class Figures:
    """The rows by group; ``units`` of ``of`` are off."""

    units: int
    of: int
    rows: Mapping[str, Row]
    draws: int = 0

    def content(self) -> dict[str, Any]:
        """As sent to the browser."""
        rows = [
            {
                "name": name,
                "measure": row.measure,
                "n": row.n,
                "before": _finite(row.before),
                "after": _finite(row.after),
                "low": _finite(row.low),
                "high": _finite(row.high),
                "shift": _finite(row.shift),
                "random": None if row.random is None else [_finite(x) for x in row.random],
            }
            for name, row in self.rows.items()
        ]
        return {"units": self.units, "of": self.of, "draws": self.draws, "rows": rows}


def figures(controller: Controller, readout: Readout, columns: Mapping[int, int]) -> Figures:
    """M of groups that were trained on, log p of those that were held out, from a readout."""
    study, replay = controller.session.study, controller.session.replay
    labels = study.labels[replay.examples].to(replay.clean.device)
    margin = study.task.margin(replay.clean, labels).cpu().double()
    log_p = replay.clean.cpu().double().reshape(len(margin))
    held_out, rows = set(held_out_groups(study, columns)), {}
    change = readout.margin_change.double()
    for name, mask in study.groups.items():
        members = mask[replay.examples]
        if not members.any():
            continue
        kind = "log p" if name in held_out else "M"
        value = (log_p if name in held_out else margin)[members]
        shift = float((value - margin[members]).mean())
        rows[name] = _row(kind, value, value + change[members], shift)
    return Figures(len(readout.units), readout.of, rows)


def held_out_groups(study: Study, columns: Mapping[int, int]) -> list[str]:
    """Groups of which no example was in a training; ``columns`` has those that were."""
    covered = torch.zeros(len(study), dtype=torch.bool)
    covered[list(columns)] = True
    return [name for name, mask in study.groups.items() if not (mask & covered).any()]


def random_band(shown: Figures, readout: Readout) -> Figures:
    """The figures with mean and central 95 % range of the readout's random draws."""
    rows = dict(shown.rows)
    for name, draws in readout.random.items():
        if name in rows:
            means = draws[:, 1] + rows[name].shift
            low, high = np.percentile(means, [2.5, 97.5])
            band = (float(means.mean()), float(low), float(high))
            rows[name] = replace(rows[name], random=band)
    drawn = [len(draws) for draws in readout.random.values()]
    return replace(shown, rows=rows, draws=max(drawn, default=0))


def _row(measure: str, before: Tensor, after: Tensor, shift: float) -> Row:
    n, mean = len(after), float(after.mean())
    error = float(after.std() / n**0.5) * NORMAL if n > 1 else 0.0
    return Row(measure, n, float(before.mean()), mean, mean - error, mean + error, shift)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def times_seen(study: Study, examples: Sequence[int] | np.ndarray) -> np.ndarray:
    """How many of these examples are the same image to the bit, itself included, uint16 ``[m]``.

    Examples
    --------
    >>> import torch
    >>> images = torch.tensor([[0.0, 1.0], [1.0, 1.0], [0.0, 1.0]])
    >>> model = torch.nn.Linear(2, 2).eval()
    >>> times_seen(Study(model, images, torch.zeros(3), {"all": range(3)}), [0, 1, 2])
    array([2, 1, 2], dtype=uint16)
    """
    keys = []
    for rows in torch.as_tensor(np.asarray(examples, dtype=np.int64)).split(_AT_ONCE):
        inputs = study.rows(rows)
        images = inputs if isinstance(inputs, Tensor) else next(iter(inputs.values()))
        flat = images.detach().cpu().contiguous().flatten(1).numpy()
        keys += [blake2b(image.tobytes(), digest_size=16).digest() for image in flat]
    seen = Counter(keys)
    return np.array([min(seen[key], 65535) for key in keys], dtype=np.uint16)
