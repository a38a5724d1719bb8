"""What a generative model makes of one image, with units ablated."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor

from memviz.engine.sets import ablate
from memviz.study import Study, private
from memviz.units import UnitSet


def can_reconstruct(study: Study) -> bool:
    """Whether the study's model has ``reconstruct``, which takes what its forward takes."""
    return callable(getattr(study.model, "reconstruct", None))


def original(study: Study, example: int) -> Tensor:
    """The image of an example: its input, or the first of several; on the CPU."""
    given = study.inputs
    tensor = next(iter(given.values())) if isinstance(given, Mapping) else given
    return tensor[example].cpu()


def with_weights(study: Study, weights: Mapping[str, Tensor]) -> Study:
    """The study with a model of its own that has these weights."""
    own = copy.copy(study)
    own.model = copy.deepcopy(private(study).model)
    own.model.load_state_dict(weights)
    return own


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


def squared_error(one: Tensor, other: Tensor) -> float:
    """Sum of the squared differences of two images."""
    return float((one.double() - other.double()).square().sum())
