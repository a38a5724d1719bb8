"""Greedy search for units that, ablated together, hurt one group most and another least."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from memviz.checks import IndicesLike, Seed, checked, quoted
from memviz.engine.record import Intervention, Replay, intervention
from memviz.engine.sweep import contrast, default_units, estimate_effects
from memviz.progress import slow
from memviz.study import Study, check_examples, default_groups
from memviz.units import Unit, UnitSet, UnitsLike

from ._curve import AblationCurve
from ._outputs import SetOutputs
from ._readout import check_draws, random_reading, random_units

if TYPE_CHECKING:
    import pandas as pd

_PAIR_SHARE = 8  # one evaluation in this many looks for pairs
_PAIRS_PER_STEP = 2
# Where gradients are taken on the way from no ablation to all units ablated, to find pairs.
_WAY = (0.1, 0.3, 0.5, 0.7, 0.9)


@dataclass(eq=False, repr=False)
class AblationPath(AblationCurve):
    """A growing set of units, read out at several sizes.

    Attributes
    ----------
    counts, groups, chosen, random, name
        As in AblationCurve.
    order : tuple of Unit
        The units in the order they were added.
    margin : float ``[K, G]``
        Mean margin of each group at each count.
    random_margin : float ``[draws, K, G]``
        The same with random units ablated: the null; there may be no draws.
    drops : float ``[K]``
        Mean margin drop on ``group`` minus that on ``against``: what the search maximizes.
    evaluations : int
        Exact evaluations that the search used.
    """

    order: tuple[Unit, ...]
    margin: np.ndarray
    random_margin: np.ndarray
    drops: np.ndarray
    evaluations: int

    @property
    def units(self) -> UnitSet:
        """All units of the path."""
        return UnitSet(self.order)

    @property
    def sets(self) -> list[UnitSet]:
        """The set at each count."""
        return [UnitSet(self.order[:count]) for count in self.counts]

    @property
    def frame(self) -> pd.DataFrame:
        """A table with one row per count and group: accuracy and mean margin, with the null."""
        frame = super().frame
        frame["margin"] = self.margin.ravel()
        if len(self.random_margin):
            frame["random_margin"] = self.random_margin.mean(0).ravel()
        frame["drop"] = np.repeat(self.drops, len(self.groups))
        return frame


@checked
def greedy(
    study: Study,
    size: int = 16,
    group: str | None = None,
    against: str | None = None,
    how: str | Intervention = "zero",
    *,
    budget: int = 200,
    units: UnitsLike | None = None,
    examples: IndicesLike | None = None,
    memory: int | None = None,
    random_draws: int = 20,
    seed: Seed = 0,
    progress: bool = True,
    stop: Callable[[], bool] | None = None,
) -> AblationPath:
    """Grow a set of units by the exact effect of ablating it as a whole.

    Each step adds the unit, or the pair of redundant units, that most increases the mean margin
    drop on ``group`` minus that on ``against``, per unit added. Candidates are ranked by gradient ×
    activation with the current set ablated. Of equal ones, the first in the forward pass is taken.
    The search ends early if no candidate helps.

    Parameters
    ----------
    study : Study
    size : int
        Most units in the set.
    group, against : str, optional
        The study's first and second groups by default; ``against=""`` for none.
    how : str or Intervention
    budget : int
        Exact evaluations of the search, without those for the curve.
    units : UnitSet or text, optional
        Candidates; by default all units but those of the output layer.
    examples : int64 ``[n]``, optional
        All by default.
    memory : int, optional
        Bytes of recorded passes to keep.
    random_draws, seed : int
        For the null: draws of random units in the same layers at each count, as in
        ``ablation_curve``. With 0 draws there is no null: its columns are left out of the table,
        and the plot and the repr say so.
    progress : bool
    stop : callable, optional
        Called between steps; returning True raises CancelledError.

    Returns
    -------
    AblationPath

    Raises
    ------
    ValueError
        If a group is unknown, or size, budget or ``random_draws`` are out of range.
    CancelledError
        If ``stop()`` returns True.

    Examples
    --------
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    >>> groups = {"memorized": range(2), "clean": range(2, 6)}
    >>> study = Study(model.eval(), torch.randn(6, 4), torch.zeros(6), groups)
    >>> path = greedy(study, size=2, budget=12, random_draws=3, progress=False)
    >>> path.evaluations <= 12 and len(path.units) <= 2
    True
    """
    check_draws(random_draws, 0)
    group, against = default_groups(study, group, against)
    if group == against:
        raise ValueError(f"group and against are both {quoted(group)}; name two groups.")
    replay = Replay(study, check_examples(study, examples), memory=memory, progress=progress)
    known = list(replay.check(units)) if units is not None else default_units(replay.layers)
    if not 1 <= size <= len(known):
        raise ValueError(
            f"size is {size}; there are {len(known)} units to choose from, so size must be 1 to "
            f"{len(known)}."
        )
    if budget < size:
        raise ValueError(
            f"budget is {budget} for {size} units; allow at least one evaluation per unit."
        )
    search = _Search(replay, known, intervention(how), (group, against), stop)
    with tqdm(total=size, disable=not progress, unit="unit", desc="greedy") as bar:
        search.find_pairs(min(budget // _PAIR_SHARE, budget - size))
        while len(search.chosen) < size and search.step(size, budget):
            bar.update(len(search.chosen) - bar.n)
    return _path(search, random_draws, seed, progress=progress)


class _Search:
    """The set so far, the margin drop it makes, and the evaluations used."""

    def __init__(
        self,
        replay: Replay,
        known: list[Unit],
        how: Intervention,
        groups: tuple[str, str],
        stop: Callable[[], bool] | None,
    ) -> None:
        self.replay, self.how, self.stop = replay, how, stop
        self._place = {layer.name: k for k, layer in enumerate(replay.layers)}
        # In the order of the forward pass, whatever order the candidates were named in.
        self.known = sorted(known, key=lambda unit: (self._place[unit.layer], unit.index))
        self.members, self.others = (self._members(name) for name in groups)
        if len(self.members) == 0 or (groups[1] and len(self.others) == 0):
            empty = groups[1] if len(self.members) else groups[0]
            raise ValueError(
                f"none of the examples is in {quoted(empty)}; choose examples of both groups."
            )
        self.chosen: list[Unit] = []
        self.drops, self.sizes = [0.0], [0]
        self.spent = 0
        self.pairs: list[tuple[Unit, ...]] = []
        self._rows = {unit: row for row, unit in enumerate(self.known)}
        self._clean = self._margin(replay.clean)

    def step(self, size: int, budget: int) -> bool:
        """Add the best candidate; False if none makes the drop larger, or none is left."""
        room = size - len(self.chosen)
        share = -(-(budget - self.spent) // room)  # the budget is spread evenly over the steps
        pairs = self._open_pairs(room)[: min(_PAIRS_PER_STEP, share - 1)]
        singles = ((unit,) for unit in self._likely(share - len(pairs)))
        drops = self._evaluate(list(dict.fromkeys([*singles, *pairs])))
        if not drops:
            return False
        gain = {units: (drop - self.drops[-1]) / len(units) for units, drop in drops.items()}
        best = max(gain, key=lambda units: (gain[units], [-self._rows[unit] for unit in units]))
        if not gain[best] > 0:
            return False
        self.chosen += best
        self.drops.append(drops[best])
        self.sizes.append(len(self.chosen))
        return True

    def find_pairs(self, evaluations: int) -> None:
        """Find redundant units: pairs whose drop together exceeds the sum of their drops alone.

        Units that stand in for each other have no gradient while nothing is ablated. Their
        estimate grows when the gradient is averaged along the way to ablating all units at once.
        """
        most = max((k for k in range(2, 100) if k * (k + 1) // 2 <= evaluations), default=0)
        if most == 0:
            return
        way = [self._estimate(share) for share in _WAY]
        hidden = torch.stack(way).mean(0) - self._estimate(0.0)
        order = hidden.argsort(descending=True, stable=True)[:most].tolist()
        likely = [self.known[row] for row in order]
        pairs: list[tuple[Unit, ...]] = list(combinations(likely, 2))
        drops = self._evaluate([*((unit,) for unit in likely), *pairs])
        excess = {pair: drops[pair] - sum(drops[unit,] for unit in pair) for pair in pairs}
        self.pairs = sorted((pair for pair in pairs if excess[pair] > 0), key=lambda p: -excess[p])

    def _open_pairs(self, room: int) -> list[tuple[Unit, ...]]:
        """The units of each pair that are not chosen yet, if there is room for them."""
        left = [tuple(unit for unit in pair if unit not in self.chosen) for pair in self.pairs]
        return [units for units in dict.fromkeys(left) if 0 < len(units) <= room]

    def _likely(self, k: int) -> list[Unit]:
        """The k units with the largest estimated drop, given those already ablated."""
        value = self._estimate(0.0)
        order = value.argsort(descending=True, stable=True).tolist()
        return [self.known[row] for row in order if self.known[row] not in self.chosen][:k]

    def _estimate(self, share: float) -> Tensor:
        ablated = UnitSet(self.chosen)
        effects = estimate_effects(self.replay, self.known, self.how, ablated=ablated, share=share)
        drop = -contrast(effects.margin_change, self.members, self.others)
        return drop.nan_to_num(-torch.inf)

    def _evaluate(self, additions: list[tuple[Unit, ...]]) -> dict[tuple[Unit, ...], float]:
        # From the last layer to the first: a kept pass then has most in common with the next.
        additions.sort(key=lambda units: -min(self._place[unit.layer] for unit in units))
        drops = {}
        for units in additions:
            together = UnitSet([*self.chosen, *units])
            outputs = self.replay.outputs(together, self.how, stop=self.stop, keep=True)
            drop = (self._clean - self._margin(outputs))[None]
            drops[units] = float(contrast(drop, self.members, self.others))
            self.spent += 1
        return drops

    def _members(self, group: str) -> Tensor:
        if not group:
            return torch.arange(0)
        self.replay.study.group(group)
        return self.replay.study.groups[group][self.replay.examples].nonzero()[:, 0]

    def _margin(self, outputs: Tensor) -> Tensor:
        labels = self.replay.study.labels[self.replay.examples].to(outputs.device)
        return self.replay.study.task.margin(outputs, labels).cpu().double()


def _path(search: _Search, random_draws: int, seed: int, *, progress: bool) -> AblationPath:
    """Readings of every group along the path, at 0, near the powers of two, and at the end."""
    replay, sets = search.replay, SetOutputs(search.replay, search.how)
    targets = [0, *(2**k for k in range(search.sizes[-1].bit_length())), search.sizes[-1]]
    steps = sorted({next(i for i, s in enumerate(search.sizes) if s >= count) for count in targets})
    counts = [search.sizes[step] for step in steps]
    groups = [name for name, mask in replay.study.groups.items() if mask[replay.examples].any()]

    def reading(units: UnitSet) -> list[tuple[float, float]]:
        by_group = random_reading(sets, units, search.stop)
        return [by_group[name] for name in groups]

    chosen, random = [], []
    for count in slow(counts, "curve", progress=progress):
        units = UnitSet(search.chosen[:count])
        chosen.append(reading(units))
        seeds = range(seed, seed + random_draws)
        random.append([reading(random_units(replay.layers, units, s)) for s in seeds])
    values = np.array(chosen, float)
    draws = np.array(random, float).reshape(len(counts), random_draws, len(groups), 2)
    draws = draws.swapaxes(0, 1)
    name = f"greedy search, {search.spent} exact evaluations"
    return AblationPath(
        counts,
        groups,
        values[..., 0],
        draws[..., 0],
        name,
        tuple(search.chosen),
        values[..., 1],
        draws[..., 1],
        np.array([search.drops[step] for step in steps]),
        search.spent,
    )
