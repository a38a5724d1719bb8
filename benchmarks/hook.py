"""The plain way to ablate: a forward hook that zeroes one unit, and one run of the model per unit.

Written as users write it, and given its best batch size; every ratio is relative to this loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

import memviz as mv
from benchmarks.models import POOL, Subject
from benchmarks.timing import Timing
from memviz.engine.sweep import Effects

BATCHES = (8, 16, 32, 64, 128, 256, 512)


@contextmanager
def zeroed(module: nn.Module, unit: int, axis: int) -> Iterator[None]:
    """Zero one channel or feature of a module's output while the block runs."""

    def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        # In place: the output was made just now, and a copy would only cost time.
        output.select(axis, unit).zero_()

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def hook_logits(subject: Subject, unit: mv.Unit, inputs: Tensor) -> Tensor:
    """Logits of a batch with one unit ablated."""
    return set_logits(subject, [unit], inputs)


@torch.inference_mode()
def set_logits(subject: Subject, units: Iterable[mv.Unit], inputs: Tensor) -> Tensor:
    """Logits of a batch with some units ablated together, a hook for each."""
    with ExitStack() as hooks:
        for unit in units:
            hooks.enter_context(zeroed(subject.module(unit.layer), unit.index, subject.axis))
        logits: Tensor = subject.model(inputs)
    return logits


def hook_loop(
    subject: Subject, study: mv.Study, units: Sequence[mv.Unit], batch: int, effects: Effects
) -> None:
    """Fill in the effects of some units, each by forward passes over all examples."""
    for row, unit in enumerate(units):
        for positions in torch.arange(len(study)).split(batch):
            logits = hook_logits(subject, unit, study.inputs[positions])
            effects.put([row], positions, logits[None])


def best_batch(
    subject: Subject, batches: Sequence[int] = BATCHES, repeats: int = 2
) -> tuple[int, dict[int, float]]:
    """The batch size at which the hook loop needs the least time per example.

    Returns
    -------
    batch : int
    tried : dict of batch size to CPU milliseconds per example, the best of the repeats
    """
    layers = list(subject.sites)
    unit = mv.Unit(layers[len(layers) // 2], 0)
    least = min(POOL, max(batches)) // 8
    hook_logits(subject, unit, subject.inputs[: batches[0]])  # the first pass of all is slow
    timings, counts = {batch: Timing() for batch in batches}, {}
    for _ in range(repeats):
        for batch, timing in timings.items():
            # Small batches are run several times, so that every size is timed for long enough.
            counts[batch] = max(batch, least)
            for inputs in subject.inputs[: counts[batch]].split(batch):
                timing.run(lambda inputs=inputs: hook_logits(subject, unit, inputs))
    tried = {}
    for batch, timing in timings.items():
        rounds = torch.tensor(timing.cpu).view(repeats, -1).sum(1)
        tried[batch] = float(rounds.min()) / counts[batch] * 1000
    return min(tried, key=lambda batch: tried[batch]), tried
