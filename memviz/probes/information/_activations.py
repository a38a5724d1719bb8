"""What the measures of information are taken of: activations, and networks yet to be trained."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from memviz.engine.activations import UnitActivations
from memviz.engine.record import Located
from memviz.study import Study
from memviz.units import Layer, Unit

Where = Literal["after", "before"]
WHERE = {
    "after": "after norm and non-linearity",
    "before": "before norm and non-linearity",
}


@dataclass(frozen=True, eq=False)
class UnitValues:
    """The activation of units on examples; of a conv unit its mean over positions.

    Attributes
    ----------
    layers : tuple of Layer
    units : tuple of Unit
    values : float32 ``[examples, units]``
    where : {"after", "before"}
    """

    layers: tuple[Layer, ...]
    units: tuple[Unit, ...]
    values: Tensor
    where: Where

    @property
    def names(self) -> list[str]:
        """The layer of each unit."""
        return [unit.layer for unit in self.units]


class _LayerOutputs(UnitActivations):
    """Activations as the layers themselves give them, where filter ablation acts."""

    def _chosen(self, names: Sequence[str] | None) -> list[Located]:
        return [
            replace(
                one,
                layer=replace(one.layer, site=one.layer.site.split(" > ")[0]),
                unit_sites=one.filter_sites,
            )
            for one in super()._chosen(names)
        ]


def unit_values(
    study: Study,
    layers: Sequence[str] | None = None,
    examples: Tensor | None = None,
    where: Where = "after",
    *,
    progress: bool = True,
) -> UnitValues:
    """Activations of every unit of some layers; labels are not looked at.

    Parameters
    ----------
    study : Study
    layers : sequence of str, optional
        Layers with units, all but the output layer unless given.
    examples : int64 ``[n]``, optional
        All unless given.
    where : {"after", "before"}
        After the layer's norm and non-linearity, where ablation acts, or before them.
    progress : bool

    Raises
    ------
    KeyError
        If a layer is unknown.
    ValueError
        If ``where`` is unknown, or a unit gives NaN or infinity.

    Examples
    --------
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    >>> study = Study(model.eval(), torch.randn(6, 4), torch.zeros(6), {"all": range(6)})
    >>> unit_values(study).values.shape
    torch.Size([6, 8])
    """
    if where not in WHERE:
        raise ValueError(f"where is {where!r}; read activations 'after' or 'before'.")
    reader = UnitActivations if where == "after" else _LayerOutputs
    stream = reader(study, layers, examples=examples)
    values = torch.empty(len(stream.examples), len(stream.units))

    def read() -> None:
        for positions, part in stream.chunks(progress=progress):
            values[positions] = part

    stream.guard(read)
    bad = ~values.isfinite()
    if bool(bad.any()):
        row, column = bad.nonzero()[0].tolist()
        raise ValueError(
            f"unit {stream.units[column]} is NaN or infinite on example "
            f"{int(stream.examples[row])}; leave that example out, or look at the weights."
        )
    return UnitValues(stream.layers, stream.units, values, where)


def initialized(
    study: Study, seed: int, initial: Callable[[int], nn.Module] | None = None
) -> Study:
    """The study with a randomly initialized network; the study's own model stays as it is.

    Parameters
    ----------
    study : Study
    seed : int
    initial : callable, optional
        ``seed -> model`` in evaluation mode; unless given, a copy of the study's model in which
        every module has drawn its parameters anew (``reset_parameters``).

    Raises
    ------
    ValueError
        If a module has parameters and no ``reset_parameters``, and ``initial`` is not given.
    """
    if initial is not None:
        return replace(study, model=initial(seed))
    model = copy.deepcopy(study.model)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for name, module in model.named_modules():
            reset = getattr(module, "reset_parameters", getattr(module, "_reset_parameters", None))
            if callable(reset):
                reset()
            elif next(module.parameters(recurse=False), None) is not None:
                raise ValueError(
                    f"module {name or 'model'!r} does not say how its parameters are drawn, so "
                    "there is no random network to compare with; give initial=, a function from "
                    "a seed to such a network, or null_draws=0."
                )
    return replace(study, model=model)
