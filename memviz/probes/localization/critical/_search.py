"""Searches for the fewest units that flip an example: first-order, exact, and random order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from memviz.engine.record import Edit, Intervention, Replay
from memviz.engine.sets import greedy
from memviz.progress import slow
from memviz.restored import undisturbed
from memviz.statistics import generator_of
from memviz.study import Study
from memviz.units import Unit, UnitSet

from ._noise import NoisyBatch

Objective = Literal["loss", "margin"]
# A task may call a tie right, by the labels' numbers, and then gives it this margin.
_TIE = torch.finfo(torch.float32).tiny
_FIRST_SIZE = 4  # first size of the exact search's sets; doubled until the example flips


def first_order_search(
    replay: Replay,
    units: Sequence[Unit],
    how: Intervention,
    batch: NoisyBatch,
    *,
    on: Objective,
    cap: int,
    seed: int = 0,
) -> tuple[tuple[Unit, ...], bool]:
    """Ablate the unit that lowers the objective most to first order, until the example flips.

    The example is the batch's first; the others are the reference, which should stay right. Units
    that tie are ablated in an order drawn from the seed and the example.

    Returns
    -------
    ablated : tuple of Unit
        In the order they were ablated.
    flipped : bool
        False if the cap was reached, or no remaining unit has an effect.
    """
    ablated: list[Unit] = []
    generator = generator_of(seed, int(batch.examples[0]), 2)
    order = torch.randperm(len(units), generator=generator)
    while True:
        scores, margin = objective_drops(replay, units, how, batch, UnitSet(ablated), on=on)
        if _has_flipped(margin):
            return tuple(ablated), True
        scores[[k for k, unit in enumerate(units) if unit in ablated]] = -torch.inf
        best = int(order[scores[order].argmax()])
        if len(ablated) == cap or scores[best] == -torch.inf:
            return tuple(ablated), False
        ablated.append(units[best])


def objective_drops(
    replay: Replay,
    units: Sequence[Unit],
    how: Intervention,
    batch: NoisyBatch,
    ablated: UnitSet,
    *,
    on: Objective = "loss",
) -> tuple[Tensor, float]:
    """First-order drop of the objective for each unit, and the example's current margin.

    The objective is that of Maini et al. (2023): the summed loss of the reference examples over
    the size of the batch, minus the loss of the example (the batch's first); with ``on="margin"``
    plus its margin instead, whose slope does not vanish where the loss is near zero. A unit's drop
    is the sum over examples and positions of (activation − replacement) × slope; for the filter
    ablation of a layer that is the sum of weight × slope over the unit's weights.

    Returns
    -------
    drops : Tensor ``[units]``
        In the model's precision, float32 at least; −inf for a unit without effect on any example
        of the batch: dead, or already ablated.
    margin : float
    """
    wanted = UnitSet(units)
    total = {name: torch.zeros(len(ids)).double() for name, ids in wanted.layers.items()}
    alive = {name: torch.zeros(len(ids), dtype=torch.bool) for name, ids in wanted.layers.items()}
    margin = 0.0
    size = max(1, len(replay.chunk(0)) // len(batch.copies))
    for positions in torch.arange(len(batch.examples)).split(size):
        first = bool(positions[0] == 0)
        part = batch.few(positions)
        kept: list[tuple[str, Edit, Tensor, Tensor]] = []
        edits = [*replay.edits(0, ablated, how), *_kept_at(replay, wanted, how, kept)]
        calm = undisturbed(random=replay.trace.random, counting=replay.trace.counting)
        with calm, calm, torch.enable_grad():
            outputs = part.outputs(replay, edits)
            labels = part.labels(replay.study)
            losses = replay.study.task.loss(outputs, labels)
            value = losses[int(first) :].sum() / len(batch.examples)
            if first:
                example_margin = replay.study.task.margin(outputs[:1], labels[:1]).sum()
                margin = float(example_margin.detach())
                value = value + (example_margin if on == "margin" else -losses[0])
            passed = [activation for _, _, activation, _ in kept]
            slopes = torch.autograd.grad(value, passed, allow_unused=True)
        for (name, edit, _, step), slope in zip(kept, slopes, strict=True):
            if slope is not None:
                ids, product = list(wanted.layers[name]), step * slope
                alive[name] |= _by_unit(product.abs(), edit)[ids] > 0
                total[name] -= _by_unit(product, edit)[ids]
    for name, of_layer in total.items():
        of_layer[~alive[name]] = -torch.inf
    drop_of = {
        name: dict(zip(ids, total[name], strict=True)) for name, ids in wanted.layers.items()
    }
    drops = torch.stack([drop_of[unit.layer][unit.index] for unit in units])
    return drops.to(torch.promote_types(value.dtype, torch.float32)), margin


def exact_search(
    study: Study, units: UnitSet, how: Intervention, examples: Tensor, *, cap: int, budget: int
) -> tuple[tuple[Unit, ...], bool]:
    """Grow a set of units by the exact effect of ablating it, until the first example flips.

    This is the greedy search of ``memviz.engine.sets``, on the margin drop of the example minus the
    mean drop of the reference examples, with ``budget`` exact evaluations per unit.
    """
    is_example = torch.arange(len(examples)) == 0
    groups = {"example": is_example, "reference": ~is_example}
    few = replace(
        study, inputs=study.rows(examples), labels=study.labels[examples], groups=groups,
        true_labels=None, images=None, checkpoints={},
    )  # fmt: skip
    alone = Replay(few, torch.tensor([0]))
    if _has_flipped(_margins(alone, alone.clean)[0]):
        return (), True
    size = min(_FIRST_SIZE, cap, len(units))
    while True:
        path = greedy(
            few, size, "example", "reference", how, budget=budget * size, units=units,
            random_draws=1, progress=False,
        )  # fmt: skip
        for count in range(1, len(path.order) + 1):
            outputs = alone.outputs(UnitSet(path.order[:count]), how)
            if _has_flipped(_margins(alone, outputs)[0]):
                return path.order[:count], True
        if len(path.order) < size or size == min(cap, len(units)):
            return path.order, False
        size = min(2 * size, cap, len(units))


def random_order_counts(
    replay: Replay,
    units: Sequence[Unit],
    how: Intervention,
    batch: NoisyBatch,
    *,
    draws: int,
    seed: int,
    progress: bool = True,
) -> np.ndarray:
    """How many units, ablated in random order, flip each example: the control.

    Returns
    -------
    float64 ``[draws, b]``
        inf if all units together do not flip the example.
    """
    counts = np.full((draws, len(batch.examples)), np.inf)
    trace = replay.trace
    for draw in slow(range(draws), "random order", progress=progress):
        generator = torch.Generator().manual_seed(seed + draw)
        order = [units[k] for k in torch.randperm(len(units), generator=generator).tolist()]
        remaining = torch.arange(len(batch.examples))
        for count in range(len(order) + 1):
            part = batch.few(remaining)
            calm = undisturbed(random=trace.random, counting=trace.counting)
            with calm, calm:
                outputs = part.outputs(replay, replay.edits(0, UnitSet(order[:count]), how))
            margins = replay.study.task.margin(outputs, part.labels(replay.study))
            flipped = margins.cpu() <= _TIE
            counts[draw, remaining[flipped].numpy()] = count
            remaining = remaining[~flipped]
            if len(remaining) == 0:
                break
    return counts


def _kept_at(
    replay: Replay,
    wanted: UnitSet,
    how: Intervention,
    kept: list[tuple[str, Edit, Tensor, Tensor]],
) -> list[Edit]:
    """Edits that only record each activation and the step to its replacement."""
    changes = replay.edits(0, wanted, how)
    edits: list[Edit] = []

    def keep(name: str, edit: Edit) -> Edit:
        def change(value: Tensor, *given: Any) -> Tensor:
            step = (edit.change(value, *given) - value).detach()
            passed = value if value.requires_grad else value.detach().requires_grad_()
            kept.append((name, edit, passed, step))
            return passed.clone()  # a later in-place call must not change the recorded one

        return Edit(edit.site, change)

    for name in wanted.layers:
        located = replay.located[name]
        count = len(located.filter_sites if how.at == "filter" else located.unit_sites)
        edits += [keep(name, changes[len(edits) + k]) for k in range(count)]
    return edits


def _by_unit(product: Tensor, edit: Edit) -> Tensor:
    """Sum over examples, positions and the features of a head, ``[units of the layer]``."""
    moved = product.movedim(edit.site.axis, -1)
    heads = moved.reshape(-1, moved.shape[-1] // edit.site.width, edit.site.width)
    return heads.sum((0, 2), dtype=torch.float64).cpu()


def _has_flipped(margin: Tensor | float) -> bool:
    return float(margin) <= _TIE


def _margins(replay: Replay, outputs: Tensor) -> Tensor:
    labels = replay.study.labels[replay.examples].to(outputs.device)
    return replay.study.task.margin(outputs, labels)
