"""Déjà vu: which units of either tower hold it, ablated one at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from memviz.checks import Seed, checked
from memviz.engine.record import Intervention, intervention
from memviz.engine.sweep import sweep
from memviz.progress import slow
from memviz.scores import Null, Scores
from memviz.units import Layer, Unit, UnitSet

from .._table import SOURCE, DejaVu
from ._halves import GapEffects, PairHalf, are_scored, effect_scores, pair_halves
from ._retrieval import Retrieval


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
    seed: Seed = 0,
    progress: bool = True,
) -> GapEffects:
    """AUCG lost when each unit is ablated alone, exactly: one full retrieval per unit.

    AUCG, the difference of the mean recalls (Jayaraman et al. 2024, arXiv:2402.02103), is the
    smoothest of the three gaps. The null is the same on the held-out pairs. ``half`` has the same
    on the first of two halves of the pairs, so that units can be chosen there and judged on the
    other one: ``gap_curve(retrieval, effects.half, pairs=pair_halves(retrieval, seed)[1])``.

    Parameters
    ----------
    retrieval : Retrieval
    units : sequence of Unit, optional
        By default all units of both towers: a minute or two for the demo on two cores.
    how : str or Intervention
    seed : int
        Draws the halves, each pair by its own row.
    progress : bool
        Show a progress bar. The cell can be interrupted at any time, without side effects.

    Returns
    -------
    GapEffects
        Scores over units; ``half`` is None where a half would have no pair.

    Examples
    --------
    >>> from memviz.demos import scenes
    >>> two = [Unit("transformer.resblocks.1.mlp.c_fc", index) for index in (0, 1)]
    >>> unit_effects(scenes.retrieval(), two, progress=False).values.shape
    (2,)
    """
    how = intervention(how)
    chosen = _all_units(retrieval) if units is None else list(units)
    halves = pair_halves(retrieval, seed)
    before = retrieval.clean.found
    values, null, first, first_null = np.full((4, len(chosen)), np.nan)
    rows = slow(range(len(chosen)), "units") if progress else range(len(chosen))
    for row in rows:
        after = retrieval.tested(UnitSet([chosen[row]]), how, keep=False)
        values[row], null[row] = _lost(before, after)
        first[row], first_null[row] = _lost(before, after, halves[0])
    half = (first, _known(first_null)) if are_scored(retrieval, halves) else None
    return effect_scores(chosen, values, _known(null), half, seed)


def _known(null: np.ndarray) -> np.ndarray | None:
    return None if np.isnan(null).any() else null


def _lost(before: DejaVu, after: DejaVu, pairs: PairHalf | None = None) -> tuple[float, float]:
    """AUCG lost by the training pairs and by the held-out pairs, or by some of either."""
    training, held_out = pairs or (None, None)
    lost = before.gaps_over(training)[2] - after.gaps_over(training)[2]
    if before.null is None or after.null is None:
        return lost, np.nan
    return lost, before.null.gaps_over(held_out)[2] - after.null.gaps_over(held_out)[2]


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
    after = retrieval.tested(UnitSet([unit]), how, stop=stop, keep=False)
    return _lost(retrieval.clean.found, after)


@checked
def beyond_held_out(scores: Scores) -> Scores:
    """What a unit's ablation takes from the training pairs beyond what it takes from the null.

    The half of :class:`GapEffects` likewise.

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
    values = scores.values - scores.null.mean
    if isinstance(scores, GapEffects) and scores.half is not None:
        scores = replace(scores, half=beyond_held_out(scores.half))
    return replace(scores, name=name, values=values, null=nothing)


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


def _all_units(retrieval: Retrieval) -> list[Unit]:
    return [unit for layer in unit_layers(retrieval) for unit in layer.all()]
