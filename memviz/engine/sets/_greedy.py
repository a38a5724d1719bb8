"""Greedy search: which units, ablated together, take most from one group and least from another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from memviz.engine.record import Intervention, Replay, intervention
from memviz.engine.sweep import contrast, default_units, estimate_effects
from memviz.progress import slow
from memviz.study import Study, default_groups
from memviz.units import Unit, UnitSet, UnitsLike

from ._curve import AblationCurve
from ._readout import random_reading, random_units

if TYPE_CHECKING:
    import pandas as pd

_PAIR_SHARE = 8  # one evaluation in so many looks for pairs
_PAIRS_A_STEP = 2
_WAY = (0.1, 0.3, 0.5, 0.7, 0.9)  # where the slope is taken to find what hides at the start


@dataclass(eq=False)
class AblationPath(AblationCurve):
    """Sets of units found one after the other, each holding the one before.

    Attributes
    ----------
    counts, groups, chosen, random, name
        As in AblationCurve.
    order : tuple of Unit
        In the order they were taken.
    margin : float ``[K, G]``
        Mean margin of each group at each count.
    random_margin : float ``[draws, K, G]``
    drops : float ``[K]``
        Mean margin drop on the group minus on the other: what the search maximizes.
    evaluations : int
        Exact evaluations that the search spent.
    """

    order: tuple[Unit, ...]
    margin: np.ndarray
    random_margin: np.ndarray
    drops: np.ndarray
    evaluations: int

    @property
    def units(self) -> UnitSet:
        """All units found."""
        return UnitSet(self.order)

    @property
    def sets(self) -> list[UnitSet]:
        """The set of each count."""
        return [UnitSet(self.order[:count]) for count in self.counts]

    @property
    def frame(self) -> pd.DataFrame:
        """One row a count and group: accuracy and mean margin, random units beside."""
        frame = super().frame
        frame["margin"] = self.margin.ravel()
        frame["random_margin"] = self.random_margin.mean(0).ravel()
        frame["drop"] = np.repeat(self.drops, len(self.groups))
        return frame


def greedy(
    study: Study,
    size: int = 16,
    group: str | None = None,
    against: str | None = None,
    how: str | Intervention = "zero",
    *,
    budget: int = 200,
    units: UnitsLike | None = None,
    examples: Tensor | None = None,
    memory: int | None = None,
    random_draws: int = 20,
    seed: int = 0,
    progress: bool = True,
    stop: Callable[[], bool] | None = None,
) -> AblationPath:
    """Grow a set of units by what ablating it as a whole does, exactly.

    Each step tries units added to the present set and keeps the addition with the largest mean
    margin drop on ``group`` minus that on ``against``, per unit added. Which units are tried is
    told by gradient × activation *with the present set ablated*: a ranking made once does not see
    what the units already ablated hold in common with the others. The budget is spread evenly
    over the steps.

    Units that stand in for each other have no effect alone and no slope. One evaluation in eight
    looks for them at the start: among the units whose estimate grows most when its slope is
    averaged over the way to ablating all units at once, pairs that drop more together than the
    sum of both are tried as one. The search ends early where nothing tried makes the drop larger.

    Parameters
    ----------
    study : Study
    size : int
        Most units in the set.
    group, against : str, optional
        The study's first and second group unless given; ``against=""`` for none.
    how : str or Intervention
    budget : int
        Exact evaluations of the search; the readings for the curve are not counted.
    units : UnitSet or text, optional
        Where to search; all units but those of the output layer, unless given.
    examples : int64 ``[n]``, optional
        What to search and read on; all unless given.
    memory : int, optional
        Bytes of recorded passes to keep.
    random_draws, seed : int
        Of as many random units in the same layers, at each count of the curve.
    progress : bool
    stop : callable, optional
        Asked between steps; True raises CancelledError.

    Raises
    ------
    ValueError
        If a group is unknown, or size or budget are out of range.

    Examples
    --------
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    >>> groups = {"memorized": range(2), "clean": range(2, 6)}
    >>> study = Study(model.eval(), torch.randn(6, 4), torch.zeros(6), groups)
    >>> path = greedy(study, size=2, budget=12, random_draws=3, progress=False)
    >>> path.evaluations <= 12 and len(path.units) <= 2
    True
    """
    group, against = default_groups(study, group, against)
    if group == against:
        raise ValueError(f"group and against are both {group!r}; name two groups.")
    replay = Replay(study, examples, memory=memory)
    known = list(replay.check(units)) if units is not None else default_units(replay.layers)
    if not 1 <= size <= len(known):
        raise ValueError(f"size is {size}; there are {len(known)} units to choose from.")
    if budget < size:
        raise ValueError(
            f"budget is {budget} for {size} units; allow one evaluation a unit at least."
        )
    search = _Search(replay, known, intervention(how), (group, against), stop)
    with tqdm(total=size, disable=not progress, unit="unit", desc="greedy") as bar:
        search.find_pairs(min(budget // _PAIR_SHARE, budget - size))
        while len(search.chosen) < size and search.step(size, budget):
            bar.update(len(search.chosen) - bar.n)
    return _path(search, random_draws, seed, progress=progress)


class _Search:
    """The set so far, what it drops, and what was spent."""

    def __init__(
        self,
        replay: Replay,
        known: list[Unit],
        kind: Intervention,
        groups: tuple[str, str],
        stop: Callable[[], bool] | None,
    ) -> None:
        self.replay, self.known, self.kind, self.stop = replay, known, kind, stop
        self.mine, self.rest = (self._members(name) for name in groups)
        if len(self.mine) == 0 or (groups[1] and len(self.rest) == 0):
            raise ValueError(f"none of the examples is in {groups[0]!r} or in {groups[1]!r}.")
        self.chosen: list[Unit] = []
        self.drops, self.sizes = [0.0], [0]
        self.spent = 0
        self.pairs: list[tuple[Unit, ...]] = []
        self._place = {layer.name: k for k, layer in enumerate(replay.layers)}
        self._clean = self._margin(replay.clean)

    def step(self, size: int, budget: int) -> bool:
        """Take the best addition; False where none makes the drop larger or nothing is left."""
        room = size - len(self.chosen)
        share = -(-(budget - self.spent) // room)
        tried = self._open_pairs(room)[: min(_PAIRS_A_STEP, share - 1)]
        singles = ((unit,) for unit in self._likely(share - len(tried)))
        found = self._evaluate(list(dict.fromkeys([*singles, *tried])))
        if not found:
            return False
        gain = {units: (drop - self.drops[-1]) / len(units) for units, drop in found.items()}
        best = max(gain, key=lambda units: gain[units])
        if not gain[best] > 0:
            return False
        self.chosen += best
        self.drops.append(found[best])
        self.sizes.append(len(self.chosen))
        return True

    def find_pairs(self, evaluations: int) -> None:
        """Pairs that drop more together than the sum of both, among the units that hide most."""
        most = max((k for k in range(2, 100) if k * (k + 1) // 2 <= evaluations), default=0)
        if most == 0:
            return
        way = [self._estimate(share) for share in _WAY]
        hidden = torch.stack(way).mean(0) - self._estimate(0.0)
        likely = [self.known[row] for row in hidden.argsort(descending=True)[:most].tolist()]
        pairs: list[tuple[Unit, ...]] = list(combinations(likely, 2))
        found = self._evaluate([*((unit,) for unit in likely), *pairs])
        more = {pair: found[pair] - sum(found[unit,] for unit in pair) for pair in pairs}
        self.pairs = sorted((pair for pair in pairs if more[pair] > 0), key=lambda p: -more[p])

    def _open_pairs(self, room: int) -> list[tuple[Unit, ...]]:
        """What is left to take of the pairs, where there is room for it."""
        left = [tuple(unit for unit in pair if unit not in self.chosen) for pair in self.pairs]
        return [units for units in dict.fromkeys(left) if 0 < len(units) <= room]

    def _likely(self, k: int) -> list[Unit]:
        value = self._estimate(0.0)
        order = value.argsort(descending=True, stable=True).tolist()
        return [self.known[row] for row in order if self.known[row] not in self.chosen][:k]

    def _estimate(self, share: float) -> Tensor:
        ablated = UnitSet(self.chosen)
        effects = estimate_effects(self.replay, self.known, self.kind, ablated=ablated, share=share)
        drop = -contrast(effects.margin_change, self.mine, self.rest)
        return drop.nan_to_num(-torch.inf)

    def _evaluate(self, additions: list[tuple[Unit, ...]]) -> dict[tuple[Unit, ...], float]:
        # From the last layer to the first: each kept pass then shares most with the next.
        additions.sort(key=lambda units: -min(self._place[unit.layer] for unit in units))
        found = {}
        for units in additions:
            together = UnitSet([*self.chosen, *units])
            outputs = self.replay.outputs(together, self.kind, stop=self.stop, keep=True)
            drop = (self._clean - self._margin(outputs))[None]
            found[units] = float(contrast(drop, self.mine, self.rest))
            self.spent += 1
        return found

    def _members(self, group: str) -> Tensor:
        if not group:
            return torch.arange(0)
        self.replay.study.group(group)
        return self.replay.study.groups[group][self.replay.examples].nonzero()[:, 0]

    def _margin(self, outputs: Tensor) -> Tensor:
        labels = self.replay.study.labels[self.replay.examples].to(outputs.device)
        return self.replay.study.task.margin(outputs, labels).float().cpu()


def _path(search: _Search, random_draws: int, seed: int, *, progress: bool) -> AblationPath:
    """Readings of every group along the path, at 0, about the powers of two, and the end."""
    replay, kind = search.replay, search.kind
    wanted = [0, *(2**k for k in range(search.sizes[-1].bit_length())), search.sizes[-1]]
    steps = sorted({next(i for i, s in enumerate(search.sizes) if s >= count) for count in wanted})
    counts = [search.sizes[step] for step in steps]
    groups = [name for name, mask in replay.study.groups.items() if mask[replay.examples].any()]

    def reading(units: UnitSet) -> list[tuple[float, float]]:
        found = random_reading(replay, units, kind, search.stop)
        return [found[name] for name in groups]

    chosen, random = [], []
    for point, count in enumerate(slow(counts, "curve", progress=progress)):
        units = UnitSet(search.chosen[:count])
        chosen.append(reading(units))
        seeds = range(seed + point * random_draws, seed + (point + 1) * random_draws)
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
