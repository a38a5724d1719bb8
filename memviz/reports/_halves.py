"""An honest effect: units are chosen on one half of the examples and shown on the other."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from memviz.engine.sets import AblationCurve, Readout, ablation_curve, readout
from memviz.engine.sweep import Effects
from memviz.scores import Scores
from memviz.statistics import generator_of
from memviz.study import Study, default_groups
from memviz.units import UnitSet

_OWN = "units chosen on it"


@dataclass(frozen=True, eq=False)
class Halves:
    """The curve of units chosen on one half of two groups.

    Attributes
    ----------
    study : Study
        Its first two groups are the halves that were held out; those that the units were chosen on
        follow the other groups.
    own : tuple of str
        The groups that the units were chosen on; none where a group has a single example, since
        then nothing can be held out.
    ranking : Scores
        Over units, on the halves that they were chosen on.
    curve : AblationCurve
        Of all groups.
    readout : Readout
        With the most units ablated; without random ones, which the curve has.
    """

    study: Study
    own: tuple[str, ...]
    ranking: Scores
    curve: AblationCurve
    readout: Readout

    @property
    def units(self) -> UnitSet:
        """The units chosen, the most that the curve ablates."""
        return self.readout.units

    @property
    def shown(self) -> AblationCurve:
        """The curve without the halves that the units were chosen on."""
        kept = [place for place, name in enumerate(self.curve.groups) if name not in self.own]
        return replace(
            self.curve,
            groups=[self.curve.groups[place] for place in kept],
            chosen=self.curve.chosen[:, kept],
            random=self.curve.random[..., kept],
        )


def halves(
    study: Study, effects: Effects, counts: list[int], draws: int, seed: int, *, progress: bool
) -> Halves:
    """Choose units on one half, and ablate more and more of them.

    Parameters
    ----------
    study : Study
    effects : Effects
        Of all units on all examples.
    counts : list of int
        How many units at each point of the curve.
    draws, seed : int
        Of random units; the seed also draws the halves.
    progress : bool

    Examples
    --------
    >>> from memviz.engine.sweep import sweep
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    >>> groups = {"memorized": range(4), "clean": range(4, 12)}
    >>> study = Study(model.eval(), torch.randn(12, 4), torch.zeros(12), groups)
    >>> effects = sweep(study, progress=False)
    >>> found = halves(study, effects, [0, 2], draws=2, seed=0, progress=False)
    >>> len(found.units), found.own
    (2, ('memorized, units chosen on it', 'clean, units chosen on it'))
    """
    group, against = default_groups(study, None, None)
    masks = {name: study.groups[name] for name in (group, against)}
    split = all(int(mask.sum()) > 1 for mask in masks.values())
    groups, own = dict(study.groups), {}
    if split:
        for name, mask in masks.items():
            first, groups[name] = _halved(mask, seed)
            own[f"{name}, {_OWN}"] = first
    parted = replace(study, groups={**groups, **own})
    chosen_on = list(own) or list(masks)
    ranking = replace(effects, study=parted).scores(*chosen_on)
    how = effects.how
    curve = ablation_curve(
        parted, ranking, counts, how, random_draws=draws, seed=seed, progress=progress
    )
    curve.name = f"{effects.scores().name}" + (", chosen on the other half" if own else "")
    units = ranking.top(counts[-1], "units")
    found = readout(parted, units, how, random_draws=0)
    return Halves(parted, tuple(own), ranking, curve, found)


def _halved(mask: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Two masks; who is in which half depends on the seed and on their indices alone."""
    members = mask.nonzero()[:, 0]
    draws = [float(torch.rand(1, generator=generator_of(seed, int(m)))) for m in members]
    order = torch.tensor(draws, dtype=torch.float64).argsort(stable=True)
    first = torch.zeros_like(mask)
    first[members[order[: len(members) // 2]]] = True
    return first, mask & ~first
