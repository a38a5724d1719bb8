"""Exact effect of each unit of the scenes' target on the recall gap: swept once and stored."""

from __future__ import annotations

import torch

from memviz.probes.deja_vu.ablation import GapEffects, Retrieval, effect_scores, unit_layers
from memviz.tensor_files import digest
from memviz.units import Unit

from .._kept import Kept, folder_to_prepare
from ._recipe import RECIPE, SHIPPED_SEEDS

HALF_SEED = 0  # draws the half of the pairs whose effects are stored as well
_PART = "effects"
_TABLES = ("values", "null", "half_values", "half_null")


def known_effects(retrieval: Retrieval, seed: int) -> GapEffects | None:
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
    known = {name: table.double().numpy() for name, table in tables.items()}
    half = known["half_values"], known["half_null"]
    return effect_scores(_units(retrieval), known["values"], known["null"], half, HALF_SEED)


def write_effects(retrieval: Retrieval, seed: int, scores: GapEffects) -> None:
    """Store a sweep over all units in the package, or in the cache folder if that is read-only."""
    half = scores.half
    assert scores.null is not None and half is not None and half.null is not None
    columns = (scores.values, scores.null.values[0], half.values, half.null.values[0])
    state = {name: torch.tensor(column) for name, column in zip(_TABLES, columns, strict=True)}
    single = {name: tensor.float() for name, tensor in state.items()}
    _kept(retrieval, seed).write(_PART, single, folder_to_prepare())


def _units(retrieval: Retrieval) -> list[Unit]:
    return [unit for layer in unit_layers(retrieval) for unit in layer.all()]


def _kept(retrieval: Retrieval, seed: int) -> Kept:
    facts = {"recipe": RECIPE, "seed": str(seed), "k": str(retrieval.k)}
    facts |= {"top": str(retrieval.top), "weights": digest(retrieval.target.model.state_dict(), {})}
    return Kept(f"scenes-seed{seed}", facts, seed in SHIPPED_SEEDS)
