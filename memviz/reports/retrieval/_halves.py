"""An honest curve of déjà vu: units are chosen on one half of the pairs and judged on the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from memviz.probes.deja_vu import gap_curve, pair_halves
from memviz.probes.deja_vu.ablation import GapCurve, GapEffects, Retrieval, first_units
from memviz.scores import Scores
from memviz.units import UnitSet


@dataclass(frozen=True, eq=False)
class Judged:
    """A curve of units, and the pairs that it shows.

    Attributes
    ----------
    curve : GapCurve
    units : UnitSet
        The most that the curve ablates.
    words : str
        On which pairs the units were chosen, and on which they are shown.
    on : str
        What follows a gap's name where it is of one half; empty where it is of all pairs.
    """

    curve: GapCurve
    units: UnitSet
    words: str
    on: str


def judged(
    retrieval: Retrieval,
    ranked: Callable[[Scores], Scores],
    counts: list[int],
    draws: int,
    seed: int,
    *,
    progress: bool,
) -> Judged:
    """Judge units on the half of the pairs that had no part in their choice, if effects allow it.

    Parameters
    ----------
    retrieval : Retrieval
        With its effects.
    ranked : callable
        Makes a ranking of effects.
    counts : list of int
    draws, seed : int
        Of random units.
    progress : bool
    """
    effects = retrieval.effects
    assert effects is not None
    ranking, pairs, on = ranked(effects), None, ""
    words = (
        "Units were chosen on the same pairs that the curve shows: no half was held out, since "
        "the effects at hand are of all pairs, or the pairs too few for two halves. After "
        "retrieval.effects = unit_effects(retrieval) a report chooses on one half and shows the "
        "other."
    )
    if isinstance(effects, GapEffects) and effects.half is not None:
        first, pairs = pair_halves(retrieval, effects.seed)
        ranking, on = ranked(effects.half), ", on the half that was held out"
        words = (
            f"Units are chosen on one half of the pairs, drawn with seed {effects.seed} "
            f"({int(first.training.sum()):,} for training, {int(first.held_out.sum()):,} held-out "
            f"ones); the gaps are those of the other half ({int(pairs.training.sum()):,} and "
            f"{int(pairs.held_out.sum()):,}), which had no part in the choice."
        )
    curve = gap_curve(
        retrieval, ranking, counts, pairs=pairs, random_draws=draws, seed=seed, progress=progress
    )
    if on:
        curve.name += ", chosen on the other half"
    return Judged(curve, first_units(ranking, counts[-1], seed), words, on)
