"""Déjà vu: which units of either tower hold it, ablated one at a time and more and more jointly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np
import torch

from memviz.checks import Seed, checked
from memviz.engine.record import Intervention, intervention
from memviz.engine.sets import others_left, random_units
from memviz.engine.sweep import sweep
from memviz.progress import slow
from memviz.scores import Null, Scores
from memviz.units import Layer, Unit, UnitSet

from .._table import SOURCE
from ._retrieval import Retrieval, Retrieved

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

MEASURES = ("PPG", "PRG", "AUCG", "held-out PPG", "held-out PRG", "held-out AUCG", "utility")


@checked
def unit_layers(retrieval: Retrieval) -> list[Layer]:
    """The layers of both towers whose units can be ablated, the text tower's first."""
    towers = (retrieval.text, retrieval.image)
    return [layer for tower in towers for layer in tower.layers if not layer.is_output]


@checked
def unit_effects(
    retrieval: Retrieval,
    units: Sequence[Unit] | None = None,
    how: str | Intervention = "zero",
    *,
    progress: bool = True,
) -> Scores:
    """AUCG lost when each unit is ablated alone, exactly: one full retrieval per unit.

    AUCG, the difference of the mean recalls (Jayaraman et al. 2024, arXiv:2402.02103), is the
    smoothest of the three gaps. The null is the same on the held-out pairs.

    Parameters
    ----------
    retrieval : Retrieval
    units : sequence of Unit, optional
        By default all units of both towers: a minute or two for the demo on two cores.
    how : str or Intervention
    progress : bool
        Show a progress bar. The cell can be interrupted at any time, without side effects.

    Returns
    -------
    Scores over units

    Examples
    --------
    >>> from memviz.demos import scenes
    >>> two = [Unit("transformer.resblocks.1.mlp.c_fc", index) for index in (0, 1)]
    >>> unit_effects(scenes.retrieval(), two, progress=False).values.shape
    (2,)
    """
    how = intervention(how)
    chosen = _all_units(retrieval) if units is None else list(units)
    values, null = np.full((2, len(chosen)), np.nan)
    rows = slow(range(len(chosen)), "units") if progress else range(len(chosen))
    for row in rows:
        values[row], null[row] = lost_aucg(retrieval, chosen[row], how)
    return effect_scores(chosen, values, None if np.isnan(null).any() else null)


def effect_scores(units: Sequence[Unit], values: np.ndarray, null: np.ndarray | None) -> Scores:
    """Scores of the AUCG lost to each unit, with the held-out pairs as null (:func:`unit_effects`).

    Examples
    --------
    >>> effect_scores([Unit("fc", 0)], np.array([0.2]), np.array([0.1])).null.mean
    array([0.1])
    """
    return Scores(
        "effect on AUCG",
        "AUCG lost with the unit ablated",
        values,
        units=tuple(units),
        higher="holds more of what is memorized",
        source=f"AUCG: {SOURCE}; ablation one unit at a time",
        null=None if null is None else Null("the same on held-out pairs", null[None]),
    )


def lost_aucg(
    retrieval: Retrieval,
    unit: Unit,
    how: Intervention,
    stop: Callable[[], bool] | None = None,
) -> tuple[float, float]:
    """AUCG lost to the ablation of one unit: by the training pairs, and by the held-out pairs.

    Raises
    ------
    CancelledError
        If ``stop()`` returns True.
    """
    before = retrieval.clean.found
    after = retrieval.tested(UnitSet([unit]), how, stop=stop, keep=False)
    if before.null is None or after.null is None:
        return before.aucg - after.aucg, np.nan
    return before.aucg - after.aucg, before.null.aucg - after.null.aucg


