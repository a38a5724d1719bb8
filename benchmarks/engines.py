"""memviz's engines as the benchmarks run them: one small function for each thing that is timed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

import memviz as mv
from benchmarks.timing import Timing
from memviz.engine.record import Zero
from memviz.engine.sweep import Effects, Engine, OneAtATime, new_effects, sweep_steps

ENGINES: tuple[Engine, ...] = ("auto", "replay")  # the first is what a user gets unasked


def prepare(study: mv.Study) -> mv.Replay:
    """Record a study's forward passes: done once, whatever is swept."""
    return mv.Replay(study)


def evaluate(engine: Engine, replay: mv.Replay, units: Sequence[mv.Unit]) -> Effects:
    """The effect of each of these units alone on every example."""
    effects = new_effects(replay, units, Zero())
    _finish(sweep_steps(replay, effects, Zero(), fast=OneAtATime(replay, Zero(), engine)))
    return effects


def evaluate_timed(
    engine: Engine, replay: mv.Replay, units: Sequence[mv.Unit], first: Timing, rest: Timing
) -> None:
    """The same, the first unit timed by itself.

    An engine prepares a layer when it meets its first unit (builds its graph and checks itself
    against replay); a layer of hundreds of units pays that once, and so does the sum.
    """
    effects = new_effects(replay, units, Zero())
    steps = sweep_steps(replay, effects, Zero(), fast=OneAtATime(replay, Zero(), engine))
    first.run(lambda: next(done for done in steps if done >= 1))
    rest.run(lambda: _finish(steps))


def answers(engine: Engine, replay: mv.Replay) -> OneAtATime:
    """An engine's outputs themselves, to compare with the hook's."""
    return OneAtATime(replay, Zero(), engine)


def logits(asked: OneAtATime, step: int, unit: mv.Unit) -> Tensor:
    """Logits of one chunk of examples with one unit ablated."""
    return asked.outputs(step, [unit])[0]


def _finish(steps: Iterator[float]) -> None:
    for _ in steps:
        pass
