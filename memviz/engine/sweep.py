"""Sweep: ablate every unit, one at a time, exactly."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from memviz.engine.effects import Effects
from memviz.engine.one_at_a_time import Engine, OneAtATime
from memviz.engine.record import Intervention, Replay
from memviz.study import Study
from memviz.units import Layer, Unit, UnitsLike


def sweep(
    study: Study,
    units: UnitsLike | None = None,
    examples: Tensor | None = None,
    how: str | Intervention = "zero",
    *,
    top: int | None = None,
    group: str | None = None,
    against: str | None = None,
    path: str | Path | None = None,
    memory: int | None = None,
    engine: Engine = "auto",
    progress: bool = True,
    stop: Callable[[], bool] | None = None,
) -> Effects:
    """Effect of each unit alone on each example, exact.

    Parameters
    ----------
    study : Study
    units : UnitSet or text, optional
        All units but those of the output layer, unless given.
    examples : int64 ``[n]``, optional
        All unless given.
    how : str or Intervention
    top : int, optional
        Exact for so many units, those with the largest estimated effect on ``group`` against
        ``against``; the others keep their gradient × activation estimate, and ``effects.exact``
        tells which is which.
    group, against : str, optional
        As in ``Effects.scores``; used with ``top`` only.
    path : str or Path, optional
        A safetensors file that keeps what is done: written every few seconds, at the end and when
        interrupted. The same sweep called again goes on from there.
    memory : int, optional
        Bytes of recorded passes to keep.
    engine : {"auto", "graph", "replay"}
        The graph engine is the faster one and equals a plain hook to float rounding; it is checked
        against replay, which is bitwise a hook, and left where it fails. ``effects.engine`` says
        which ran.
    progress : bool
        Show a progress bar; interrupting the cell stops the sweep and leaves no trace.
    stop : callable, optional
        Asked before each unit; True raises CancelledError.

    Raises
    ------
    CancelledError
        If ``stop()`` says so.
    ValueError
        If ``path`` is damaged or keeps another sweep: other weights, data, units or examples.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    >>> study = Study(model.eval(), torch.randn(6, 4), torch.zeros(6), {"test": range(6)})
    >>> sweep(study, "0:0-3", progress=False)
    Effects(zero on 4 units × 6 examples, 4 done, engine ...)
    >>> sweep(study, top=2, progress=False)
    Effects(zero on 8 units × 6 examples, 2 done, 6 estimated, engine ...)
    """
    # It builds on this file's steps; a top-level import would go round in a circle.
    from memviz.engine.stream import sweep_stream

    *_, effects = sweep_stream(
        study,
        units,
        examples,
        how,
        estimates=top is not None,
        top=top,
        group=group,
        against=against,
        path=path,
        memory=memory,
        engine=engine,
        progress=progress,
        stop=stop,
    )
    return effects


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
