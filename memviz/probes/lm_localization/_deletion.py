"""DEL: the neurons that a localizer names are dropped out, and the model is read again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from memviz.checks import Count, CountOrZero, Seed, checked, quoted
from memviz.engine.sets import random_units
from memviz.progress import slow
from memviz.scores import Scores
from memviz.study import Study
from memviz.units import UnitSet

from ._reading import Reader
from ._table import NeuronTable, top_per_layer

if TYPE_CHECKING:
    import pandas as pd

MEASURES = ("accuracy", "recited", "others", "perplexity")
DISTANCES = ("distance", "others distance")


@dataclass(frozen=True, eq=False)
class Deletion:
    """What is left of each passage without its own neurons.

    Attributes
    ----------
    method : str
    shares : tuple of float, ``K`` of them
        Of the neurons of each layer.
    examples : int64 ``[n]``
    before : dict of measure to float64 ``[n]``
        With nothing dropped out. ``accuracy`` is the share of a passage's continuation tokens that
        are the first choice after the true ones, ``recited`` whether all are, ``others`` the mean
        accuracy of the group's other passages, ``perplexity`` that of held-out passages. If asked
        for, ``distance`` is the edit distance between what greedy decoding says and the passage,
        in characters (in tokens without a tokenizer), ``others distance`` its mean over the others.
    after : dict of measure to float64 ``[n, K]``
    random : dict of measure to float64 ``[n, K]``
        Mean over draws of as many random neurons of the same layers: the null.
    """

    method: str
    shares: tuple[float, ...]
    examples: Tensor
    before: dict[str, np.ndarray]
    after: dict[str, np.ndarray]
    random: dict[str, np.ndarray]

    def table(self) -> pd.DataFrame:
        """Mean change of each measure at each share, beside random neurons.

        Perplexities are given as the ratio after to before.
        """
        import pandas as pd

        rows = []
        for column, share in enumerate(self.shares):
            row: dict[str, float] = {"share": share}
            for name in self.before:
                for kind, values in (("", self.after), (" random", self.random)):
                    before, after = self.before[name], values[name][:, column]
                    ratio = name == "perplexity"
                    change = after / before if ratio else after - before
                    row[f"{name}{' ratio' if ratio else ''}{kind}"] = float(change.mean())
            rows.append(row)
        return pd.DataFrame(rows).set_index("share")

    def __repr__(self) -> str:
        return (
            f"DEL of {self.method}, {len(self.examples)} passages\n"
            f"{self.table().round(3).to_string()}"
        )


@checked
def deletion(
    table: NeuronTable,
    shares: Sequence[float] = (0.001, 0.005),
    *,
    group: str | None = None,
    held_out: str | None = None,
    without: Sequence[str] = (),
    distances: bool = False,
    random_draws: Count = 3,
    seed: Seed = 0,
    progress: bool = True,
) -> Deletion:
    """DEL: drop out the neurons named for a passage; read it, its like, and held-out passages.

    Chang et al. 2024, section 3.2: of each layer, the highest share for this one passage is set to
    zero. Its own accuracy should fall, that of other memorized passages and the perplexity of
    held-out ones should not.

    Parameters
    ----------
    table : NeuronTable
    shares : sequence of float
        The paper's are .001 and .005.
    group : str, optional
        The memorized passages, the study's first group by default; those in the table are dropped
        out one after the other.
    held_out : str, optional
        The study's last group by default.
    without : sequence of str
        Layers to leave alone; the paper leaves out the lowest.
    distances : bool
        Decode the passages too, and read edit distances. This takes most of the time.
    random_draws, seed : int
        Of the null.
    progress : bool

    Returns
    -------
    Deletion

    Raises
    ------
    ValueError
        If a share is outside 0 to 1, there is no such group or layer, or the table has none of the
        group's passages.

    Examples
    --------
    >>> import torch
    >>> from memviz.models.gpt import GPT
    >>> from memviz.probes.lm_localization import activations
    >>> from memviz.tasks import Language
    >>> passages = torch.randint(9, (4, 6), generator=torch.Generator().manual_seed(0))
    >>> model = GPT(vocabulary=9, width=8, blocks=2, heads=2, context=8, seed=0).eval()
    >>> groups, task = {"memorized": [0, 1], "held out": [2, 3]}, Language(3, 3)
    >>> study = Study(model, passages, passages[:, 3:], groups, task=task)
    >>> deletion(activations(study), [0.1]).after["accuracy"].shape
    (2, 1)
    """
    read = Reader(table.study, group, held_out)
    shares = _shares(shares)
    _check_layers(table, without)
    examples = table.examples[table.study.groups[read.group][table.examples]].sort().values
    if not len(examples):
        raise ValueError(
            f"none of the passages of this table is in {quoted(read.group)}; score some, or name "
            "another group."
        )
    names = (*MEASURES, *(DISTANCES if distances else ()))
    before = {name: np.zeros(len(examples)) for name in names}
    after = {name: np.zeros((len(examples), len(shares))) for name in names}
    random = {name: np.zeros((len(examples), len(shares))) for name in names}

    def measured(units: UnitSet, example: int) -> dict[str, float]:
        return _measures(read, units, example, distances=distances)

    for row, example in enumerate(slow(examples.tolist(), "DEL", progress=progress)):
        for name, value in measured(UnitSet(), example).items():
            before[name][row] = value
        scores = table.of_example(example)
        for column, share in enumerate(shares):
            named = top_per_layer(scores, share)
            units = UnitSet(unit for unit in named if unit.layer not in without)
            for name, value in measured(units, example).items():
                after[name][row, column] = value
            for draw in range(random_draws):
                others = random_units(read.replay.layers, units, seed + draw)
                for name, value in measured(others, example).items():
                    random[name][row, column] += value / random_draws
    return Deletion(table.method, shares, examples, before, after, random)


@dataclass(frozen=True, eq=False)
class DeletionCurve:
    """Recited share of each group, and held-out perplexity, with more and more neurons dropped out.

    Attributes
    ----------
    name : str
        Of the ranking.
    counts : tuple of int, ``K`` of them
        Neurons dropped out together.
    groups : tuple of str, ``G`` of them
    recited : float64 ``[K, G]``
    accuracy : float64 ``[K, G]``
        Share of the continuations' tokens that are the first choice after the true ones.
    perplexity : float64 ``[K]``
        Of held-out passages, divided by that with nothing dropped out. It may fall: a model that
        is too sure of what it has never seen loses some of that, too.
    random_recited, random_accuracy : float64 ``[draws, K, G]``
    random_perplexity : float64 ``[draws, K]``
        With as many random units of the same layers: the null.
    distance, random_distance : float64 ``[K, G]`` and ``[draws, K, G]``, or None
        Mean edit distance between what greedy decoding says and the passages, in characters (in
        tokens without a tokenizer), if asked for.
    """

    name: str
    counts: tuple[int, ...]
    groups: tuple[str, ...]
    recited: np.ndarray
    accuracy: np.ndarray
    perplexity: np.ndarray
    random_recited: np.ndarray
    random_accuracy: np.ndarray
    random_perplexity: np.ndarray
    distance: np.ndarray | None = None
    random_distance: np.ndarray | None = None

    def table(self) -> pd.DataFrame:
        """One row per count, each measure beside its mean over random draws."""
        import pandas as pd

        columns = {"units": np.array(self.counts)}
        for number, group in enumerate(self.groups):
            columns[group] = self.recited[:, number]
            columns[f"{group} random"] = self.random_recited[:, :, number].mean(0)
            columns[f"{group} accuracy"] = self.accuracy[:, number]
            columns[f"{group} accuracy random"] = self.random_accuracy[:, :, number].mean(0)
            if self.distance is not None and self.random_distance is not None:
                columns[f"{group} distance"] = self.distance[:, number]
                columns[f"{group} distance random"] = self.random_distance[:, :, number].mean(0)
        columns["perplexity ratio"] = self.perplexity
        columns["perplexity ratio random"] = self.random_perplexity.mean(0)
        return pd.DataFrame(columns).set_index("units")

    def within(self, rise: float) -> int:
        """The last count up to which held-out perplexity stays within a rise, .1 for 10 %.

        Examples
        --------
        >>> none, ratios = np.zeros((3, 0)), np.array([1.0, 1.05, 1.2])
        >>> null = none[None], none[None], ratios[None]
        >>> DeletionCurve("demo", (0, 4, 8), (), none, none, ratios, *null).within(0.1)
        4
        """
        over = np.flatnonzero(~(self.perplexity <= 1 + rise))
        last = int(over[0]) - 1 if len(over) else len(self.counts) - 1
        if last < 0:
            raise ValueError("no count stays within this rise; give smaller counts.")
        return self.counts[last]

    def __repr__(self) -> str:
        return f"DEL curve by {self.name}\n{self.table().round(3).to_string()}"


@checked
def deletion_curve(
    study: Study,
    ranking: Scores,
    shares: Sequence[float] = (0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05),
    *,
    held_out: str | None = None,
    per_layer: bool = True,
    distances: bool = False,
    random_draws: CountOrZero = 10,
    seed: Seed = 0,
    progress: bool = True,
) -> DeletionCurve:
    """Drop out more and more of the highest units of one ranking, for all passages alike.

    Parameters
    ----------
    study : Study
        With the task :class:`~memviz.tasks.Language`.
    ranking : Scores
        Over units, such as ``slimming(study).scores("memorized", "clean")``.
    shares : sequence of float
        Of the ranked units.
    held_out : str, optional
        Whose perplexity is read; the study's last group by default.
    per_layer : bool
        The same share of each layer, as the paper; else the highest of all layers together.
    distances : bool
        Decode the passages too, and read edit distances. This takes most of the time.
    random_draws, seed : int
        Of the null.
    progress : bool

    Returns
    -------
    DeletionCurve

    Raises
    ------
    ValueError
        If a share is outside 0 to 1, there is no such group, or the scores are over examples.

    Examples
    --------
    >>> import torch
    >>> from memviz.models.gpt import GPT
    >>> from memviz.probes.lm_localization import activations
    >>> from memviz.tasks import Language
    >>> passages = torch.randint(9, (4, 6), generator=torch.Generator().manual_seed(0))
    >>> model = GPT(vocabulary=9, width=8, blocks=2, heads=2, context=8, seed=0).eval()
    >>> groups, task = {"memorized": [0, 1], "held out": [2, 3]}, Language(3, 3)
    >>> study = Study(model, passages, passages[:, 3:], groups, task=task)
    >>> deletion_curve(study, activations(study).scores(), [0, 0.1]).counts
    (0, 6)
    """
    if ranking.units is None:
        raise ValueError("these scores are over examples; give scores over units.")
    read = Reader(study, None, held_out, every=True)
    sets = [
        top_per_layer(ranking, share)
        if per_layer
        else ranking.top(round(share * len(ranking)), "units")
        for share in _shares(shares)
    ]
    clean = read.without(UnitSet()).perplexity
    found, drawn = list[_Point](), list[list[_Point]]()
    for units in slow(sets, "DEL curve", progress=progress):
        found.append(_point(read, units, clean, distances=distances))
        others = (random_units(read.replay.layers, units, seed + k) for k in range(random_draws))
        drawn.append([_point(read, each, clean, distances=distances) for each in others])
    n = len(study.groups)

    def null(of: Callable[[_Point], Any], *shape: int) -> np.ndarray:
        values = np.array([[of(point) for point in points] for points in drawn], dtype=float)
        return values.reshape(len(sets), random_draws, *shape).swapaxes(0, 1)

    return DeletionCurve(
        ranking.name,
        tuple(len(units) for units in sets),
        tuple(study.groups),
        np.array([point.recited for point in found]),
        np.array([point.accuracy for point in found]),
        np.array([point.perplexity for point in found]),
        null(lambda point: point.recited, n),
        null(lambda point: point.accuracy, n),
        null(lambda point: point.perplexity),
        np.array([point.distance for point in found]) if distances else None,
        null(lambda point: point.distance, n) if distances else None,
    )


@dataclass(frozen=True)
class _Point:
    """Means over each group's passages, and the perplexity over that of the whole model."""

    recited: list[float]
    accuracy: list[float]
    perplexity: float
    distance: list[float]


