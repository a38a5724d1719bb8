"""Critical units: how many units, and which, must be ablated to flip one example."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from memviz.engine.record import Intervention, Replay, intervention
from memviz.engine.sweep import default_units
from memviz.progress import slow
from memviz.study import Study, check_examples, default_groups
from memviz.units import UnitSet, UnitsLike

from ._search import NoisyBatch, Objective, exact_search, first_order_search, random_order_counts
from ._table import CriticalUnits

Method = Literal["first-order", "exact"]


def critical_units(
    study: Study,
    examples: Tensor | None = None,
    how: str | Intervention = "filter",
    method: Method = "first-order",
    *,
    per_group: int = 40,
    units: UnitsLike | None = None,
    cap: int = 100,
    reference: int = 512,
    copies: int = 5,
    noise: float = 0.01,
    on: Objective = "loss",
    budget: int = 16,
    random_draws: int = 5,
    seed: int = 0,
    progress: bool = True,
) -> CriticalUnits:
    """Ablate unit after unit, the most critical of all layers first, until an example flips.

    To first order, as published: a batch of reference examples and the example, each as a few
    noisy copies that are judged by their mean output (so that the search does not find adversarial
    directions); the objective is the reference's mean loss minus the example's; the unit whose
    sum of weight × gradient lowers it most is ablated, and so on. Exactly: ``greedy`` over sets,
    on margins, without noise.

    Parameters
    ----------
    study : Study
    examples : int64 ``[k]``, optional
        Drawn from the study's first and second group, ``per_group`` of each, unless given.
    how : str or Intervention
        ``"filter"`` (the unit's weights become 0) is published; ``"zero"`` ablates the unit.
        Through a batch norm they differ, and so do the counts.
    method : {"first-order", "exact"}
    units : UnitSet or text, optional
        Where to search; all units but those of the output layer unless given.
    cap : int
        Most units; an example that takes more is not flipped.
    reference : int
        Size of the batch, the example in it; drawn from the first and second group.
    copies, noise : int, float
        Noisy copies, and the norm of the noise over the batch relative to the batch's. 0 copies
        for none. Used by the first-order search and the random order.
    on : {"loss", "margin"}
        The example's part of the first-order objective; the slope of a loss near zero vanishes.
    budget : int
        Exact evaluations a unit, of the exact search.
    random_draws, seed : int
        Random orders, the control; what draws them, the batches and the noise.

    Raises
    ------
    ValueError
        On an unknown method, a size that does not fit, or inputs that no noise fits.

    Notes
    -----
    In the released code each entry of a batch norm or linear layer is a unit of its own, there is
    no cap, and the path without noise raises. Here a unit is a channel or a feature; one draw of
    batch and noise serves all steps of an example.

    Examples
    --------
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    >>> groups = {"memorized": range(2), "clean": range(2, 6)}
    >>> study = Study(model.eval(), torch.randn(6, 4), torch.zeros(6), groups)
    >>> critical_units(study, per_group=2, random_draws=1, progress=False).by_group["n"].tolist()
    [2, 2]
    """
    kind = intervention(how)
    _check(kind, method, on, cap, reference, copies, budget)
    generator = torch.Generator().manual_seed(seed)
    pool = torch.cat([study.group(name) for name in default_groups(study, None, None) if name])
    chosen = _drawn(study, per_group, generator) if examples is None else examples
    chosen = check_examples(study, chosen)
    replay = Replay(study, memory=0)
    known = list(replay.check(units)) if units is not None else default_units(replay.layers)
    right = _right(replay, replay.clean)
    found, flipped, after = [], [], []
    for example in slow(chosen.tolist(), "critical units", progress=progress):
        batch = _batch(pool, example, reference, generator)
        if method == "exact":
            mine, done = exact_search(study, UnitSet(known), kind, batch, cap=cap, budget=budget)
        else:
            noisy = NoisyBatch.of(study, batch, copies, noise, generator)
            mine, done = first_order_search(replay, known, kind, noisy, on=on, cap=cap)
        found.append(mine)
        flipped.append(done)
        after.append(_right(replay, replay.outputs(UnitSet(mine), kind)) if mine else right)
    retained = {
        name: np.array([_accuracy(r, mask, i) for r, i in zip(after, chosen.tolist(), strict=True)])
        for name, mask in study.groups.items()
    }
    alone = NoisyBatch.of(study, chosen, copies, noise, generator)
    random = random_order_counts(
        replay, known, kind, alone, draws=random_draws, seed=seed, progress=progress
    )
    return CriticalUnits(
        study, chosen, tuple(found), np.array(flipped), retained, random, str(kind), method
    )


def _batch(pool: Tensor, example: int, size: int, generator: torch.Generator) -> Tensor:
    """The example, then as many others of the pool as fit."""
    others = pool[pool != example]
    drawn = torch.randperm(len(others), generator=generator)[: size - 1]
    return torch.cat([torch.tensor([example]), others[drawn]])


def _drawn(study: Study, per_group: int, generator: torch.Generator) -> Tensor:
    if per_group < 1:
        raise ValueError(f"per_group is {per_group}; search for one example of each at least.")
    parts = []
    for name in default_groups(study, None, None):
        if name:
            members = study.group(name)
            order = torch.randperm(len(members), generator=generator)
            parts.append(members[order[:per_group]])
    return torch.cat(parts)


def _right(replay: Replay, outputs: Tensor) -> Tensor:
    study = replay.study
    return (study.task.margin(outputs, study.labels.to(outputs.device)) > 0).cpu()


def _accuracy(right: Tensor, mask: Tensor, without: int) -> float:
    others = mask.clone()
    others[without] = False
    return float(right[others].float().mean())


def _check(
    kind: Intervention, method: str, on: str, cap: int, reference: int, copies: int, budget: int
) -> None:
    if method not in ("first-order", "exact"):
        raise ValueError(f"method is {method!r}; use 'first-order' or 'exact'.")
    if on not in ("loss", "margin"):
        raise ValueError(f"on is {on!r}; use 'loss' or 'margin'.")
    if kind.needs == "donor":
        raise ValueError(f"{kind} takes another example's value each time; use 'filter' or 'zero'.")
    if min(cap, reference, budget) < 1 or copies < 0:
        raise ValueError(
            f"cap, reference and budget must be at least 1 and copies not below 0, but got "
            f"{cap}, {reference}, {budget} and {copies}."
        )
