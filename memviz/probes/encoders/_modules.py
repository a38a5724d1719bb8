"""The modules that make up a layer: its own, and the norms before its non-linearity."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from memviz.checks import checked
from memviz.engine.record import NORMALIZATIONS, Located, Trace, locate, trace
from memviz.study import twin
from memviz.tasks.task import Inputs
from memviz.units import UnknownLayerError

from ._encoded import called


@checked
def layer_modules(model: nn.Module, inputs: Inputs, layer: str) -> list[nn.Module]:
    """The layer's module, and the norms that follow it before its non-linearity.

    Parameters
    ----------
    inputs : Tensor or dict of Tensors
        A small batch to run the model on.
    layer : str
        Name of a convolution, linear layer or attention.

    Raises
    ------
    KeyError
        If the model has no such layer.
    ValueError
        If the model fails on these inputs.

    Examples
    --------
    >>> import torch
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)).eval()
    >>> [type(module).__name__ for module in layer_modules(model, torch.ones(2, 4), "0")]
    ['Linear', 'BatchNorm1d']
    """
    own = twin(model)
    seen = trace(own, lambda: called(own, inputs, "inputs"))
    located = locate(own, seen)
    if layer not in located:
        raise UnknownLayerError(layer, located)
    names = {id(module): name for name, module in own.named_modules()}
    norms = [names[id(norm)] for norm in norms_behind(own, seen, located[layer])]
    return [model.get_submodule(name) for name in (layer, *norms)]


def norms_behind(model: nn.Module, seen: Trace, located: Located) -> list[nn.Module]:
    """The norm modules between a layer's weights and its non-linearity."""
    first, last = located.filter_sites[0].call, located.unit_sites[0].call
    between = [
        call
        for call in seen.calls[first + 1 : last + 1]
        if call.name in NORMALIZATIONS and call.name in located.layer.site.split(" > ")
    ]
    owners = {
        id(tensor): module
        for module in model.modules()
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False))
    }
    norms = [owners.get(id(tensor)) for call in between for tensor in call.inputs[1:]]
    return list(dict.fromkeys(module for module in norms if module is not None))


def check_unshared(model: nn.Module, modules: Sequence[nn.Module]) -> None:
    """Refuse modules that share weights with others of the model, which would change with them.

    Raises
    ------
    ValueError
        Naming a weight outside that is shared.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    >>> model[1].weight = model[0].weight
    >>> check_unshared(model, [model[0]])
    Traceback (most recent call last):
    ValueError: '1.weight' is also a weight of a chosen layer and would change with it; ...
    """
    inside = {id(part) for module in modules for part in module.modules()}
    owned = {id(weight) for module in modules for weight in module.parameters()}
    for name, module in model.named_modules():
        for key, weight in module.named_parameters(recurse=False):
            if id(weight) in owned and id(module) not in inside:
                raise ValueError(
                    f"'{name}.{key}' is also a weight of a chosen layer and would change with it; "
                    "choose both layers, or a model whose layers share no weights."
                )
