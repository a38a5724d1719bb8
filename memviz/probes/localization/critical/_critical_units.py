"""Critical units: which units, and how many, must be ablated to flip an example."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from memviz.checks import IndicesLike, Seed, checked, quoted
from memviz.engine.record import Intervention, Replay, intervention
from memviz.engine.sweep import default_units
from memviz.progress import slow
from memviz.statistics import generator_of
from memviz.study import Study, check_examples, default_groups
from memviz.tasks import are_right
from memviz.units import UnitSet, UnitsLike

from ._noise import NoisyBatch
from ._search import Objective, exact_search, first_order_search, random_order_counts
from ._table import CriticalUnits

Method = Literal["first-order", "exact"]


@checked
def critical_units(
    study: Study,
    examples: IndicesLike | None = None,
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
    seed: Seed = 0,
    progress: bool = True,
) -> CriticalUnits:
    """Ablate one unit after another, the most critical of all layers first, until an example flips.

    The first-order search, as published, takes a batch of reference examples and the example, each
    as a few noisy copies judged by their mean output (so that the search does not find adversarial
    directions). The objective is the reference's mean loss minus the example's; each step ablates
    the unit whose sum of weight × gradient lowers it most. The exact search is ``greedy`` over
    sets, on margins, without noise. An example at a tie counts as flipped.

    Reference and noise are drawn from the seed and the example, so an example's answer does not
    depend on the others that are asked for.

    Parameters
    ----------
    study : Study
    examples : int64 ``[k]``, optional
        Each once; by default ``per_group`` examples drawn from each of the study's first two
        groups.
    how : str or Intervention
        ``"filter"``, as published, sets the unit's weights to 0; ``"zero"`` ablates the unit. With
        batch norm the two differ, and so do the counts.
    method : {"first-order", "exact"}
    units : UnitSet or str, optional
        Units to search; by default all except those of the output layer.
    cap : int
        Most units to ablate; an example that needs more counts as not flipped.
    reference : int
        Size of the batch, including the example; drawn from the first two groups.
    copies, noise : int, float
        Number of noisy copies (0 for no noise), and the norm of the noise relative to that of the
        batch, in the random order to that of the example. Not used by the exact search.
    on : {"loss", "margin"}
        The example's term in the first-order objective; the gradient of a loss near zero vanishes.
    budget : int
        Exact evaluations per unit of the exact search.
    random_draws, seed : int
        Number of random orders, the control, and the seed of these, the batches and the noise.

    Returns
    -------
    CriticalUnits

    Raises
    ------
    ValueError
        If an option is unknown, a size is too small, the noise is negative or not finite, an
        example is given twice, or the inputs are not floating-point and ``copies`` is not 0.

    Notes
    -----
    In the released code each entry of a batch norm or linear layer counts as a unit, there is no
    cap, and running without noise raises an error. Here a unit is a channel or a feature; one draw
    of batch and noise serves all steps of an example.

    Examples
    --------
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    >>> groups = {"memorized": range(2), "clean": range(2, 6)}
    >>> study = Study(model.eval(), torch.randn(6, 4), torch.zeros(6), groups)
    >>> critical_units(study, per_group=2, random_draws=1, progress=False).by_group["n"].tolist()
    [2, 2]
    """
    how = intervention(how)
    _check(how, method, on, cap, reference, copies, budget)
    if not (math.isfinite(noise) and noise >= 0) or random_draws < 0:
        raise ValueError(
            f"noise must be a finite number of at least 0 and random_draws at least 0; got {noise} "
            f"and {random_draws}."
        )
    pool = torch.cat([study.group(name) for name in default_groups(study, None, None) if name])
    chosen = _drawn(study, per_group, seed) if examples is None else examples
    chosen = check_examples(study, chosen)
    if len(chosen.unique()) < len(chosen):
        raise ValueError("examples names an example twice; give each once.")
    replay = Replay(study, memory=0)
    known = list(replay.check(units)) if units is not None else default_units(replay.layers)
    right = _right(replay, replay.clean)
    critical, flipped, right_after = [], [], []
    for example in slow(chosen.tolist(), "critical units", progress=progress):
        generator = generator_of(seed, example, 0)
        batch = _batch(pool, example, reference, generator)
        if method == "exact":
            units_taken, did_flip = exact_search(
                study, UnitSet(known), how, batch, cap=cap, budget=budget
            )
        else:
            noisy = NoisyBatch.of(study, batch, copies, noise, generator)
            units_taken, did_flip = first_order_search(
                replay, known, how, noisy, on=on, cap=cap, seed=seed
            )
        critical.append(units_taken)
        flipped.append(did_flip)
        right_after.append(
            _right(replay, replay.outputs(UnitSet(units_taken), how)) if units_taken else right
        )
    retained = {
        name: np.array(
            [_accuracy(r, mask, i) for r, i in zip(right_after, chosen.tolist(), strict=True)]
        )
        for name, mask in study.groups.items()
    }
    alone = NoisyBatch.each_alone(study, chosen, copies, noise, seed)
    random = random_order_counts(
        replay, known, how, alone, draws=random_draws, seed=seed, progress=progress
    )
    return CriticalUnits(
        study, chosen, tuple(critical), np.array(flipped), retained, random, str(how), method
    )


def _batch(pool: Tensor, example: int, size: int, generator: torch.Generator) -> Tensor:
    """The example, followed by others of the pool, at most ``size`` in all."""
    others = pool[pool != example]
    drawn = torch.randperm(len(others), generator=generator)[: size - 1]
    return torch.cat([torch.tensor([example]), others[drawn]])


def _drawn(study: Study, per_group: int, seed: int) -> Tensor:
    if per_group < 1:
        raise ValueError(f"per_group is {per_group}; search for at least 1 example of each group.")
    parts, generator = [], torch.Generator().manual_seed(seed)
    for name in default_groups(study, None, None):
        if name:
            members = study.group(name)
            order = torch.randperm(len(members), generator=generator)
            parts.append(members[order[:per_group]])
    return torch.cat(parts)


def _right(replay: Replay, outputs: Tensor) -> Tensor:
    return are_right(replay.study.task, outputs, replay.study.labels)


def _accuracy(right: Tensor, mask: Tensor, without: int) -> float:
    others = mask.clone()
    others[without] = False
    return float(right[others].double().mean())


def _check(
    how: Intervention, method: str, on: str, cap: int, reference: int, copies: int, budget: int
) -> None:
    if method not in ("first-order", "exact"):
        raise ValueError(f"method is {quoted(method)}; use 'first-order' or 'exact'.")
    if on not in ("loss", "margin"):
        raise ValueError(f"on is {quoted(on)}; use 'loss' or 'margin'.")
    if how.needs == "donor":
        raise ValueError(
            f"how is {how}, which depends on another example each time; use 'filter' or 'zero'."
        )
    if min(cap, reference, budget) < 1 or copies < 0:
        raise ValueError(
            f"cap, reference and budget must be at least 1 and copies at least 0; got {cap}, "
            f"{reference}, {budget} and {copies}."
        )