@checked
def beyond_held_out(scores: Scores) -> Scores:
    """What a unit's ablation takes from the training pairs beyond what it takes from the null.

    Raises
    ------
    ValueError
        If the scores have no null.

    Examples
    --------
    >>> two = (Unit("fc", 0), Unit("fc", 1))
    >>> null = Null("held-out pairs", np.array([[0.3, 0.0]]))
    >>> scores = Scores("effect", "AUCG lost", np.array([0.4, 0.2]), units=two, null=null)
    >>> beyond_held_out(scores).top(1)
    UnitSet.parse('fc:1')
    """
    if scores.null is None:
        raise ValueError(
            f"{scores.name!r} has no null to subtract; give the scores of unit_effects."
        )
    name = f"{scores.name}, training − held-out pairs"
    nothing = Null("held-out pairs, subtracted", np.zeros((1, len(scores))))
    return replace(scores, name=name, values=scores.values - scores.null.mean, null=nothing)


@checked
def pair_effects(
    retrieval: Retrieval, row: int, how: str | Intervention = "zero", *, progress: bool = True
) -> Scores:
    """Which units hold one pair: its loss of caption-image cosine as each is ablated, exactly.

    Parameters
    ----------
    retrieval : Retrieval
    row : int
        Row of the training pair.
    how : str or Intervention
    progress : bool

    Returns
    -------
    Scores
        Over the units of both towers; the null is the same of one held-out pair, which neither
        model knows.

    Raises
    ------
    IndexError
        If the training set has no such row.

    Examples
    --------
    >>> from memviz.demos import scenes
    >>> len(pair_effects(scenes.retrieval(), 0, progress=False).top(8))
    8
    """
    n, total = len(retrieval.training), retrieval.study_rows
    if not 0 <= row < n:
        raise IndexError(f"pair {row} is not in the training set; its rows are 0 to {n - 1}.")
    two = torch.tensor([row, n + row % (total - n)])
    units = _all_units(retrieval)
    effects = sweep(retrieval.study, units, two, how, progress=progress)
    lost = -effects.margin_change.numpy().astype(float)
    return Scores(
        f"effect on pair {retrieval.training.id(row)}",
        "cosine of caption and image lost",
        lost[:, 0],
        units=tuple(units),
        higher="holds more of this pair",
        source=f"{SOURCE}, on one pair; ablation one unit at a time",
        null=Null("the same on a held-out pair", lost[:, 1][None]),
    )


@dataclass(eq=False)
class GapCurve:
    """Gaps and utility as the highest units of a ranking are ablated together.

    Attributes
    ----------
    counts : list of int
        Numbers of units ablated, ``K`` of them.
    chosen : float ``[K, 7]``
        PPG, PRG and AUCG, the same of the held-out pairs, and the utility.
    random : float ``[draws, K, 7]``
        The same with as many random units of the same layers ablated.
    name : str
        Name of the ranking.
    """

    counts: list[int]
    chosen: np.ndarray
    random: np.ndarray
    name: str

    @property
    def frame(self) -> pd.DataFrame:
        """One row per count and measure."""
        import pandas as pd

        low, high = np.percentile(self.random, [2.5, 97.5], axis=0)
        return pd.DataFrame(
            {
                "units": np.repeat(self.counts, len(MEASURES)),
                "measure": list(MEASURES) * len(self.counts),
                "value": self.chosen.ravel(),
                "random_mean": self.random.mean(0).ravel(),
                "random_low": low.ravel(),
                "random_high": high.ravel(),
            }
        )

    def plot(self) -> Figure:
        """Gaps and utility against the number of units, random units beside."""
        from ..figures import gap_curve as draw

        return draw(self)

    def __repr__(self) -> str:
        table = self.frame.pivot(index="units", columns="measure", values="value")
        random = self.frame.pivot(index="units", columns="measure", values="random_mean")
        columns = ["PPG", "AUCG", "held-out PPG", "utility"]
        joined = table[columns].join(random[["PPG", "utility"]].add_suffix(", random"))
        return f"by {self.name}\n{joined.round(3).to_string()}"


