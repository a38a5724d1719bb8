"""Sweep: ablate every unit, one at a time, exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from torch import Tensor

from memviz.engine.effects import Effects
from memviz.engine.interventions import Intervention
from memviz.engine.runner import Replay
from memviz.study import Study
from memviz.units import Layer, Unit, UnitSet, UnitsLike


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
    Effects(zero on 4 units × 6 examples, 4 done, path ...)
    >>> sweep(study, top=2, progress=False)
    Effects(zero on 8 units × 6 examples, 2 done, 6 estimated, path ...)
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
        replay.study, tuple(units), replay.examples, str(kind), replay.path, replay.clean
    )


def sweep_steps(
    replay: Replay, effects: Effects, kind: Intervention, order: Sequence[int] | None = None
) -> Iterator[float]:
    """Fill effects step by step; after each step, how many units' worth of work is done.

    Recorded passes let one unit be finished before the next, in the order asked for; where they
    do not all fit in memory, each chunk of examples is recorded once and all units run on it.
    """
    rows = range(len(effects.units)) if order is None else order
    sets = [UnitSet([unit]) for unit in effects.units]
    if replay.path == "replay":
        for count, row in enumerate(rows):
            for step in range(replay.steps):
                outputs = replay.chunk_outputs(step, sets[row], kind)
                effects.put(row, replay.chunk(step), outputs)
                effects.done[row] = step == replay.steps - 1
                yield count + (step + 1) / replay.steps
        return
    for step in range(replay.steps):
        with replay.recorded(step):
            for count, row in enumerate(rows, 1):
                outputs = replay.chunk_outputs(step, sets[row], kind)
                effects.put(row, replay.chunk(step), outputs)
                effects.done[row] = step == replay.steps - 1
                yield (step * len(rows) + count) / replay.steps
    effects.path = "replay"
