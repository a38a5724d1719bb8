"""Sweep: ablate every unit, one at a time, exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from torch import Tensor
from tqdm.auto import tqdm

from memviz.engine.effects import Effects
from memviz.engine.interventions import Intervention, intervention
from memviz.engine.runner import CancelledError, Replay
from memviz.study import Study
from memviz.units import Layer, Unit, UnitSet, UnitsLike


def sweep(
    study: Study,
    units: UnitsLike | None = None,
    examples: Tensor | None = None,
    how: str | Intervention = "zero",
    *,
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
    memory : int, optional
        Bytes of recorded passes to keep.
    progress : bool
        Show a progress bar; interrupting the cell stops the sweep and leaves no trace.
    stop : callable, optional
        Asked before each unit; True raises CancelledError.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    >>> study = Study(model.eval(), torch.randn(6, 4), torch.zeros(6), {"test": range(6)})
    >>> sweep(study, "0:0-3", progress=False)
    Effects(zero on 4 units × 6 examples, 4 done, path replay)
    """
    replay = Replay(study, examples, memory=memory)
    chosen = list(replay.check(units)) if units is not None else default_units(replay.layers)
    kind = intervention(how)
    effects = new_effects(replay, chosen, kind)
    with tqdm(total=len(chosen), disable=not progress, unit="unit", desc="sweep") as bar:

        def run() -> None:
            for done in sweep_steps(replay, effects, kind):
                if stop is not None and stop():
                    raise CancelledError("cancelled; nothing has changed.")
                bar.update(int(done) - bar.n)

        replay.guard(run)
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
