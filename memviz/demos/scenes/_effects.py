"""What each unit of the scenes' target holds of the recall gap: swept once and kept.

``python -m memviz.demos.scenes.effects`` prints the ablation curves of seed 0: PPG, AUCG, utility
as the highest units go, by the exact sweep and at random. ``... sweep`` makes the sweep again
(minutes on two cores) and writes it.
"""

from __future__ import annotations

import torch

from memviz.probes.deja_vu.ablation import Retrieval, effect_scores, unit_layers
from memviz.scores import Scores
from memviz.tensor_files import digest
from memviz.units import Unit

from .._kept import Kept, folder_to_prepare
from ._recipe import RECIPE, SHIPPED_SEEDS

_PART = "effects"


def known_effects(retrieval: Retrieval, seed: int) -> Scores | None:
    """The kept sweep of a seed, or None where there is none for these weights and settings.

    Examples
    --------
    >>> from memviz.demos.scenes import retrieval
    >>> known_effects(retrieval(), seed=0).name
    'effect on AUCG'
    """
    if seed not in SHIPPED_SEEDS:
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
    facts = {"recipe": RECIPE, "seed": str(seed), "k": str(retrieval.k)}
    facts |= {"top": str(retrieval.top), "weights": digest(retrieval.target.model.state_dict(), {})}
    return Kept(f"scenes-seed{seed}", facts, seed in SHIPPED_SEEDS)
