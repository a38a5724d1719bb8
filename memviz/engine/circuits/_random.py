"""Random live gates of the same layers: the null of a set of gates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from zlib import crc32

import numpy as np
import torch

from memviz.models.logic_gates import Wiring
from memviz.statistics import generator_of


def has_random(circuit: Wiring, settings: Mapping[int, str]) -> bool:
    """Whether a layer of these gates has other live gates to draw; if not, there is no null."""
    return any(
        len(rows) < int(_live_of(circuit, place).sum())
        for place, rows in _by_layer(circuit, settings).items()
    )


def random_settings(
    circuit: Wiring,
    settings: Mapping[int, str],
    seed: int,
    better: Mapping[int, str] | None = None,
) -> dict[int, str]:
    """As many live gates of each layer, drawn at random, set to the same.

    Dead gates are never drawn: nothing reads them. A layer's draw depends on the seed and the layer
    alone, and a smaller one is part of a larger.

    Parameters
    ----------
    circuit : Wiring
    settings : mapping of row to setting
    seed : int
    better : mapping of row to setting, optional
        What each gate is set to instead, if it is drawn.

    Examples
    --------
    >>> from memviz.models.logic_gates import logic_dense_net
    >>> circuit = Wiring(logic_dense_net(4, [8, 6], 3).eval(), (4,))
    >>> list(random_settings(circuit, {9: "zero"}, seed=0).values())
    ['zero']
    """
    drawn: dict[int, str] = {}
    for place, rows in _by_layer(circuit, settings).items():
        layer = circuit.layers[place]
        live = layer.start + np.flatnonzero(_live_of(circuit, place))
        generator = generator_of(seed, crc32(layer.name.encode()))
        order = live[torch.randperm(len(live), generator=generator).numpy()]
        for row, chosen in zip(order.tolist(), rows, strict=False):
            drawn[row] = settings[chosen] if better is None else better[row]
    return drawn


def _by_layer(circuit: Wiring, settings: Mapping[int, str]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = defaultdict(list)
    for row in sorted(settings):
        found[circuit.place(row)[0]].append(row)
    return found


def _live_of(circuit: Wiring, place: int) -> np.ndarray:
    layer = circuit.layers[place]
    return circuit.live[layer.start : layer.start + layer.gates]
