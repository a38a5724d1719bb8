"""What is recorded while units of each layer are measured: times, and agreement with the hook."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

import memviz as mv
from benchmarks.peers import CaptumPart
from benchmarks.report import significant
from benchmarks.timing import Timing


@dataclass
class LayerTimes:
    """One layer: how many units it has, which were run, and the times of each method.

    ``first`` holds an engine's first unit of the layer; ``times`` the others, or all units where a
    method prepares nothing.
    """

    units: int
    sampled: list[mv.Unit]
    times: dict[str, Timing] = field(default_factory=lambda: defaultdict(Timing))
    first: dict[str, Timing] = field(default_factory=lambda: defaultdict(Timing))
    captum: CaptumPart | None = None

    def seconds(self, way: str, clock: str = "cpu") -> list[float]:
        """Seconds that all units of the layer take, one figure per round."""
        rounds: list[float] = getattr(self.times[way], clock)
        if way == "captum" and self.captum is not None:
            passes = self.units + self.captum.fixed
            return [seconds * passes / self.captum.passes for seconds in rounds]
        if way not in self.first:
            return [seconds * self.units / len(self.sampled) for seconds in rounds]
        first: list[float] = getattr(self.first[way], clock)
        more = (self.units - 1) / (len(self.sampled) - 1)
        return [a + more * b for a, b in zip(first, rounds, strict=True)]


@dataclass
class Agreement:
    """How close an engine comes to the hook, chunk by chunk on the same inputs."""

    bitwise: bool = True
    difference: float = 0.0
    largest: float = 0.0
    changed: int = 0

    def add(self, ours: Tensor, theirs: Tensor) -> None:
        """Compare the logits of one unit on one chunk."""
        self.bitwise &= torch.equal(ours, theirs)
        self.difference = max(self.difference, float((ours - theirs).abs().max()))
        self.largest = max(self.largest, float(theirs.abs().max()))
        self.changed += int((ours.argmax(1) != theirs.argmax(1)).sum())

    def facts(self) -> dict[str, Any]:
        """For the report; the error is a share of the largest logit."""
        return {
            "max_error": significant(self.difference / self.largest, 2),
            "bitwise": self.bitwise,
            "equal_predictions": self.changed == 0,
        }


def spread(units: int, count: int) -> list[int]:
    """Indices spread evenly over a layer.

    Examples
    --------
    >>> spread(64, 3), spread(4, 9)
    ([0, 32, 63], [0, 1, 2, 3])
    """
    count = min(units, max(count, 2))
    return [round(k * (units - 1) / max(count - 1, 1)) for k in range(count)]
