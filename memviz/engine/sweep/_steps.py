"""The steps of a sweep: ablate every unit, one at a time, exactly."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from memviz.engine.record import Intervention, Replay
from memviz.units import Layer, Unit, UnitsLike

from ._effects import Effects
from ._one_at_a_time import OneAtATime
from ._packed import Packed


def default_units(layers: Sequence[Layer]) -> list[Unit]:
    """Every unit of every layer, in order, except those of the output layer.

    Examples
    --------
    >>> hidden = Layer("fc", "linear", 2, "linear > relu")
    >>> output = Layer("head", "linear", 3, "linear", is_output=True)
    >>> [str(unit) for unit in default_units([hidden, output])]
    ['fc:0', 'fc:1']
    """
    return [unit for layer in layers if not layer.is_output for unit in layer.all()]


def chosen_units(replay: Replay, units: UnitsLike | None) -> list[Unit]:
    """The units to sweep, all by default.

    Raises
    ------
    ValueError
        If the model has none besides its output layer.
    """
    chosen = default_units(replay.layers) if units is None else list(replay.check(units))
    if chosen or units is not None:
        return chosen
    model = replay.study.model
    kind = type(model).__name__
    if isinstance(model, torch.jit.ScriptModule):
        raise ValueError(
            f"the model is scripted ({kind}), and memviz can't see the layers inside; give the "
            "module that it was scripted from."
        )
    where = "besides its output layer" if replay.layers else "at all"
    raise ValueError(
        f"{kind} has no layer with units {where}; memviz ablates units of conv, linear, recurrent "
        "and attention layers."
    )


def new_effects(replay: Replay, units: Sequence[Unit], how: Intervention) -> Effects:
    """Effects of these units on the replay's examples, not yet filled."""
    return Effects.empty(
        replay.study, tuple(units), replay.examples, str(how), replay.engine, replay.clean
    )


# If the recorded passes do not fit in memory, each batch of units records them again: small batches
# first, so that there soon is something to see and to keep, then larger ones.
_SMALLEST, _LARGEST = 16, 256


def batches(replay: Replay, rows: Sequence[int]) -> Iterator[Sequence[int]]:
    """The rows in batches, each to be finished before the next; all at once if passes are kept."""
    size, start = _SMALLEST if replay.engine == "hook" else len(rows), 0
    while start < len(rows):
        yield rows[start : start + size]
        start, size = start + size, min(2 * size, _LARGEST)


def sweep_steps(
    replay: Replay,
    effects: Effects,
    how: Intervention,
    order: Sequence[int] | None = None,
    fast: OneAtATime | None = None,
    see: Callable[[list[int], Tensor, Tensor], None] | None = None,
) -> Iterator[float]:
    """Fill effects step by step; yields how many units' worth of work is done.

    If all passes are recorded, units are finished one after the other, in ``order``. If they do
    not fit in memory, each chunk of examples is recorded once and all units are run on it.
    ``fast`` may be passed from one call to the next, so that its layers are checked only once.
    Hard networks of logic gates run on packed bits, as many examples at once as memory allows.
    ``see(rows, positions, outputs)`` is called with all outputs as they are made.
    """
    rows = list(range(len(effects.units)) if order is None else order)
    fast = OneAtATime(replay, how) if fast is None else fast
    at_once = _AtOnce()
    if fast.packed is not None:
        why = fast.packed.disagreement(effects.units[row].layer for row in rows)
        if not why:
            yield from _packed_steps(fast.packed, effects, rows, at_once, see)
            return
        fast.give_up_packed(why)
    if replay.engine == "replay":
        start = 0
        while start < len(rows):
            few = rows[start : start + at_once.units]
            for step in range(replay.steps):
                with at_once.timed(len(few)):
                    _put(replay, effects, fast, step, few, see)
                effects.engine, effects.why = fast.engine, fast.why
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
                    _put(replay, effects, fast, step, few, see)
                start += len(few)
                effects.done[few] = step == replay.steps - 1
                yield (step * len(rows) + start) / replay.steps
            fast.forget()  # or two chunks' records would be in memory
    effects.engine, effects.why = fast.engine, fast.why


def _packed_steps(
    packed: Packed,
    effects: Effects,
    rows: Sequence[int],
    at_once: _AtOnce,
    see: Callable[[list[int], Tensor, Tensor], None] | None,
) -> Iterator[float]:
    effects.engine, effects.why = "packed", ""
    chunks = packed.chunks()
    for step, positions in enumerate(chunks):
        start = 0
        while start < len(rows):
            few = list(rows[start : start + at_once.units])
            with at_once.timed(len(few)):
                outputs = packed.outputs(positions, [effects.units[row] for row in few])
                effects.put(few, positions, outputs)
            if see is not None:
                see(few, positions, outputs)
            start += len(few)
            effects.done[few] = step == len(chunks) - 1
            yield (step * len(rows) + start) / len(chunks)


def _put(
    replay: Replay,
    effects: Effects,
    fast: OneAtATime,
    step: int,
    rows: list[int],
    see: Callable[[list[int], Tensor, Tensor], None] | None,
) -> None:
    outputs = fast.outputs(step, [effects.units[row] for row in rows])
    effects.put(rows, replay.chunk(step), outputs)
    if see is not None:
        see(rows, replay.chunk(step), outputs)


_MOST = 64


class _AtOnce:
    """How many units to run between two checks of the stop button: about 0.1 s of work."""

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
