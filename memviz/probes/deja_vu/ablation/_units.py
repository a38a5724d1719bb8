"""Déjà vu: which units of either tower hold it, one unit at a time and more and more together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

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


def unit_layers(retrieval: Retrieval) -> list[Layer]:
    """The layers of both towers whose units can be ablated, the text tower's first."""
    towers = (retrieval.text, retrieval.image)
    return [layer for tower in towers for layer in tower.layers if not layer.is_output]


def unit_effects(
    retrieval: Retrieval,
    units: Sequence[Unit] | None = None,
    how: str | Intervention = "zero",
    *,
    progress: bool = True,
) -> Scores:
    """The AUCG that is lost when a unit alone is ablated, exactly, one full retrieval a unit.

    Of the three gaps it is the smoothest: the difference of the mean recalls (Jayaraman et al.
    2024, arXiv:2402.02103). The null is the same on the held-out pairs.

    Parameters
    ----------
    retrieval : Retrieval
    units : sequence of Unit, optional
        All units of both towers unless given: a minute or two for the demo on two cores.
    how : str or Intervention
    progress : bool
        Show a bar; interrupting the cell stops it and leaves no trace.

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
    kind = intervention(how)
    chosen = _all_units(retrieval) if units is None else list(units)
    values, null = np.full((2, len(chosen)), np.nan)
    rows = slow(range(len(chosen)), "units") if progress else range(len(chosen))
    for row in rows:
        values[row], null[row] = lost_aucg(retrieval, chosen[row], kind)
    return effect_scores(chosen, values, None if np.isnan(null).any() else null)


def effect_scores(units: Sequence[Unit], values: np.ndarray, null: np.ndarray | None) -> Scores:
    """A sweep's AUCG lost, with what the held-out pairs lost, as :func:`unit_effects` gives them.

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
    kind: Intervention,
    stop: Callable[[], bool] | None = None,
) -> tuple[float, float]:
    """AUCG before minus with one unit ablated: of the training pairs, and of the held-out pairs.

    Raises
    ------
    CancelledError
        If ``stop()`` says so in between.
    """
    before = retrieval.clean.found
    after = retrieval.tested(UnitSet([unit]), kind, stop=stop, keep=False)
    if before.null is None or after.null is None:
        return before.aucg - after.aucg, np.nan
    return before.aucg - after.aucg, before.null.aucg - after.null.aucg


def beyond_held_out(scores: Scores) -> Scores:
    """What a unit's ablation takes from the training pairs beyond what it takes from the null.

    Examples
    --------
    >>> two = (Unit("fc", 0), Unit("fc", 1))
    >>> null = Null("held-out pairs", np.array([[0.3, 0.0]]))
    >>> scores = Scores("effect", "AUCG lost", np.array([0.4, 0.2]), units=two, null=null)
    >>> beyond_held_out(scores).top(1)
    UnitSet.parse('fc:1')
    """
    if scores.null is None:
        raise ValueError(f"{scores.name!r} has no null to take away; give unit_effects' scores.")
    name = f"{scores.name}, training − held-out pairs"
    nothing = Null("held-out pairs, taken away", np.zeros((1, len(scores))))
    return replace(scores, name=name, values=scores.values - scores.null.mean, null=nothing)


def pair_effects(
    retrieval: Retrieval, row: int, how: str | Intervention = "zero", *, progress: bool = True
) -> Scores:
    """Which units hold one pair: the cosine of caption and picture lost with each ablated, exactly.

    Parameters
    ----------
    retrieval : Retrieval
    row : int
        Of the training pair.
    how : str or Intervention
    progress : bool

    Returns
    -------
    Scores over the units of both towers
        The null is of a held-out pair, which neither model knows: the one in the same place.

    Examples
    --------
    >>> from memviz.demos import scenes
    >>> len(pair_effects(scenes.retrieval(), 0, progress=False).top(8))
    8
    """
    n, total = len(retrieval.training), retrieval.study_rows
    if not 0 <= row < n:
        raise IndexError(f"pair {row} is not in the training set; it has 0 to {n - 1}.")
    two = torch.tensor([row, n + row % (total - n)])
    units = _all_units(retrieval)
    effects = sweep(retrieval.study, units, two, how, progress=progress)
    lost = -effects.margin_change.numpy().astype(float)
    return Scores(
        f"effect on pair {retrieval.training.id(row)}",
        "cosine of caption and picture lost",
        lost[:, 0],
        units=tuple(units),
        higher="holds more of this pair",
        source=f"{SOURCE}, on one pair; ablation one unit at a time",
        null=Null("the same on a held-out pair", lost[:, 1][None]),
    )


