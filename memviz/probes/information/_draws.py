"""Random draws for the measures of pairs: of each layer, and of each unit and example, alone."""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from memviz.units import Layer, Unit


def drawn_units(layers: Sequence[Layer], per_layer: int | None, seed: int) -> tuple[Tensor, str]:
    """Columns of the units to use, and the description of the sample.

    The units of a layer depend on the seed and its name alone.
    """
    total = sum(layer.units for layer in layers)
    if per_layer is None:
        return torch.arange(total), ""
    if per_layer < 1:
        raise ValueError(f"per_layer is {per_layer}; use at least 1 unit of each layer.")
    columns, start = [], 0
    for layer in layers:
        drawn = _generator(seed, layer.name).permutation(layer.units)[:per_layer]
        columns.append(start + torch.from_numpy(np.sort(drawn)))
        start += layer.units
    chosen = torch.cat(columns)
    words = f"{len(chosen)} of {total} units, at most {per_layer} of each layer at random"
    return chosen, f"{words} (seed {seed})"


def shuffled(
    values: Tensor, units: Sequence[Unit], examples: Tensor, total: int, seeds: tuple[int, ...]
) -> Tensor:
    """Values ``[examples, units]`` with those of each unit shuffled over the examples.

    Each example of the study, ``total`` in all, draws its place for each unit: which units and
    examples are asked, and in which order, does not matter.
    """
    columns = []
    for unit, column in zip(units, values.T, strict=True):
        places = _generator(*seeds, unit.layer, unit.index).random(total)[examples.numpy()]
        columns.append(column[torch.from_numpy(places.argsort(kind="stable"))])
    return torch.stack(columns, 1)


def _generator(*facts: int | str) -> np.random.Generator:
    numbers = [crc32(f.encode()) if isinstance(f, str) else f % 2**64 for f in facts]
    return np.random.default_rng(numbers)
