"""Two halves of the pairs: units are chosen on one and judged on the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from memviz.checks import Seed, checked, described
from memviz.scores import Null, Scores
from memviz.statistics import generator_of
from memviz.units import Unit

from .._table import SOURCE
from ._retrieval import Retrieval


class PairHalf(NamedTuple):
    """Some of the training pairs, bool ``[n]``, and some of the held-out pairs, bool ``[h]``."""

    training: Tensor
    held_out: Tensor


@dataclass(frozen=True, eq=False, repr=False)
class GapEffects(Scores):
    """What units take from AUCG: on all pairs, and on one half of them.

    Attributes
    ----------
    half : Scores or None
        The same on the first of :func:`pair_halves`; None where a half would have no pair.
    seed : int
        Of the halves.
    """

    half: Scores | None = None
    seed: int = 0


@checked
def pair_halves(retrieval: Retrieval, seed: Seed = 0) -> tuple[PairHalf, PairHalf]:
    """Draw two halves of the training pairs and of the held-out pairs.

    Each pair is drawn by the seed and its own row alone, so that the halves are of about equal
    size, and further pairs change nothing for those before them. Copies of one pair may come into
    both.

    Examples
    --------
    >>> from memviz.demos import scenes
    >>> first, second = pair_halves(scenes.retrieval(), seed=0)
    >>> bool((first.training ^ second.training).all()), len(second.held_out)
    (True, 1000)
    """
    sizes = (len(retrieval.training), len(retrieval.held_out))
    training, held_out = (_drawn(seed, kind, size) for kind, size in enumerate(sizes))
    return PairHalf(training, held_out), PairHalf(~training, ~held_out)


def _drawn(seed: int, kind: int, size: int) -> Tensor:
    draws = [torch.rand(1, generator=generator_of(seed, kind, row)) for row in range(size)]
    return torch.cat([torch.empty(0), *draws]) < 0.5


def check_pairs(retrieval: Retrieval, pairs: PairHalf) -> PairHalf:
    """Masks of this retrieval's pairs, on the CPU, with at least one whose gap is defined."""
    on_cpu = PairHalf(*(mask.cpu() for mask in pairs))
    sizes = (len(retrieval.training), len(retrieval.held_out))
    for mask, size, kind in zip(on_cpu, sizes, ("training", "held-out"), strict=True):
        if mask.dtype != torch.bool or mask.shape != (size,):
            raise ValueError(
                f"pairs holds {described(mask)} for the {kind} pairs; give bool [{size}], as "
                "pair_halves does."
            )
    if not are_scored(retrieval, [on_cpu]):
        raise ValueError("pairs holds no pair whose gap is defined; choose more of them.")
    return on_cpu


def are_scored(retrieval: Retrieval, halves: Sequence[PairHalf]) -> bool:
    """Whether each half has pairs whose gap is defined, and held-out ones if there are any."""
    found = retrieval.clean.found
    sides = [(found, half.training) for half in halves]
    if found.null is not None:
        sides += [(found.null, half.held_out) for half in halves]
    return all(bool(mask[test.scored].any()) for test, mask in sides)


def effect_scores(
    units: Sequence[Unit],
    values: np.ndarray,
    null: np.ndarray | None,
    half: tuple[np.ndarray, np.ndarray | None] | None = None,
    seed: int = 0,
) -> GapEffects:
    """Scores of the AUCG lost to each unit, with the held-out pairs as null.

    ``half`` has values and null of the first of the halves that ``seed`` draws.

    Examples
    --------
    >>> effect_scores([Unit("fc", 0)], np.array([0.2]), np.array([0.1])).null.mean
    array([0.1])
    """
    words = "effect on AUCG"
    on_half = None if half is None else _scores(f"{words}, one half of the pairs", units, *half)
    whole = _scores(words, units, values, null)
    return GapEffects(**vars(whole), half=on_half, seed=seed)


def _scores(
    name: str, units: Sequence[Unit], values: np.ndarray, null: np.ndarray | None
) -> Scores:
    return Scores(
        name,
        "AUCG lost with the unit ablated",
        values,
        units=tuple(units),
        higher="holds more of what is memorized",
        source=f"AUCG: {SOURCE}; ablation one unit at a time",
        null=None if null is None else Null("the same on held-out pairs", null[None]),
    )