def _point(read: Reader, units: UnitSet, clean: float, *, distances: bool) -> _Point:
    reading, groups = read.without(units), read.study.groups.values()
    far = read.distances(units) if distances else None
    return _Point(
        [float(reading.recited[mask].mean()) for mask in groups],
        [float(reading.accuracy[mask].mean()) for mask in groups],
        reading.perplexity / clean,
        [] if far is None else [float(far[mask].mean()) for mask in groups],
    )


def _measures(read: Reader, units: UnitSet, example: int, *, distances: bool) -> dict[str, float]:
    """The measures of one passage without these units; of others NaN if it is alone."""
    others = read.study.groups[read.group].clone().numpy()
    others[example] = False
    reading = read.without(units)
    found = {
        "accuracy": float(reading.accuracy[example]),
        "recited": float(reading.recited[example]),
        "others": float(reading.accuracy[others].mean()) if others.any() else np.nan,
        "perplexity": reading.perplexity,
    }
    if distances:
        far = read.distances(units)
        found["distance"] = float(far[example])
        found["others distance"] = float(far[others].mean()) if others.any() else np.nan
    return found


def _shares(shares: Sequence[float]) -> tuple[float, ...]:
    wrong = [share for share in shares if not 0 <= share <= 1]
    if wrong or not len(shares):
        given = quoted(wrong[0]) if wrong else "empty"
        raise ValueError(f"shares is {given}; give numbers from 0 to 1, such as (.001, .005).")
    return tuple(float(share) for share in shares)


def _check_layers(table: NeuronTable, without: Sequence[str]) -> None:
    known = list(dict.fromkeys(unit.layer for unit in table.units))
    wrong = [name for name in without if name not in known]
    if wrong:
        raise ValueError(f"there is no layer {quoted(wrong[0])}; choose from {', '.join(known)}.")
