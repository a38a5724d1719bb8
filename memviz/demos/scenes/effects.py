"""Déjà vu of the scenes with units ablated: ablation curves of seed 0.

``python -m memviz.demos.scenes.effects`` prints PPG, AUCG and utility with ever more units ablated,
by the exact sweep and in random order; ``... sweep`` first repeats the sweep (minutes on two cores)
and stores it.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np

from memviz.probes.deja_vu.ablation import beyond_held_out, gap_curve, unit_effects
from memviz.scores import Scores

from ._effects import HALF_SEED, known_effects, write_effects
from ._study import retrieval

COUNTS = (0, 4, 8, 16, 32, 64, 128, 256)
FEW = (0, 1, 2, 4)  # heads lead this ranking; without all of them every caption is the same


def main(arguments: list[str]) -> None:
    """Print the curves; with ``sweep``, repeat the sweep first."""
    pair = retrieval()
    if arguments == ["sweep"]:
        write_effects(pair, 0, unit_effects(pair, seed=HALF_SEED))
    scores = known_effects(pair, 0)
    assert scores is not None
    print(scores)
    print(gap_curve(pair, scores, FEW))
    beyond = beyond_held_out(scores)
    for parts in ((".mlp", "conv1"), (".mlp",)):
        print(gap_curve(pair, _of_layers(beyond, *parts), COUNTS))


def _of_layers(scores: Scores, *parts: str) -> Scores:
    """Scores of the units of some layers; NaN elsewhere, so that only these are ranked."""
    in_layers = [any(part in unit.layer for part in parts) for unit in scores.units or ()]
    name = f"{scores.name}; layers with {' or '.join(parts)}"
    return replace(scores, name=name, values=np.where(in_layers, scores.values, np.nan))


if __name__ == "__main__":
    main(sys.argv[1:])
