"""Estimate: the effects of all units at once, to first order."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from memviz.checks import IndicesLike, checked
from memviz.engine.record import (
    Edit,
    Intervention,
    Layout,
    Replay,
    Site,
    Trace,
    intervention,
    layout,
    run_edited,
    tensors_in,
    trace,
)
from memviz.progress import slow
from memviz.restored import undisturbed
from memviz.study import Study, check_examples
from memviz.units import Unit, UnitSet, UnitsLike

from ._effects import Effects
from ._steps import chosen_units, new_effects


@checked
def estimate(
    study: Study,
    units: UnitsLike | None = None,
    examples: IndicesLike | None = None,
    how: str | Intervention = "zero",
) -> Effects:
    """Gradient × activation: the effect of each unit alone, to first order.

    The margin or loss change is estimated as the sum over the unit's positions of (replacement −
    activation) × gradient, in one forward and backward pass for all units (Molchanov et al. 2017;
    Maini et al. 2023 rank filters by it).

    Parameters
    ----------
    study : Study
    units : UnitSet or text, optional
        By default all units but those of the output layer.
    examples : int64 ``[n]`` or bool mask, optional
        All by default; a list, an array or a column of a table will do.
    how : str or Intervention

    Returns
    -------
    Effects
        With engine ``"estimate"``; right only where the model is linear after the unit.

    Examples
    --------
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    >>> study = Study(model.eval(), torch.randn(6, 4), torch.zeros(6), {"test": range(6)})
    >>> estimate(study)
    Effects(zero on 8 units × 6 examples, 8 done, engine estimate)
    """
    replay = Replay(study, check_examples(study, examples), memory=0)
    chosen = chosen_units(replay, units)
    return estimate_effects(replay, chosen, intervention(how), progress=True)


@checked
def estimate_effects(
    replay: Replay,
    units: list[Unit],
    how: Intervention,
    *,
    ablated: UnitSet | None = None,
    share: float = 0.0,
    progress: bool = False,
) -> Effects:
    """The estimate on a replay's examples.

    With ``ablated``, the effect of each unit in addition to the ablation of these. ``share`` says
    where the gradient is taken on the way of all units from their activation (0) to its
    replacement (1): averaged over the way, estimates add up to the effect of all units together
    (Sundararajan et al. 2017, proposition 1).
    """
    effects = new_effects(replay, units, how)
    steps = estimate_steps(replay, effects, how, ablated=ablated, share=share)
    for _ in slow(steps, "estimate", total=replay.steps, progress=progress):
        pass
    return effects


def estimate_steps(
    replay: Replay,
    effects: Effects,
    how: Intervention,
    *,
    ablated: UnitSet | None = None,
    share: float = 0.0,
) -> Iterator[None]:
    """Fill new effects with estimates, chunk by chunk, as :func:`estimate_effects` does at once."""
    effects.engine = "estimate"
    rows: dict[str, list[int]] = {}
    for row, unit in enumerate(effects.units):
        rows.setdefault(unit.layer, []).append(row)
    chosen, axes, step = UnitSet(effects.units), ExampleAxes(replay), 0
    while step < replay.steps:
        size, given = replay.size, (effects, chosen, rows, how, axes, ablated or UnitSet(), share)
        replay.guard(partial(_chunk, replay, step, *given))
        step = step + 1 if replay.size == size else 0  # chunks halved for want of memory are others
        yield
    known = ~effects.margin_change.isnan().any(1)
    effects.correct = effects.margin[None] + effects.margin_change > 0
    effects.done[:] = known
    unknown = dict.fromkeys(
        unit.layer for unit, has in zip(effects.units, known, strict=True) if not has
    )
    if unknown:
        effects.why = (
            f"no estimate for {', '.join(unknown)}, where it can't be told which position belongs "
            "to which example"
        )


def _chunk(
    replay: Replay,
    step: int,
    effects: Effects,
    chosen: UnitSet,
    rows: dict[str, list[int]],
    how: Intervention,
    axes: ExampleAxes,
    ablated: UnitSet,
    share: float,
) -> None:
    study, positions = replay.own_study, replay.chunk(step)
    changes = replay.edits(step, chosen, how)
    sites: list[tuple[str, Edit]] = []
    for name in chosen.layers:
        located = replay.place(step, name)
        if located is None:
            continue  # these examples do not reach the layer
        count = len(located.unit_sites if how.at == "unit" else located.filter_sites)
        sites += [(name, changes[len(sites) + k]) for k in range(count)]
    passed: dict[Edit, Tensor] = {}
    steps: dict[Edit, Tensor] = {}

    def keep(edit: Edit) -> Edit:
        def change(value: Tensor, *given: Any) -> Tensor:
            step = edit.change(value, *given) - value
            steps[edit] = step.detach()
            value = value + share * step if share else value
            passed[edit] = value if value.requires_grad else value.detach().requires_grad_()
            return passed[edit].clone()  # a later in-place call must not change the kept one

        return Edit(edit.site, change)

    path = replay.trace_of(step)
    calm = undisturbed(random=path.random, counting=path.counting)
    with calm, calm, torch.enable_grad():
        call = study.call(study.batch(replay.examples[positions]))
        present = replay.edits(step, ablated, how)
        # First the units already ablated, then the estimated ones on what is left.
        raw = run_edited(path, [*present, *(keep(edit) for _, edit in sites)], call)
        outputs = study.task.outputs(raw)
        labels = study.labels[replay.examples[positions]].to(outputs.device)
        values = [passed[edit] for _, edit in sites]
        margin = study.task.margin(outputs, labels).sum()
        loss = study.task.loss(outputs, labels).sum()
        slopes = [
            torch.autograd.grad(margin, values, retain_graph=True, allow_unused=True),
            torch.autograd.grad(loss, values, allow_unused=True),
        ]
    with torch.no_grad():
        for table, gradients in zip(
            (effects.margin_change, effects.loss_change), slopes, strict=True
        ):
            # 0, not NaN: a unit without a gradient does not reach the output.
            for name in rows:
                table[rows[name][0] : rows[name][-1] + 1, positions] = 0.0
            for (name, edit), gradient in zip(sites, gradients, strict=True):
                if gradient is not None:
                    place = torch.tensor(rows[name])[:, None], positions
                    product = steps[edit] * gradient
                    known = replay.place(step, name)
                    apart = known is not None and known.by_example
                    shape = tuple(product.shape)
                    where = axes.of(step, edit.site, len(positions), shape) if apart else None
                    if where is None:
                        table[place] = torch.nan
                        continue
                    table[place] += _by_unit(product, edit, where, chosen.layers[name]).cpu()


class ExampleAxes:
    """Which axis of an activation grows with the examples, by site and path."""

    def __init__(self, replay: Replay) -> None:
        self._replay = replay
        self._larger: dict[int, tuple[Trace, Trace, int]] = {}

    def of(self, step: int, site: Site, examples: int, shape: tuple[int, ...]) -> Layout | None:
        """Where the examples are in an activation of this shape; None if that can't be told."""
        path = self._replay.trace_of(step)
        if id(path) not in self._larger:
            self._larger[id(path)] = self._both(step)
        small, large, count = self._larger[id(path)]
        known = layout(_shape(site, small), count, _shape(site, large), count + 1)
        if known is None or shape[known.axis] != known.places * examples:
            return None
        return known

    def _both(self, step: int) -> tuple[Trace, Trace, int]:
        """The pass of the chunk's first examples, and one with the first of them once more."""
        replay = self._replay
        study, path, known = replay.own_study, replay.trace_of(step), len(replay.chunk(step))
        for count in sorted({min(2, known), known}):
            examples = replay.examples[replay.chunk(step)[:count]]
            more = torch.cat([examples, examples[:1]])
            seen = [trace(study.model, study.call(study.batch(e))) for e in (examples, more)]
            if all(_same_calls(path, other) for other in seen):
                return seen[0], seen[1], count
        return path, path, 0


def _same_calls(path: Trace, other: Trace) -> bool:
    return [call.function for call in path.calls] == [call.function for call in other.calls]


def _shape(site: Site, seen: Trace) -> tuple[int, ...]:
    call = seen.calls[site.call]
    passed = call.inputs[site.argument] if site.at == "input" else tensors_in(call.output)[0]
    return tuple(passed.shape)


def _by_unit(product: Tensor, edit: Edit, where: Layout, indices: tuple[int, ...]) -> Tensor:
    """Sum over positions and a head's features, ``[units, examples]``."""
    site, axis = edit.site, edit.site.axis % product.dim()
    moved = where.rows(product).movedim(axis + 1, -1)
    grouped = moved.reshape(len(moved), -1, product.shape[axis] // site.width, site.width)
    return grouped.sum((1, 3)).T[list(indices)].float()
