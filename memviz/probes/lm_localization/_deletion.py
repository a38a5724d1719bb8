"""DEL: the neurons that a localizer names are dropped out, and the model is read again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from memviz.checks import Count, CountOrZero, Seed, checked, quoted
from memviz.engine.record import Replay, Zero
from memviz.engine.sets import random_units
from memviz.progress import slow
from memviz.scores import Scores
from memviz.study import Study, default_groups
from memviz.units import UnitSet

from ._neurons import language
from ._table import NeuronTable, top_per_layer

if TYPE_CHECKING:
    import pandas as pd

MEASURES = ("accuracy", "recited", "others", "perplexity")


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
        accuracy of the group's other passages, ``perplexity`` that of held-out passages.
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
            for name in MEASURES:
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
    read = _Reader(table.study, group, held_out)
    shares = _shares(shares)
    _check_layers(table, without)
    examples = table.examples[table.study.groups[read.group][table.examples]].sort().values
    if not len(examples):
        raise ValueError(
            f"none of the passages of this table is in {quoted(read.group)}; score some, or name "
            "another group."
        )
    clean = read.of(read.replay.clean)
    after = {name: np.zeros((len(examples), len(shares))) for name in MEASURES}
    random = {name: np.zeros((len(examples), len(shares))) for name in MEASURES}
    for row, example in enumerate(slow(examples.tolist(), "DEL", progress=progress)):
        scores = table.of_example(example)
        for column, share in enumerate(shares):
            units = _left(top_per_layer(scores, share), without)
            for name, value in _measures(read, units, example).items():
                after[name][row, column] = value
            for draw in range(random_draws):
                others = random_units(read.replay.layers, units, seed + draw)
                for name, value in _measures(read, others, example).items():
                    random[name][row, column] += value / random_draws
    before = {
        name: np.array([read.of_passage(clean, example)[name] for example in examples.tolist()])
        for name in MEASURES
    }
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

    def table(self) -> pd.DataFrame:
        """One row per count, each measure beside its mean over random draws."""
        import pandas as pd

        columns = {"units": np.array(self.counts)}
        for number, group in enumerate(self.groups):
            columns[group] = self.recited[:, number]
            columns[f"{group} random"] = self.random_recited[:, :, number].mean(0)
            columns[f"{group} accuracy"] = self.accuracy[:, number]
            columns[f"{group} accuracy random"] = self.random_accuracy[:, :, number].mean(0)
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
    read = _Reader(study, None, held_out, every=True)
    sets = [
        top_per_layer(ranking, share)
        if per_layer
        else ranking.top(round(share * len(ranking)), "units")
        for share in _shares(shares)
    ]
    names = tuple(study.groups)
    recited, accuracy, perplexity = [], [], []
    null_recited, null_accuracy = (
        np.zeros((random_draws, len(sets), len(names))) for _ in range(2)
    )
    null_perplexity = np.zeros((random_draws, len(sets)))
    clean = read.of(read.replay.clean).perplexity
    for row, units in enumerate(slow(sets, "DEL curve", progress=progress)):
        reading = read.of(read.replay.outputs(units, Zero()))
        recited.append([reading.recited[study.groups[name]].mean() for name in names])
        accuracy.append([reading.accuracy[study.groups[name]].mean() for name in names])
        perplexity.append(reading.perplexity / clean)
        for draw in range(random_draws):
            others = random_units(read.replay.layers, units, seed + draw)
            reading = read.of(read.replay.outputs(others, Zero()))
            null_recited[draw, row] = [reading.recited[study.groups[n]].mean() for n in names]
            null_accuracy[draw, row] = [reading.accuracy[study.groups[n]].mean() for n in names]
            null_perplexity[draw, row] = reading.perplexity / clean
    counts = tuple(len(units) for units in sets)
    return DeletionCurve(
        ranking.name,
        counts,
        names,
        np.array(recited),
        np.array(accuracy),
        np.array(perplexity),
        null_recited,
        null_accuracy,
        null_perplexity,
    )


@dataclass(frozen=True, eq=False)
class _Reading:
    """Accuracy and recitation of the examples read ``[n]``, NaN elsewhere; held-out perplexity."""

    accuracy: np.ndarray
    recited: np.ndarray
    perplexity: float


class _Reader:
    """Reads outputs of a group's passages and of held-out ones."""

    def __init__(
        self, study: Study, group: str | None, held_out: str | None, *, every: bool = False
    ) -> None:
        language(study)
        self.study, self.group = study, default_groups(study, group, None)[0]
        self.held_out = [*study.groups][-1] if held_out is None else held_out
        members = study.group(self.group)
        if self.held_out == self.group and not every:
            raise ValueError(
                f"held-out passages and memorized ones are both {quoted(self.group)}; name another "
                "group with held_out=."
            )
        examples = torch.cat([members, study.group(self.held_out)]).unique()
        self.replay = Replay(study, None if every else examples)

    def of(self, outputs: Tensor) -> _Reading:
        """What is read of these outputs, of the replay's examples."""
        task, examples = self.study.task, self.replay.examples
        labels = self.study.labels[examples].to(outputs.device)
        right = (task.predictions(outputs) == labels).double().mean(1).cpu().numpy()
        accuracy, recited = (np.full(len(self.study), np.nan) for _ in range(2))
        accuracy[examples.numpy()] = right
        recited[examples.numpy()] = (task.margin(outputs, labels) > 0).double().cpu().numpy()
        losses = task.loss(outputs, labels).double().cpu()
        mean = losses[self.study.groups[self.held_out][examples]].mean()
        return _Reading(accuracy, recited, float(mean.exp()))

    def of_passage(self, reading: _Reading, example: int) -> dict[str, float]:
        """The measures of one passage; ``others`` is NaN if it is alone in its group."""
        others = self.study.groups[self.group].clone()
        others[example] = False
        return {
            "accuracy": float(reading.accuracy[example]),
            "recited": float(reading.recited[example]),
            "others": float(reading.accuracy[others].mean()) if others.any() else np.nan,
            "perplexity": reading.perplexity,
        }


def _measures(read: _Reader, units: UnitSet, example: int) -> dict[str, float]:
    """The measures of one passage without these units."""
    return read.of_passage(read.of(read.replay.outputs(units, Zero())), example)


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


def _left(units: UnitSet, without: Sequence[str]) -> UnitSet:
    return UnitSet(unit for unit in units if unit.layer not in without)
