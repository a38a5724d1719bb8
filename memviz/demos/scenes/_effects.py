"""Exact effect of each unit of the scenes' target on the recall gap: swept once and stored."""

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
    """The stored sweep of a seed; None for seeds that do not ship.

    Examples
    --------
    >>> from memviz.demos.scenes import retrieval
    >>> known_effects(retrieval(), seed=0).name
    'effect on AUCG'
    """
    if seed not in SHIPPED_SEEDS:
        return None
    tables = _kept(retrieval, seed).read(_PART)
    assert tables is not None
    values, null = (tables[name].double().numpy() for name in ("values", "null"))
    return effect_scores(_units(retrieval), values, null)


def write_effects(retrieval: Retrieval, seed: int, scores: Scores) -> None:
    """Store a sweep over all units in the package, or in the cache folder if that is read-only."""
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
