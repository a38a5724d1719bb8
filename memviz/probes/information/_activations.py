"""Inputs of the information measures: activations, and randomly initialized networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from memviz.checks import IndicesLike, checked, quoted
from memviz.engine.activations import UnitActivations
from memviz.engine.record import Located, Site
from memviz.study import Study, check_examples
from memviz.training.random_network import (
    random_network,
    with_batch_norm_of,
    without_initializer,
)
from memviz.units import Layer, Unit

Where = Literal["after", "before"]
WHERE = {
    "after": "after norm and non-linearity",
    "before": "before norm and non-linearity",
}


@dataclass(frozen=True, eq=False)
class UnitValues:
    """Activations of units on examples; those of a conv unit are averaged over positions.

    Attributes
    ----------
    layers : tuple of Layer
    units : tuple of Unit
    values : float32 or float64 ``[examples, units]``
    where : {"after", "before"}
    """

    layers: tuple[Layer, ...]
    units: tuple[Unit, ...]
    values: Tensor
    where: Where

    @property
    def names(self) -> list[str]:
        """Name of each unit's layer."""
        return [unit.layer for unit in self.units]


class _LayerOutputs(UnitActivations):
    """Activations as the layers themselves return them, where filter ablation acts."""

    def _chosen(self, names: Sequence[str] | None) -> list[Located]:
        return [
            replace(located, layer=replace(located.layer, site=located.layer.site.split(" > ")[0]))
            for located in super()._chosen(names)
        ]

    def _read_at(self, located: Located) -> tuple[Site, ...]:
        return located.filter_sites


@checked
def unit_values(
    study: Study,
    layers: Sequence[str] | None = None,
    examples: IndicesLike | None = None,
    where: Where = "after",
    *,
    progress: bool = True,
) -> UnitValues:
    """Activations of every unit of the chosen layers; labels are not used.

    Parameters
    ----------
    study : Study
    layers : sequence of str, optional
        Layers with units; by default all except the output layer.
    examples : int64 ``[n]``, optional
        All by default.
    where : {"after", "before"}
        After the layer's norm and non-linearity, where ablation acts, or before them.
    progress : bool

    Raises
    ------
    KeyError
        If the study has no such layer.
    ValueError
        If ``where`` is unknown, an activation is NaN or infinite, the forward pass is random, or an
        example is named twice.

    Examples
    --------
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    >>> study = Study(model.eval(), torch.randn(6, 4), torch.zeros(6), {"all": range(6)})
    >>> unit_values(study).values.shape
    torch.Size([6, 8])
    """
    if where not in WHERE:
        raise ValueError(f"where is {quoted(where)}; use 'after' or 'before'.")
    reader = UnitActivations if where == "after" else _LayerOutputs
    stream = reader(study, layers, examples=examples)
    values = torch.empty(len(stream.examples), len(stream.units), dtype=stream.dtype)

    def read() -> None:
        nonlocal values
        for positions, part in stream.chunks(progress=progress):
            values = values.to(part.dtype)  # float64 activations stay float64
            values[positions] = part

    stream.guard(read)
    return UnitValues(stream.layers, stream.units, values, where)


def random_study(
    study: Study,
    examples: IndicesLike | None,
    seed: int,
    initial: Callable[[int], nn.Module] | None = None,
) -> Study:
    """The study with a randomly initialized network; its own model remains unchanged.

    Batch norm is measured on the examples: at mean 0 and variance 1 the units of a random network
    would hardly vary, which is no null.

    Parameters
    ----------
    study : Study
    examples : int64 ``[n]`` or None
        All of the study, if None.
    seed : int
    initial : callable, optional
        ``seed -> model`` in eval mode; by default a copy of the study's model in which every module
        is reinitialized (``reset_parameters``).

    Raises
    ------
    ValueError
        If a module has parameters and no ``reset_parameters``, and ``initial`` is not given; or
        batch norm cannot be measured.
    """
    members = check_examples(study, examples)
    if initial is not None:
        model = with_batch_norm_of(initial(seed), study, members, seed)
    elif names := without_initializer(study.model):
        raise ValueError(
            f"module {names[0]!r} has no reset_parameters, so there is no random "
            "network to compare with; give initial=, a function from a seed to such a "
            "network, or null_draws=0."
        )
    else:
        model = random_network(study, members, seed)
    return replace(study, model=model)
