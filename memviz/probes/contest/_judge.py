"""The contest: localizers of memorizing units, judged where the truth is known.

Each localizer names as many units as were planted. It is judged by the share of planted units
among them (recall), by the accuracy that their joint, exact ablation takes from the memorized
examples and from all others, and by its run time. Where no truth is known, only the ablation
counts. These are the two benchmarks of Chang et al. 2024 (arXiv:2311.09060), who inject memories
into language models and measure recall (INJ), or ablate the named units and measure what is lost
(DEL).
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from memviz.checks import checked, described, quoted
from memviz.engine.record import Intervention, Replay, intervention
from memviz.engine.sets import SetOutputs, random_reading
from memviz.engine.sweep import default_units
from memviz.progress import slow
from memviz.scores import Scores
from memviz.statistics import spearman
from memviz.study import Study, default_groups
from memviz.units import Unit, UnitSet, UnitsLike

from ._registry import LOCALIZERS, Localizer, fits
from ._table import PLANTED, RANDOM
from ._table import Contest as Contest
from ._table import Entry as Entry
from .localizers import exact_ablation


@dataclass(frozen=True, eq=False)
class Truth:
    """A study and the units known to hold its memorized group, because they were planted.

    Attributes
    ----------
    name : str
        Name of the kind of truth, shared by its seeds.
    study : Study
        The planted units memorize its first group, but not its second.
    planted : UnitSet, str or iterable of Unit
        Empty if no truth is known.
    seed : int
    k : int, optional
        How many units each localizer names; by default as many as are planted.
    among : UnitSet, str or iterable of Unit, optional
        Which units may be named; by default those of all layers except the output layer. Needed if
        the truth says nothing about the other units.
    note : str
        How the memory was planted.

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
        if not isinstance(self.k, int | np.integer | None):
            raise ValueError(f"k is {described(self.k)}; give a whole number, or None.")
        if not self.named:
            raise ValueError(
                f"truth {quoted(self.name)} has neither planted units nor k; give k, the "
                "number of units that each localizer names."
            )

    @property
    def named(self) -> int:
        """How many units each localizer names."""
        return len(UnitSet.of(self.planted)) if self.k is None else self.k


