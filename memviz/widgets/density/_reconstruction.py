"""What a generative model makes of one image, with units ablated."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from memviz.engine.sets import ablate, others_left, random_units
from memviz.study import Study, private
from memviz.units import Layer, UnitSet

from ._table import DensityTable

_RANDOM_DRAWS = 5


def can_reconstruct(study: Study) -> bool:
    """Whether the study's model has ``reconstruct``, which takes what its forward takes."""
    return callable(getattr(study.model, "reconstruct", None))


def original(study: Study, example: int) -> Tensor:
    """The image of an example: its input, or the first of several; on the CPU."""
    given = study.rows(torch.tensor([example]))
    tensor = next(iter(given.values())) if isinstance(given, Mapping) else given
    return tensor[0].cpu()


class Models:
    """The models of each learning rate and epoch whose weights were kept; one is held at a time.

    Parameters
    ----------
    table : DensityTable
    study : Study
    """

    def __init__(self, table: DensityTable, study: Study) -> None:
        self._table, self._study = table, study
        self._loaded: tuple[tuple[float, int], Study] | None = None

    def is_own(self, rate: float, epoch: int) -> bool:
        """Whether there are no such weights, or they are those of the study's own model."""
        own = self._table.of_model == (rate, epoch)
        return own or self._table.weights(rate, epoch) is None

    def at(self, rate: float, epoch: int, own: Study) -> Study:
        """The study with the model of then; ``own`` where there is none."""
        weights = self._table.weights(rate, epoch)
        if weights is None or self.is_own(rate, epoch):
            return own
        if self._loaded is None or self._loaded[0] != (rate, epoch):
            then = copy.copy(self._study)
            then.model = copy.deepcopy(private(self._study).model)
            then.model.load_state_dict(weights)
            self._loaded = (rate, epoch), then
        return self._loaded[1]


@dataclass
class Made:
    """The image, and what the model makes of it: ``before``, ``after`` and with ``random`` units.

    Attributes
    ----------
    pictures : dict of name to Tensor
        Of the random draws, the first.
    errors : dict of name to float
        Sum of the squared differences from the image; of the random draws, the mean.
    draws : int
        Of random units.
    tell : bool
        Whether it is worth showing: not between two draws.
    """

    pictures: dict[str, Tensor]
    errors: dict[str, float]
    draws: int = 0
    tell: bool = True


def reconstructions(
    study: Study, example: int, units: UnitSet, how: str, layers: Sequence[Layer]
) -> Iterator[Made]:
    """What the model makes of an example, then also with random units of the same layers off."""
    image = original(study, example)
    pictures = {"image": image, "before": reconstruction(study, example, UnitSet(), how)}
    if units:
        pictures["after"] = reconstruction(study, example, units, how)
    errors = {name: _error(image, made) for name, made in list(pictures.items())[1:]}
    yield Made(pictures, errors)
    if not units or not others_left(layers, units):
        return
    drawn: list[float] = []
    for draw in range(_RANDOM_DRAWS):
        random = reconstruction(study, example, random_units(layers, units, draw), how)
        drawn.append(_error(image, random))
        pictures = {"random": random} | pictures
        done = len(drawn) == _RANDOM_DRAWS
        yield Made(pictures, errors | {"random": sum(drawn) / len(drawn)}, len(drawn), done)


@torch.no_grad()
def reconstruction(study: Study, example: int, units: UnitSet, how: str) -> Tensor:
    """The example as the model reconstructs it with these units ablated, shaped like it.

    The study's own model is left alone: a private copy that shares its parameters is ablated.
    """
    own = private(study)
    batch = own.batch(torch.tensor([example]))
    with ablate(own, units, how) as model:
        reconstruct = cast(Callable[..., Any], model.reconstruct)
        made = reconstruct(**batch) if isinstance(batch, Mapping) else reconstruct(batch)
    return torch.as_tensor(made).reshape(original(study, example).shape).cpu()


def _error(one: Tensor, other: Tensor) -> float:
    return float((one.double() - other.double()).square().sum())