@dataclass(eq=False)
class GapCurve:
    """The gaps and the utility as the k highest units of a ranking are ablated together.

    Attributes
    ----------
    counts : list of int, ``K`` of them
    chosen : float ``[K, 7]``
        PPG, PRG, AUCG, the three of the held-out pairs, and the utility.
    random : float ``[draws, K, 7]``
        With as many random units of the same layers ablated.
    name : str
        Of the ranking.
    """

    counts: list[int]
    chosen: np.ndarray
    random: np.ndarray
    name: str

    @property
    def frame(self) -> pd.DataFrame:
        """One row a count and measure."""
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
        beside = self.frame.pivot(index="units", columns="measure", values="random_mean")
        kept = ["PPG", "AUCG", "held-out PPG", "utility"]
        joined = table[kept].join(beside[["PPG", "utility"]].add_suffix(", random"))
        return f"by {self.name}\n{joined.round(3).to_string()}"


def gap_curve(
    retrieval: Retrieval,
    ranking: Scores,
    counts: Sequence[int] = (0, 4, 8, 16, 32, 64, 128),
    how: str | Intervention = "zero",
    *,
    random_draws: int = 5,
    seed: int = 0,
) -> GapCurve:
    """Ablate the highest units of a ranking together, more and more, and test déjà vu each time.

    Parameters
    ----------
    retrieval : Retrieval
    ranking : Scores
        Over units of either tower, of :func:`unit_effects` for example.
    counts : sequence of int
    how : str or Intervention
    random_draws, seed : int
        Of random units in the same layers at each point.

    Raises
    ------
    ValueError
        If nothing is drawn at random, or the ranking has fewer units than a count.

    Examples
    --------
    >>> from memviz.demos import scenes
    >>> found = scenes.retrieval()
    >>> two = [Unit("transformer.resblocks.1.mlp.c_fc", index) for index in (0, 1)]
    >>> gap_curve(found, unit_effects(found, two, progress=False), [0, 2], random_draws=1).counts
    [0, 2]
    """
    if random_draws < 1:
        raise ValueError(f"random_draws is {random_draws}; the curve's null needs at least 1.")
    kind, layers = intervention(how), unit_layers(retrieval)
    chosen, null = [], []
    for point, count in enumerate(slow(counts, "curve")):
        units: UnitSet = ranking.top(count)
        chosen.append(measured(retrieval.retrieve(units, kind)))
        draws = []
        for draw in range(random_draws):
            others = random_units(layers, units, seed + point * random_draws + draw)
            draws.append(measured(retrieval.retrieve(others, kind)) if count else chosen[-1])
        null.append(draws)
    random = np.array(null, float).reshape(len(counts), random_draws, len(MEASURES))
    return GapCurve(list(counts), np.array(chosen), random.transpose(1, 0, 2), ranking.name)


def measured(retrieved: Retrieved) -> list[float]:
    """In the order of ``MEASURES``; NaN where there are no held-out pairs."""
    found, null = retrieved.found, retrieved.found.null
    beside = [np.nan] * 3 if null is None else [null.ppg, null.prg, null.aucg]
    return [found.ppg, found.prg, found.aucg, *beside, retrieved.utility]


def random_steps(
    retrieval: Retrieval,
    units: UnitSet,
    kind: Intervention,
    draws: int,
    stop: Callable[[], bool] | None = None,
) -> Iterator[Retrieved]:
    """The test with as many random units of the same layers ablated, draw by draw.

    Nothing is drawn where these units are the whole of their layers.
    """
    layers = unit_layers(retrieval)
    for draw in range(draws if others_left(layers, units) else 0):
        others = random_units(layers, units, seed=draw)
        yield retrieval.retrieve(others, kind, stop=stop, keep=False)


def _all_units(retrieval: Retrieval) -> list[Unit]:
    return [unit for layer in unit_layers(retrieval) for unit in layer.all()]
