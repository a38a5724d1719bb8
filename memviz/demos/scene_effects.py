"""What each unit of the scenes' target holds of the recall gap: swept once and kept.

``python -m memviz.demos.scene_effects`` prints the ablation curves of seed 0: PPG, AUCG and utility
as the highest units go, by the exact sweep and at random. ``... sweep`` makes the sweep again
(minutes on two cores) and writes it.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import torch

from memviz.demos import scenes
from memviz.demos.kept import Kept, folder_to_prepare
from memviz.probes.deja_vu.ablation import (
    Retrieval,
    beyond_held_out,
    effect_scores,
    gap_curve,
    unit_effects,
    unit_layers,
)
from memviz.scores import Scores
from memviz.tensor_files import digest
from memviz.units import Unit

COUNTS = (0, 4, 8, 16, 32, 64, 128, 256)
FEW = (0, 1, 2, 4)  # of a ranking that heads lead: without all of them no caption differs
_PART = "effects"


def known_effects(retrieval: Retrieval, seed: int) -> Scores | None:
    """The kept sweep of a seed, or None where there is none for these weights and settings.

    Examples
    --------
    >>> known_effects(scenes.retrieval(), seed=0).name
    'effect on AUCG'
    """
    if seed not in scenes.SHIPPED_SEEDS:
        return None
    found = _kept(retrieval, seed).read(_PART)
    assert found is not None
    values, null = (found[name].double().numpy() for name in ("values", "null"))
    return effect_scores(_units(retrieval), values, null)


def write_effects(retrieval: Retrieval, seed: int, scores: Scores) -> None:
    """Keep a sweep over all units with the package, or else in the cache."""
    assert scores.null is not None
    state = {"values": torch.tensor(scores.values), "null": torch.tensor(scores.null.values[0])}
    single = {name: tensor.float() for name, tensor in state.items()}
    _kept(retrieval, seed).write(_PART, single, folder_to_prepare())


def _units(retrieval: Retrieval) -> list[Unit]:
    return [unit for layer in unit_layers(retrieval) for unit in layer.all()]


def _kept(retrieval: Retrieval, seed: int) -> Kept:
    facts = {"recipe": scenes.RECIPE, "seed": str(seed), "k": str(retrieval.k)}
    facts |= {"top": str(retrieval.top), "weights": digest(retrieval.target.model.state_dict(), {})}
    return Kept(f"scenes-seed{seed}", facts, seed in scenes.SHIPPED_SEEDS)


def main(arguments: list[str]) -> None:
    """Print the curves; sweep again first if asked to."""
    retrieval = scenes.retrieval()
    if arguments == ["sweep"]:
        write_effects(retrieval, 0, unit_effects(retrieval))
    scores = known_effects(retrieval, 0)
    assert scores is not None
    print(scores)
    print(gap_curve(retrieval, scores, FEW))
    beyond = beyond_held_out(scores)
    for parts in ((".mlp", "conv1"), (".mlp",)):
        print(gap_curve(retrieval, _of_layers(beyond, *parts), COUNTS))


def _of_layers(scores: Scores, *parts: str) -> Scores:
    """Ranked among the units of some layers alone."""
    mine = [any(part in unit.layer for part in parts) for unit in scores.units or ()]
    name = f"{scores.name}; layers with {' or '.join(parts)}"
    return replace(scores, name=name, values=np.where(mine, scores.values, np.nan))


if __name__ == "__main__":
    main(sys.argv[1:])
