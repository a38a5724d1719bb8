"""The contest: ways of finding memorizing units, judged where the truth is known.

Each localizer names as many units as are planted. It is judged by how many of them it names
(recall), by what their ablation, all together and exactly, takes from the memorized examples and
from all others, and by its seconds. Where no truth is known, only the ablation judges. These are
the two ways of Chang et al. 2024 (arXiv:2311.09060), who inject memories into language models and
ask for recall (INJ), or delete the units named and measure what is lost (DEL).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from memviz.engine.record import Intervention, Replay, intervention
from memviz.engine.sets import random_reading
from memviz.engine.sweep import default_units
from memviz.probes.contest.localizers import exact_ablation
from memviz.progress import slow
from memviz.scores import Scores
from memviz.study import Study, default_groups
from memviz.units import Unit, UnitSet, UnitsLike

from ._registry import LOCALIZERS, Localizer
from ._table import PLANTED, RANDOM
from ._table import Contest as Contest
from ._table import Entry as Entry


@dataclass(frozen=True, eq=False)
class Truth:
    """A study and the units that hold its memorized group, as somebody planted them.

    Attributes
    ----------
    name : str
        Of the kind of truth; truths of several seeds share it.
    study : Study
        Its first group is what the planted units memorize, its second group what they do not.
    planted : UnitSet, text or iterable of Unit
        Empty where nothing is known.
    seed : int
    k : int, optional
        How many units each localizer names; as many as are planted unless given.
    among : UnitSet, text or iterable of Unit, optional
        Which units may be named; those of all layers but the output layer unless given. For a truth
        that says nothing of the others.
    note : str
        How it was planted.

    Raises
    ------
    ValueError
        If nothing is planted and k is not given.
    """

    name: str
    study: Study
    planted: UnitsLike = ()
    seed: int = 0
    k: int | None = None
    among: UnitsLike = ()
    note: str = ""

    def __post_init__(self) -> None:
        for name in ("planted", "among"):
            object.__setattr__(self, name, UnitSet.of(getattr(self, name)))
        if not self.named:
            raise ValueError(
                f"truth {self.name!r} has no planted units and no k; say how many units each "
                "localizer is to name."
            )

    @property
    def named(self) -> int:
        """How many units each localizer names."""
        return len(UnitSet.of(self.planted)) if self.k is None else self.k


def contest(
    truths: Iterable[Truth],
    localizers: Mapping[str, Localizer] | None = None,
    *,
    how: str | Intervention = "zero",
    random_draws: int = 20,
    progress: bool = True,
    report: Callable[[Entry], object] | None = None,
) -> Contest:
    """Judge every localizer on every truth.

    Parameters
    ----------
    truths : iterable of Truth
        Made one after the other if it is a generator.
    localizers : mapping of name to function ``Study -> Scores``, optional
        Those of :data:`memviz.probes.contest.LOCALIZERS` unless given; put your own beside them
        with ``{**LOCALIZERS, "mine": function}``. One that raises ValueError does not fit a truth,
        and its sentence is kept.
    how : str or Intervention
        How the named units are ablated.
    random_draws : int
        Of as many units from all layers, for the mean drops of random units.
    progress : bool
    report : callable, optional
        Called with each entry when it is there.

    Raises
    ------
    TypeError, ValueError
        If a localizer gives something else than Scores over units of the study.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    >>> groups = {"memorized": range(2), "clean": range(2, 6)}
    >>> study = Study(model.eval(), torch.randn(6, 4), torch.zeros(6), groups)
    >>> found = contest([Truth("planted by me", study, "0:3")], {"exact": exact_ablation})
    >>> found.localizers
    ['planted units', 'random', 'exact']
    """
    chosen = dict(LOCALIZERS if localizers is None else localizers)
    taken = sorted({PLANTED, RANDOM} & set(chosen))
    if taken or not chosen:
        raise ValueError(
            f"{taken[0]!r} is the name of a reference; give the localizer another one."
            if taken
            else "localizers is empty; name one at least."
        )
    entries: list[Entry] = []
    refused: dict[tuple[str, str], str] = {}

    def keep(entry: Entry) -> None:
        entries.append(entry)
        if report is not None:
            report(entry)

    for truth in truths:
        judge = _Judge(truth, intervention(how))
        for entry in judge.references(random_draws):
            keep(entry)
        for name, localizer in slow(list(chosen.items()), truth.name, progress=progress):
            start = judge.clock()
            try:
                scores = localizer(truth.study)
            except ValueError as error:
                refused[truth.name, name] = str(error)
                continue
            keep(judge.entry(name, scores, judge.clock() - start))
    if not entries:
        raise ValueError("truths is empty; give one at least.")
    return Contest(tuple(entries), refused)


class _Judge:
    """One truth: its candidates, what exact ablation says of each, and what a set of them does."""

    def __init__(self, truth: Truth, kind: Intervention) -> None:
        self.truth, self.kind = truth, kind
        # What else runs on the machine should not count, where that can be told.
        on_cpu = truth.study.device.type == "cpu"
        self.clock = time.process_time if on_cpu else time.perf_counter
        self.replay = Replay(truth.study)
        self.planted = self.replay.check(UnitSet.of(truth.planted))
        self.units = set(default_units(self.replay.layers))
        self.candidates = list(self.replay.check(truth.among) or default_units(self.replay.layers))
        outside = [unit for unit in self.planted if unit not in set(self.candidates)]
        if outside:
            raise ValueError(
                f"unit {outside[0]} of truth {truth.name!r} is not among those that may be named, "
                f"units of {', '.join(dict.fromkeys(u.layer for u in self.candidates))}."
            )
        if truth.named > len(self.candidates):
            raise ValueError(
                f"truth {truth.name!r} asks for {truth.named} units of {len(self.candidates)}."
            )
        mine, rest = default_groups(truth.study, None, None)
        names = {"memorized": mine, "clean": rest, "test": "test"}
        self.roles = {r: n for r, n in names.items() if n in truth.study.groups}
        self.before = random_reading(self.replay, UnitSet(), kind)
        exact = exact_ablation(truth.study)
        assert exact.units is not None
        self.exact = dict(zip(exact.units, exact.values.tolist(), strict=True))
        self.draw = np.random.default_rng(truth.seed)

    def references(self, draws: int) -> list[Entry]:
        """The planted units themselves, where they are known, and units drawn at random."""
        found = []
        if self.planted:
            order = (*self.planted, *(u for u in self.candidates if u not in self.planted))
            found.append(self._made(PLANTED, order, self._drops(self.planted)))
        drops = [
            self._drops(UnitSet(self.candidates[i] for i in rows))
            for rows in (
                self.draw.choice(len(self.candidates), self.truth.named, replace=False)
                for _ in range(draws)
            )
        ]
        mean = {role: float(np.mean([d[role] for d in drops])) for role in self.roles if drops}
        return [*found, self._made(RANDOM, (), mean)]

    def entry(self, name: str, scores: Scores, seconds: float) -> Entry:
        """What a localizer's scores are worth."""
        units = self._checked(name, scores)
        values, may = np.asarray(scores.values, float), set(self.candidates)
        asked = np.array([unit in may for unit in units], bool)
        known = np.flatnonzero(asked & ~np.isnan(values))
        known = self.draw.permutation(known)  # units of one value have no order of their own
        ranking = tuple(units[row] for row in known[np.argsort(-values[known], kind="stable")])
        named = UnitSet(ranking[: self.truth.named])
        exact = [self.exact[units[row]] for row in known]
        agreement = _rank_correlation(values[known], np.array(exact))
        return self._made(name, ranking, self._drops(named), agreement, seconds)

    def _made(
        self,
        name: str,
        ranking: Sequence[Unit],
        drops: dict[str, float],
        agreement: float = np.nan,
        seconds: float = np.nan,
    ) -> Entry:
        truth, size = self.truth, len(self.candidates)
        return Entry(
            truth.name,
            truth.seed,
            name,
            tuple(ranking),
            self.planted,
            truth.named,
            size,
            drops,
            agreement,
            seconds,
        )

    def _drops(self, units: UnitSet) -> dict[str, float]:
        after = random_reading(self.replay, units, self.kind)
        return {role: self.before[name][0] - after[name][0] for role, name in self.roles.items()}

    def _checked(self, name: str, scores: object) -> tuple[Unit, ...]:
        if not isinstance(scores, Scores) or scores.units is None:
            what = "Scores over examples" if isinstance(scores, Scores) else type(scores).__name__
            raise TypeError(f"localizer {name!r} gave {what}; return Scores over units.")
        unknown = set(scores.units) - self.units
        if unknown:
            raise ValueError(
                f"localizer {name!r} scored unit {min(unknown)}, which "
                f"{self.truth.name!r} does not have or has in its output layer; score the others."
            )
        return scores.units


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's, equal values sharing their mean rank; NaN where one of them is constant."""
    import pandas as pd

    ranks = [pd.Series(values).rank().to_numpy() for values in (a, b)]
    if len(a) < 2 or min(rank.std() for rank in ranks) == 0:
        return np.nan
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])
