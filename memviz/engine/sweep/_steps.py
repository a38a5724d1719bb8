"""Sweep: ablate every unit, one at a time, exactly."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from memviz.engine.record import Intervention, Replay
from memviz.units import Layer, Unit

from ._effects import Effects
from ._one_at_a_time import OneAtATime


def default_units(layers: Sequence[Layer]) -> list[Unit]:
    """Every unit of every layer, in order, but for the layer that makes the output itself."""
    return [unit for layer in layers if not layer.is_output for unit in layer.all()]


def new_effects(replay: Replay, units: Sequence[Unit], kind: Intervention) -> Effects:
    """Empty effects of these units on the replay's examples."""
    return Effects.empty(
        replay.study, tuple(units), replay.examples, str(kind), replay.engine, replay.clean
    )


def sweep_steps(
    replay: Replay,
    effects: Effects,
    kind: Intervention,
    order: Sequence[int] | None = None,
    fast: OneAtATime | None = None,
) -> Iterator[float]:
    """Fill effects step by step; after each step, how many units' worth of work is done.

    Recorded passes let some units be finished before the next, in the order asked for; where they
    do not all fit in memory, each chunk of examples is recorded once and all units run on it.
    ``fast`` may be handed from one call to the next, so that its layers are checked once.
    """
    rows = list(range(len(effects.units)) if order is None else order)
    fast = OneAtATime(replay, kind) if fast is None else fast
    at_once = _AtOnce()
    if replay.engine == "replay":
        start = 0
        while start < len(rows):
            few = rows[start : start + at_once.units]
            for step in range(replay.steps):
                with at_once.timed(len(few)):
                    _put(replay, effects, fast, step, few)
                effects.engine = fast.engine
                effects.done[few] = step == replay.steps - 1
                yield start + len(few) * (step + 1) / replay.steps
            start += len(few)
        return
    for step in range(replay.steps):
        with replay.recorded(step):
            start = 0
            while start < len(rows):
                few = rows[start : start + at_once.units]
                with at_once.timed(len(few)):
                    _put(replay, effects, fast, step, few)
                start += len(few)
                effects.done[few] = step == replay.steps - 1
                yield (step * len(rows) + start) / replay.steps
            fast.forget()  # or the next chunk's record would stand beside this one
    effects.engine = fast.engine


def _put(replay: Replay, effects: Effects, fast: OneAtATime, step: int, rows: list[int]) -> None:
    outputs = fast.outputs(step, [effects.units[row] for row in rows])
    effects.put(rows, replay.chunk(step), outputs)


_MOST = 64


class _AtOnce:
    """How many units between two looks at the stop button: a tenth of a second's worth."""

    def __init__(self) -> None:
        self.units = 1

    @contextmanager
    def timed(self, units: int) -> Iterator[None]:
        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        if seconds < 0.05 and units == self.units:
            self.units = min(2 * self.units, _MOST)
        elif seconds > 0.2:
            self.units = max(1, self.units // 2)
