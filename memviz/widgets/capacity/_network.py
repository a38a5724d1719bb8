"""The network of some settings as a study, and the function along a line through its points."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from memviz.engine.sets import ablate
from memviz.models.memorizers import Memorizer, construct_memorizer
from memviz.study import Study
from memviz.tasks import Binary, Classification
from memviz.units import Unit, UnitSet

from ._points import Points
from ._settings import METHODS, Settings

_STEPS = 1600  # places along the line, about
_BATCH = 512


@dataclass(frozen=True, eq=False)
class Network:
    """A memorizer in one precision.

    Attributes
    ----------
    settings : Settings
    points : Points
    memorizer : Memorizer
    study : Study
        Of its points, with the groups "up" and "down".
    path : float64 ``[k, d]``
        From point to point, in the order of their places.
    along : float64 ``[k]``
        The place of each of these, ``u · x``.
    places : float64 ``[n]``
        Of the points.
    """

    settings: Settings
    points: Points
    memorizer: Memorizer
    study: Study
    path: Tensor
    along: Tensor
    places: Tensor

    def said(self, rows: Tensor, units: UnitSet | None = None) -> Tensor:
        """What the network says, above 0 for +, with these units ablated, ``[k]``."""
        if not units:
            return says(self.study.model, rows)
        with ablate(self.study, units, "zero") as model:
            return says(model, rows)

    def units_of(self, owner: int) -> UnitSet:
        """The units that make up an owner."""
        memorizer = self.memorizer
        return UnitSet([Unit(memorizer.owner_layer, unit) for unit in memorizer.units_of(owner)])

    def units_of_group(self, group: int) -> UnitSet:
        """The units of the first layer that are linear at a group's points, of Yun et al."""
        first = self.memorizer.model.get_submodule("layer1")
        assert isinstance(first, nn.Linear)
        # Of ReLUs, all that rise stand before all that fall.
        return UnitSet({"layer1": range(group, first.out_features, self.memorizer.widths[0])})


def says(model: nn.Module, rows: Tensor) -> Tensor:
    """The value for +, or of two logits that of + minus that of -, float64 ``[k]``."""
    dtype = next(model.parameters()).dtype
    with torch.no_grad():
        parts = [model(part.to(dtype)).double() for part in rows.split(_BATCH)]
    outputs = torch.cat(parts)
    return outputs[:, 0] if outputs.shape[1] == 1 else outputs[:, 1] - outputs[:, 0]


def built(points: Points, method: str, settings: Settings) -> Memorizer:
    """The memorizer of a method.

    Raises
    ------
    ValueError
        If the points don't fit it.
    """
    kind, activation, _ = METHODS[method]
    values = (points.signs > 0).long() if kind == "yun4" else points.signs
    widths = settings.widths if kind in ("yun", "yun4") else None
    return construct_memorizer(
        points.inputs, values, widths, method=kind, activation=activation, seed=settings.seed
    )


def network(points: Points, settings: Settings) -> Network:
    """The network of the settings, ready to be ablated."""
    memorizer = built(points, settings.method, settings)
    dtype = torch.float32 if settings.precision == "float32" else torch.float64
    up = points.signs > 0
    study = Study(
        deepcopy(memorizer.model).to(dtype),
        points.inputs.to(dtype),
        up.long(),
        {"points": torch.ones(len(up), dtype=torch.bool)},
        task=Classification() if settings.method == "yun4" else Binary(),
        name="capacity",
        summary="",
    )
    line = _line(points, settings)
    places = points.inputs @ line
    path, along = _path(points.inputs, places, line)
    return Network(settings, points, memorizer, study, path, along, places)


def _line(points: Points, settings: Settings) -> Tensor:
    """The direction that the constructions project on: that of Zhang et al. at this seed."""
    first = construct_memorizer(
        points.inputs, points.signs, method="zhang", seed=settings.seed
    ).model[0]
    assert isinstance(first, nn.Linear)
    return first.weight[0].detach()


def _path(inputs: Tensor, places: Tensor, line: Tensor) -> tuple[Tensor, Tensor]:
    """Straight from each point to the next, and a little beyond the ends along the line."""
    order = places.argsort()
    margin = (places.max() - places.min()).clamp_min(1e-9) * 0.04
    ends = inputs[order[0]] - margin * line, inputs[order[-1]] + margin * line
    stops = torch.cat([ends[0][None], inputs[order], ends[1][None]])
    steps = max(4, _STEPS // len(inputs))
    share = torch.linspace(0, 1, steps + 1, dtype=torch.float64)[:-1, None]
    parts = [a + share * (b - a) for a, b in pairwise(stops)]
    path = torch.cat([*parts, stops[-1:]])
    return path, path @ line
