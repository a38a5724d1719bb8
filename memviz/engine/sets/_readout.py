"""Readout: what a set of ablated units does to each group, compared with random units."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from memviz.checks import Seed, checked
from memviz.engine.record import Intervention, Replay, intervention
from memviz.progress import slow
from memviz.statistics import NORMAL, generator_of, wilson
from memviz.study import Study
from memviz.tasks import are_right
from memviz.units import Layer, UnitSet, UnitsLike, layer_words, unit_words

from ._outputs import SetOutputs

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Reading:
    """Accuracy and mean margin of one group, each with its 95 % interval.

    The accuracy's is Wilson's; the margin's is the mean ± 1.96 standard errors.
    """

    n: int
    correct: int
    accuracy: float
    low: float
    high: float
    margin: float
    margin_low: float
    margin_high: float

    @classmethod
    def of(cls, margin: Tensor) -> Reading:
        """Summarize a group's margins ``[n]``; an example is right if its margin is above 0."""
        n, correct = len(margin), int((margin > 0).sum())
        low, high = wilson(correct, n)
        mean = float(margin.mean())
        error = float(margin.std() / n**0.5) * NORMAL if n > 1 else 0.0
        return cls(n, correct, correct / n, low, high, mean, mean - error, mean + error)


def percent(share: float) -> str:
    """A share in whole percent; with a decimal if it would otherwise round to 0% or 100%.

    Examples
    --------
    >>> percent(0.43), percent(0.997), percent(1.0), percent(0.025)
    ('43%', '99.7%', '100%', '3%')
    """
    rounds_away = 0 < share < 0.005 or 0.995 <= share < 1
    # Halves go up, as in the decimals of a page, so that .03 is not 2% elsewhere.
    places = Decimal("0.001") if rounds_away else Decimal("0.01")
    whole = Decimal(float(share)).quantize(places, ROUND_HALF_UP)
    return f"{whole:.1%}" if rounds_away else f"{whole:.0%}"


def figure(value: float) -> str:
    """A measure with two or three figures, as a page writes it.

    Examples
    --------
    >>> figure(3.716), figure(-0.25), figure(12.34), figure(3.125)
    ('3.72', '−.25', '12.3', '3.13')
    """
    size = abs(value)
    digits = next((d for d, least in enumerate((100, 10, 0.1, 0.001)) if size >= least), 4)
    places = Decimal(1).scaleb(-(digits if size else 2))  # halves go up, as in the browser
    text = f"{Decimal(float(value)).quantize(places, ROUND_HALF_UP):f}".replace("-", "−")
    return text.replace("0.", ".", 1) if size < 1 else text


@dataclass(frozen=True)
class GroupReading:
    """One group before and after, and how many of its predictions changed."""

    before: Reading
    after: Reading
    right_to_wrong: int
    wrong_to_right: int
    now_true: int

    @property
    def flipped(self) -> bool:
        """Whether any prediction changed sides."""
        return self.right_to_wrong + self.wrong_to_right > 0

    @property
    def words(self) -> str:
        """What moved: the accuracy, or the margin where no prediction changed sides."""
        before, after = self.before, self.after
        if self.flipped or not math.isfinite(before.margin + after.margin):
            return f"{percent(before.accuracy)} → {percent(after.accuracy)}"
        return f"margin {figure(before.margin)} → {figure(after.margin)}"


@dataclass(eq=False)
class Readout:
    """What a set of ablated units does to each group of a study.

    Attributes
    ----------
    units : UnitSet
    of : int
        Units in the model, without the output layer.
    how : str
        The intervention.
    groups : dict of name to GroupReading
    before, after : int64 ``[n]``
        Predictions of all examples; like the labels, where these are not classes.
    right_before, right_after : bool ``[n]``
        Whether each example is right.
    margin_change : float32 ``[n]``
    one : str
        What the ablated unit is called, if it is a single one.
    random : dict of name to ``[draws, 2]``
        Accuracy and mean margin with the same number of random units per layer: the null.
    """

    units: UnitSet
    of: int
    how: str
    groups: dict[str, GroupReading]
    before: Tensor
    after: Tensor
    right_before: Tensor
    right_after: Tensor
    margin_change: Tensor
    one: str
    random: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """What changed, in words."""
        if not self.units:
            parts = [f"{name} {percent(g.before.accuracy)}" for name, g in self.groups.items()]
            return f"No unit is ablated: {', '.join(parts)}."
        if len(self.units) == 1:
            what = f"{self.one} ablated"
        else:
            what = f"{len(self.units)} of {self.of} units ablated"
        changes = [f"{name} {g.words}" for name, g in self.groups.items()]
        yet = "" if any(g.flipped for g in self.groups.values()) else ", nothing flipped yet"
        return f"{what}: {', '.join(changes)}{yet}."

    @property
    def frame(self) -> pd.DataFrame:
        """A table with one row per group."""
        import pandas as pd

        rows = []
        for name, g in self.groups.items():
            row = {"group": name, "n": g.before.n, "before": g.before.accuracy}
            row |= {"after": g.after.accuracy}
            draws = self.random.get(name)
            if draws is not None:
                row |= {"random": draws[:, 0].mean()}
            row |= {"low": g.after.low, "high": g.after.high}
            row |= {"margin_before": g.before.margin, "margin_after": g.after.margin}
            if draws is not None:
                row |= {"random_margin": draws[:, 1].mean()}
            row |= {"right_to_wrong": g.right_to_wrong, "wrong_to_right": g.wrong_to_right}
            rows.append(row)
        return pd.DataFrame(rows).set_index("group")

    def __repr__(self) -> str:
        return f"{self.sentence}\n{self.frame.round(3).to_string()}"

    def _repr_html_(self) -> str:
        from html import escape

        return f"<p>{escape(self.sentence)}</p>{self.frame.round(3).to_html()}"