@checked
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
        A generator is drawn from one truth at a time.
    localizers : mapping of name to function ``Study -> Scores``, optional
        By default :data:`memviz.probes.contest.LOCALIZERS`; add your own with
        ``{**LOCALIZERS, "mine": function}``. If one raises ValueError, it does not fit that
        truth, and its message is kept in ``refused``; those for studies of another kind are
        passed over.
    how : str or Intervention
        How the named units are ablated.
    random_draws : int
        Random sets of the same size to average the drops over.
    progress : bool
    report : callable, optional
        Called with each entry as soon as it is known.

    Raises
    ------
    TypeError, ValueError
        If a localizer returns anything but Scores over units of the study.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    >>> groups = {"memorized": range(2), "clean": range(2, 6)}
    >>> study = Study(model.eval(), torch.randn(6, 4), torch.zeros(6), groups)
    >>> result = contest([Truth("planted by me", study, "0:3")], {"exact": exact_ablation})
    >>> result.localizers
    ['planted units', 'random', 'exact']
    """
    chosen = dict(LOCALIZERS if localizers is None else localizers)
    taken = sorted({PLANTED, RANDOM} & set(chosen))
    if taken or not chosen:
        raise ValueError(
            f"{quoted(taken[0])} is the name of a reference; give the localizer another name."
            if taken
            else "localizers is empty; give at least one."
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
        fitting = [
            (name, localizer)
            for name, localizer in chosen.items()
            if LOCALIZERS.get(name) is not localizer or fits(name, truth.study)
        ]
        for name, localizer in slow(fitting, truth.name, progress=progress):
            start = judge.clock()
            try:
                scores = localizer(truth.study)
            except ValueError as error:
                refused[truth.name, name] = str(error)
                continue
            keep(judge.entry(name, scores, judge.clock() - start))
    if not entries:
        raise ValueError("truths is empty; give at least one.")
    return Contest(tuple(entries), refused)


class _Judge:
    """One truth: its candidate units, the exact effect of each, and the drops of a set of them."""

    def __init__(self, truth: Truth, how: Intervention) -> None:
        self.truth, self.how = truth, how
        # On a CPU the time of other processes should not count.
        on_cpu = truth.study.device.type == "cpu"
        self.clock = time.process_time if on_cpu else time.perf_counter
        self.replay = Replay(truth.study)
        self.planted = self.replay.check(UnitSet.of(truth.planted))
        self.units = set(default_units(self.replay.layers))
        self.candidates = list(self.replay.check(truth.among) or default_units(self.replay.layers))
        outside = [unit for unit in self.planted if unit not in set(self.candidates)]
        if outside:
            raise ValueError(
                f"unit {outside[0]} of truth {quoted(truth.name)} is planted but may not be named; "
                "only units of "
                f"{', '.join(dict.fromkeys(u.layer for u in self.candidates))} may be named."
            )
        if truth.named > len(self.candidates):
            raise ValueError(
                f"truth {quoted(truth.name)} asks for {truth.named} units, but only "
                f"{len(self.candidates)} may be named; lower k."
            )
        memorized, clean = default_groups(truth.study, None, None)
        names = {"memorized": memorized, "clean": clean, "test": "test"}
        self.roles = {r: n for r, n in names.items() if n in truth.study.groups}
        self._outputs = SetOutputs(self.replay, how)
        self.before = random_reading(self._outputs, UnitSet())
        exact = exact_ablation(truth.study)
        assert exact.units is not None
        self.exact = dict(zip(exact.units, exact.values.tolist(), strict=True))
        self.draw = np.random.default_rng(truth.seed)

    def references(self, draws: int) -> list[Entry]:
        """Entries of the planted units, where they are known, and of random units."""
        entries = []
        if self.planted:
            order = (*self.planted, *(u for u in self.candidates if u not in self.planted))
            entries.append(self._made(PLANTED, order, self._drops(self.planted)))
        pool = self._live()
        drops = [
            self._drops(UnitSet(pool[i] for i in rows))
            for rows in (
                self.draw.choice(len(pool), self.truth.named, replace=False) for _ in range(draws)
            )
        ]
        mean = {role: float(np.mean([d[role] for d in drops])) for role in self.roles if drops}
        return [*entries, self._made(RANDOM, (), mean)]

    def _live(self) -> list[Unit]:
        """The candidates that something reads; all of them where those are too few."""
        dead = {Unit(layer.name, index) for layer in self.replay.layers for index in layer.dead}
        live = [unit for unit in self.candidates if unit not in dead]
        return live if len(live) >= self.truth.named else self.candidates

    def entry(self, name: str, scores: Scores, seconds: float) -> Entry:
        """Judge a localizer's scores."""
        units = self._checked(name, scores)
        values, candidates = np.asarray(scores.values, float), set(self.candidates)
        eligible = np.array([unit in candidates for unit in units], bool)
        known = np.flatnonzero(eligible & ~np.isnan(values))
        ties = self._ties(name)
        known = np.array(sorted(known, key=lambda row: ties[units[row]]), int)
        ranking = tuple(units[row] for row in known[np.argsort(-values[known], kind="stable")])
        named = UnitSet(ranking[: self.truth.named])
        exact = [self.exact[units[row]] for row in known]
        agreement = spearman(values[known], np.array(exact), least=2)
        return self._made(name, ranking, self._drops(named), agreement, seconds)

    def _ties(self, name: str) -> dict[Unit, int]:
        """The order of units with equal scores: random, whatever else was judged before."""
        draw = np.random.default_rng([self.truth.seed, zlib.crc32(name.encode())])
        order = draw.permutation(len(self.candidates)).tolist()
        return dict(zip(sorted(self.candidates), order, strict=True))

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
        after = random_reading(self._outputs, units)
        return {role: self.before[name][0] - after[name][0] for role, name in self.roles.items()}

    def _checked(self, name: str, scores: object) -> tuple[Unit, ...]:
        if not isinstance(scores, Scores) or scores.units is None:
            what = "Scores over examples" if isinstance(scores, Scores) else type(scores).__name__
            raise TypeError(
                f"localizer {quoted(name)} returned {what}; expected Scores over units."
            )
        unknown = set(scores.units) - self.units
        if unknown:
            raise ValueError(
                f"localizer {quoted(name)} scored unit {min(unknown)}, which truth "
                f"{quoted(self.truth.name)} does not have or has in its output layer; leave it "
                "out."
            )
        return scores.units