@checked
def gap_curve(
    retrieval: Retrieval,
    ranking: Scores,
    counts: Sequence[int] = (0, 4, 8, 16, 32, 64, 128),
    how: str | Intervention = "zero",
    *,
    random_draws: int = 5,
    seed: Seed = 0,
    progress: bool = True,
) -> GapCurve:
    """Ablate more and more of a ranking's highest units together, and test déjà vu each time.

    Parameters
    ----------
    retrieval : Retrieval
    ranking : Scores
        Over units of either tower, for example from :func:`unit_effects`.
    counts : sequence of int
        Numbers of units to ablate.
    how : str or Intervention
    random_draws, seed : int
        Number and seed of the random sets of units, from the same layers, at each count. The seed
        also orders units of equal score, each by its own draw.
    progress : bool
        Show a progress bar once it takes longer than a second.

    Raises
    ------
    ValueError
        If ``random_draws`` is below 1, or a count exceeds the units of the ranking.

    Examples
    --------
    >>> from memviz.demos import scenes
    >>> retrieval = scenes.retrieval()
    >>> two = [Unit("transformer.resblocks.1.mlp.c_fc", index) for index in (0, 1)]
    >>> ranking = unit_effects(retrieval, two, progress=False)
    >>> gap_curve(retrieval, ranking, [0, 2], random_draws=1).counts
    [0, 2]
    """
    if random_draws < 1:
        raise ValueError(f"random_draws is {random_draws}; the curve's null needs at least 1.")
    how, layers = intervention(how), unit_layers(retrieval)
    chosen, null = [], []
    for point, count in enumerate(slow(counts, "curve", progress=progress)):
        units = first_units(ranking, count, seed)
        chosen.append(measured(retrieval.retrieve(units, how)))
        draws = []
        for draw in range(random_draws):
            others = random_units(layers, units, seed + point * random_draws + draw)
            draws.append(measured(retrieval.retrieve(others, how)) if count else chosen[-1])
        null.append(draws)
    random = np.array(null, float).reshape(len(counts), random_draws, len(MEASURES))
    return GapCurve(list(counts), np.array(chosen), random.transpose(1, 0, 2), ranking.name)


def measured(retrieved: Retrieved) -> list[float]:
    """The values of ``MEASURES``, in their order; NaN if there are no held-out pairs."""
    result, null = retrieved.found, retrieved.found.null
    held_out = [np.nan] * 3 if null is None else [null.ppg, null.prg, null.aucg]
    return [result.ppg, result.prg, result.aucg, *held_out, retrieved.utility]


def random_steps(
    retrieval: Retrieval,
    units: UnitSet,
    how: Intervention,
    draws: int,
    stop: Callable[[], bool] | None = None,
) -> Iterator[Retrieved]:
    """The test with as many random units of the same layers ablated, draw by draw.

    Yields nothing if the units are all there are in their layers.
    """
    layers = unit_layers(retrieval)
    for draw in range(draws if others_left(layers, units) else 0):
        others = random_units(layers, units, seed=draw)
        yield retrieval.retrieve(others, how, stop=stop, keep=False)


def first_units(ranking: Scores, count: int, seed: int) -> UnitSet:
    """The highest units; of equal ones those that the seed draws, not those listed first.

    Examples
    --------
    >>> scores = Scores("effect", "AUCG lost", np.array([0.4, 0.2]), units=("fc:0", "fc:1"))
    >>> first_units(scores, 1, seed=0)
    UnitSet.parse('fc:0')
    """
    if not ranking.top(count, "units"):  # refuses a wrong count, and scores of examples
        return UnitSet()
    rows = ranking.order()
    names = [(ranking.units or ())[row] for row in rows]
    facts = [[seed % 2**64, crc32(unit.layer.encode()), unit.index] for unit in names]
    draws = np.array([np.random.default_rng(fact).random() for fact in facts])
    estimated = np.zeros(len(rows), bool) if ranking.exact is None else ~ranking.exact[rows]
    order = np.lexsort(np.stack([draws, -ranking.values[rows], estimated]))
    return UnitSet([names[place] for place in order[:count]])


def _all_units(retrieval: Retrieval) -> list[Unit]:
    return [unit for layer in unit_layers(retrieval) for unit in layer.all()]
