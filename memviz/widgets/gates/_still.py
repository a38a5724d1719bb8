"""The gate map as a still picture, for notebooks without a kernel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from memviz.engine.circuits import CircuitReading, CircuitStudy, GroupVotes
from memviz.units import Layer
from memviz.widgets.workbench import picture

from ._words import sentence

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class _BeforeAfter:
    before: GroupVotes
    after: GroupVotes


@dataclass(frozen=True)
class _Readout:
    """What the workbench's picture reads."""

    sentence: str
    groups: Mapping[str, _BeforeAfter]
    random: Mapping[str, np.ndarray]


def still(
    circuits: CircuitStudy,
    values: np.ndarray,
    now: CircuitReading,
    random: Mapping[str, np.ndarray],
) -> Figure:
    """The gates by their score, × where they are set, over each group's accuracy.

    Parameters
    ----------
    circuits : CircuitStudy
    values : float ``[gates]``
        NaN where a gate has no score, as dead ones.
    now : CircuitReading
    random : dict of group to ``[draws, 2]``
        Accuracy and vote margin with random gates.
    """
    layers = [
        Layer(layer.title, "gates", layer.gates, "gates") for layer in circuits.circuit.layers
    ]
    off = np.zeros(len(values), bool)
    off[list(now.settings)] = True
    groups = {
        name: _BeforeAfter(circuits.before.groups[name], after)
        for name, after in now.groups.items()
    }
    return picture(layers, values, off, _Readout(sentence(circuits, now), groups, random))
