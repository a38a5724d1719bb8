"""Déjà vu as more and more units of a ranking are ablated together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np

from memviz.checks import Seed, checked
from memviz.engine.record import Intervention, intervention
from memviz.engine.sets import others_left, random_units
from memviz.progress import slow
from memviz.scores import Scores
from memviz.units import UnitSet

from ._halves import PairHalf, check_pairs
from ._retrieval import Retrieval, Retrieved
from ._units import unit_layers

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

MEASURES = ("PPG", "PRG", "AUCG", "held-out PPG", "held-out PRG", "held-out AUCG", "utility")


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
    pairs: PairHalf | None = None,
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
    pairs : PairHalf, optional
        Measure the gaps on these pairs alone, such as the half of :func:`pair_halves` that had no
        part in the ranking. The utility asks for kinds of object, not for pairs, and stays whole.
    random_draws, seed : int
        Number and seed of the random sets of units, from the same layers, at each count. The seed
        also orders units of equal score, each by its own draw.
    progress : bool
        Show a progress bar once it takes longer than a second.

    Raises
    ------
    ValueError
        If ``random_draws`` is below 1, a count exceeds the units of the ranking, or ``pairs`` are
        not of this retrieval, or none of them has a gap.

    Examples
    --------
    >>> import memviz as mv
    >>> from memviz.demos import scenes
    >>> from memviz.probes.deja_vu import pair_halves, unit_effects
    >>> retrieval = scenes.retrieval()
    >>> two = [mv.Unit("transformer.resblocks.1.mlp.c_fc", index) for index in (0, 1)]
    >>> ranking = unit_effects(retrieval, two, progress=False)
    >>> gap_curve(retrieval, ranking, [0, 2], random_draws=1).counts
    [0, 2]
    >>> _, other = pair_halves(retrieval, ranking.seed)
    >>> gap_curve(retrieval, ranking.half, [0, 2], pairs=other, random_draws=1).name
    'effect on AUCG, one half of the pairs'
    """
    if random_draws < 1:
        raise ValueError(f"random_draws is {random_draws}; the curve's null needs at least 1.")
    how, layers = intervention(how), unit_layers(retrieval)
    pairs = None if pairs is None else check_pairs(retrieval, pairs)
    chosen, null = [], []
    for point, count in enumerate(slow(counts, "curve", progress=progress)):
        units = first_units(ranking, count, seed)
        chosen.append(measured(retrieval.retrieve(units, how), pairs))
        draws = []
        for draw in range(random_draws):
            others = random_units(layers, units, seed + point * random_draws + draw)
            draws.append(measured(retrieval.retrieve(others, how), pairs) if count else chosen[-1])
        null.append(draws)
    random = np.array(null, float).reshape(len(counts), random_draws, len(MEASURES))
    return GapCurve(list(counts), np.array(chosen), random.transpose(1, 0, 2), ranking.name)


def measured(retrieved: Retrieved, pairs: PairHalf | None = None) -> list[float]:
    """The values of ``MEASURES``, in their order; NaN if there are no held-out pairs.

    With ``pairs`` the gaps are those of these pairs alone.
    """
    training, held_out = pairs or (None, None)
    null = retrieved.found.null
    lost = (np.nan,) * 3 if null is None else null.gaps_over(held_out)
    return [*retrieved.found.gaps_over(training), *lost, retrieved.utility]


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