@checked
def readout(
    study: Study,
    units: UnitsLike,
    how: str | Intervention = "zero",
    *,
    random_draws: int = 20,
    seed: Seed = 0,
    progress: bool = True,
) -> Readout:
    """Accuracy and margin of each group before and after ablation, and with random units.

    Parameters
    ----------
    study : Study
    units : UnitSet or text
    how : str or Intervention
    random_draws : int
        For the null: draws of the same number of random units per layer; 0 for none. There are
        none either if these units are all of their layers.
    seed : int
        Of these draws.
    progress : bool
        Show a progress bar once it takes longer than a second.

    Raises
    ------
    KeyError, IndexError, ValueError
        On an unknown layer or unit, a layer without units, or a negative ``random_draws``.

    Examples
    --------
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    >>> study = Study(model.eval(), torch.randn(6, 4), torch.zeros(6), {"test": range(6)})
    >>> len(readout(study, "0:1,2", random_draws=5).random["test"])
    5
    """
    check_draws(random_draws, 0)
    replay = Replay(study, progress=progress)
    how = intervention(how)
    chosen = replay.check(units)
    result = read(replay, chosen, replay.outputs(chosen, how), how)
    if random_draws and others_left(replay.layers, chosen):
        sets = SetOutputs(replay, how)
        draws = [
            random_reading(sets, random_units(replay.layers, chosen, seed + draw))
            for draw in slow(range(random_draws), "random units", progress=progress)
        ]
        result.random = {name: np.array([draw[name] for draw in draws]) for name in result.groups}
    return result


def read(replay: Replay, units: UnitSet, outputs: Tensor, how: Intervention) -> Readout:
    """The readout of outputs that have already been computed, without its null."""
    study = replay.study
    labels = study.labels[replay.examples].to(outputs.device)
    before, after = replay.clean, outputs
    margins = [study.task.margin(o, labels).cpu().double() for o in (before, after)]
    predicted = [study.task.predictions(o).cpu() for o in (before, after)]
    right = [margin > 0 for margin in margins]
    true = _now_true(study, replay.examples, after)
    groups = {}
    for name, mask in study.groups.items():
        members = mask[replay.examples]
        if not members.any():
            continue
        groups[name] = GroupReading(
            Reading.of(margins[0][members]),
            Reading.of(margins[1][members]),
            int((members & right[0] & ~right[1]).sum()),
            int((members & ~right[0] & right[1]).sum()),
            int((members & right[0] & ~right[1] & true).sum()),
        )
    of = sum(layer.units for layer in replay.layers if not layer.is_output)
    change = (margins[1] - margins[0]).float()
    said, is_right = (predicted[0], predicted[1]), (right[0], right[1])
    one = unit_words(next(iter(units)), layer_words(replay.layers)) if len(units) == 1 else ""
    return Readout(units, of, str(how), groups, *said, *is_right, change, one)


def _now_true(study: Study, examples: Tensor, outputs: Tensor) -> Tensor:
    """Which examples with a wrong label get their true label, bool ``[n]``."""
    if study.true_labels is None:
        return torch.zeros(len(examples), dtype=torch.bool)
    true, given = study.true_labels[examples], study.labels[examples]
    mislabelled = (true != given).flatten(1).any(1) if true.dim() > 1 else true != given
    return mislabelled & are_right(study.task, outputs, true)


def others_left(layers: Sequence[Layer], units: UnitSet) -> bool:
    """Whether the layers of these units have other live units to draw; if not, there is no null.

    Examples
    --------
    >>> layer = Layer("fc", "linear", 3, "linear")
    >>> [others_left([layer], UnitSet.parse(units)) for units in ("fc:1,2", "fc:0-2", "")]
    [True, False, False]
    """
    by_name = {layer.name: layer for layer in layers}
    return any(
        len(by_name[name].dead.union(indices)) < by_name[name].units
        for name, indices in units.layers.items()
    )


def check_draws(random_draws: int, least: int) -> None:
    """Refuse a null of fewer draws than this."""
    if random_draws < least:
        raise ValueError(f"random_draws is {random_draws}; it must be at least {least}.")


def random_units(layers: Sequence[Layer], units: UnitSet, seed: int) -> UnitSet:
    """The same number of units per layer, drawn at random.

    A layer's draw depends on the seed and the layer alone, and a smaller one is part of a larger.
    Units that nothing reads are drawn only where there are no others left.

    Examples
    --------
    >>> layer = Layer("fc", "linear", 10, "linear")
    >>> len(random_units([layer], UnitSet.parse("fc:1,2"), seed=0))
    2
    """
    by_name = {layer.name: layer for layer in layers}

    def order(name: str) -> list[int]:
        layer, generator = by_name[name], generator_of(seed, crc32(name.encode()))
        drawn: list[int] = torch.randperm(layer.units, generator=generator).tolist()
        return sorted(drawn, key=layer.dead.__contains__) if layer.dead else drawn

    return UnitSet({name: order(name)[: len(indices)] for name, indices in units.layers.items()})


def random_reading(
    sets: SetOutputs, units: UnitSet, stop: Callable[[], bool] | None = None
) -> dict[str, tuple[float, float]]:
    """Accuracy and mean margin of each group with these units ablated, as for one random draw."""
    replay, study = sets.replay, sets.replay.study
    outputs = sets.of(units, stop)
    labels = study.labels[replay.examples].to(outputs.device)
    margin = study.task.margin(outputs, labels).cpu().double()
    readings = {}
    for name, mask in study.groups.items():
        of_group = margin[mask[replay.examples]]
        if len(of_group):
            readings[name] = (float((of_group > 0).double().mean()), float(of_group.mean()))
    return readings
