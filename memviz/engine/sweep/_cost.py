"""What a sweep will take, told before it starts: a small part is timed, the rest extrapolated."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from memviz.checks import IndicesLike, checked
from memviz.engine.record import Intervention, Replay, chunk_size, intervention
from memviz.study import Study, check_examples
from memviz.tasks import Language
from memviz.units import Unit, UnitsLike

from ._estimate import estimate_effects
from ._one_at_a_time import Engine, OneAtATime
from ._steps import chosen_units, new_effects, sweep_steps

_LAYERS = 4  # from the first to the last, since late layers leave less to run again
_UNITS = 4  # of each, after the first, with which a layer is also checked


@dataclass(frozen=True)
class Cost:
    """How long a sweep will take on this machine: an estimate, from a small part of it.

    Attributes
    ----------
    units, examples : int
        Of the sweep.
    top : int
        Units with exact values; the others keep their estimate.
    estimates : float
        Seconds until every unit has an estimate.
    exact : float
        Seconds more for the exact values.
    engine : str
        Which ran the timed part.
    noun : str
        What an example is called.
    """

    units: int
    examples: int
    top: int
    estimates: float
    exact: float
    engine: str
    noun: str = "examples"

    def __str__(self) -> str:
        rest = "all" if self.top == self.units else f"the top {self.top:,}"
        return (
            f"{self.units:,} units × {self.examples:,} {self.noun}: estimates in about "
            f"{_told(self.estimates)}, {rest} exactly in about {_told(self.exact)} more (estimated "
            "from a small part)"
        )


@checked
def cost(
    study: Study,
    units: UnitsLike | None = None,
    examples: IndicesLike | None = None,
    how: str | Intervention = "zero",
    *,
    top: int | None = None,
    memory: int | None = None,
    engine: Engine = "auto",
) -> Cost:
    """What ``sweep`` with these arguments will take, from one chunk of examples and a few units.

    Times the recording and the estimates of one chunk, and some units of four layers from the
    first to the last. The units that come out on top may lie elsewhere, and other work on the
    machine counts: it is an estimate, and says so.

    Parameters
    ----------
    study, units, examples, how, top, memory, engine
        As for :func:`sweep`.

    Returns
    -------
    Cost
        Its text is one line.

    Raises
    ------
    ValueError
        As for :func:`sweep`.

    Examples
    --------
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    >>> study = Study(model.eval(), torch.randn(6, 4), torch.zeros(6), {"test": range(6)})
    >>> print(cost(study, top=3))
    8 units × 6 examples: estimates in about 1 s, the top 3 exactly in about 1 s more (estimated ...
    """
    chosen_examples, how = check_examples(study, examples), intervention(how)
    n = len(chosen_examples)
    start = time.perf_counter()
    replay = Replay(study, chosen_examples[: min(2, n)], memory=memory)
    size = chunk_size(
        replay.trace.bytes // min(2, n),
        study.device,
        largest=replay.trace.largest // min(2, n),
        memory=memory,
        weights=sum(parameter.nbytes for parameter in study.model.parameters()),
    )
    few = min(n, size)
    if few > 2:
        start = time.perf_counter()
        replay = Replay(study, chosen_examples[:few], memory=memory)
    recording = time.perf_counter() - start
    chosen = chosen_units(replay, units)
    top = len(chosen) if top is None else top
    if not 0 <= top <= len(chosen):
        raise ValueError(
            f"top is {top}; this sweep has {len(chosen)} units to choose from, so top must be 0 to "
            f"{len(chosen)}."
        )
    start = time.perf_counter()
    estimate_effects(replay, chosen, how)
    estimating = time.perf_counter() - start
    exact, used = _exact(replay, chosen, how, top, engine) if top else (0.0, replay.engine)
    noun = "passages" if isinstance(study.task, Language) else "examples"
    share = n / few
    return Cost(len(chosen), n, top, share * (recording + estimating), share * exact, used, noun)


def _exact(
    replay: Replay, units: Sequence[Unit], how: Intervention, top: int, engine: Engine
) -> tuple[float, str]:
    """Seconds for the exact values of some units on a replay's examples, and the engine."""
    by_layer: dict[str, list[int]] = {}
    for row, unit in enumerate(units):
        by_layer.setdefault(unit.layer, []).append(row)
    names = list(by_layer)
    timed = sorted({round(k * (len(names) - 1) / max(1, _LAYERS - 1)) for k in range(_LAYERS)})
    effects = new_effects(replay, units, how)
    fast = OneAtATime(replay, how, engine)
    checks, alone = [], []

    def seconds(rows: list[int]) -> float:
        start = time.perf_counter()
        for _ in sweep_steps(replay, effects, how, rows, fast):
            pass
        return time.perf_counter() - start

    for place in timed:
        first, *others = by_layer[names[place]][: 1 + _UNITS]
        once = seconds([first])  # checks the layer too
        each = seconds(others) / len(others) if others else once
        checks.append(max(0.0, once - each))
        alone.append(each)
    layers = min(len(names), top)
    return layers * _mean(checks) + top * _mean(alone), effects.engine


def _mean(values: Sequence[float]) -> float:
    return float(torch.tensor(values, dtype=torch.float64).mean())


def _told(seconds: float) -> str:
    """A time in words, with two digits at most.

    Examples
    --------
    >>> [_told(t) for t in (0.2, 40.4, 130, 3600, 7000, 90000)]
    ['1 s', '40 s', '2 min', '1 h', '2 h', '25 h']
    """
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 3570:
        return f"{round(seconds / 60)} min"
    return f"{round(seconds / 3600):,} h"
