"""Units that a model does not have, and why."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from memviz.checks import coded
from memviz.units import UnitSet, UnitsLike, check_units, declared_units

from .._trace import Trace
from ._flow import Flow
from ._heads import stated_heads
from ._site import Located
from ._weights import is_layer, weight_layers


def check_located(
    model: nn.Module, trace: Trace, located: Mapping[str, Located], units: UnitsLike
) -> UnitSet:
    """The units as a set, once every one of them is known to have its place in the forward pass.

    Raises
    ------
    ValueError
        If a module has no units; the message says why.
    KeyError, IndexError
        If there is no such layer or unit.
    """
    chosen = UnitSet.of(units)
    modules = dict(model.named_modules())
    for name in chosen.layers:
        if name in modules and name not in located:
            kind = type(modules[name]).__name__
            why = _why(model, trace, located, name)
            raise ValueError(coded("E11", f"layer {name!r} ({kind}) {why}."))
    return check_units(chosen, [place.layer for place in located.values()])


def has_inner_layers(module: nn.Module) -> bool:
    """Whether a module may hold layers that are no modules: recurrent ones, or experts."""
    is_recurrent = isinstance(module, nn.RNNBase)
    return is_recurrent or any(p.dim() == 3 for p in module.parameters(recurse=False))


def _why(model: nn.Module, trace: Trace, located: Mapping[str, Located], name: str) -> str:
    module = model.get_submodule(name)
    if declared_units(module) is not None:
        return "declares units and is never reached in the forward pass"
    inner = [n for n, p in located.items() if p.layer.kind in ("recurrent", "experts")]
    inner = [n for n in inner if n.rpartition(".")[0] == name]
    if inner:
        listed = f"{inner[0]!r} to {inner[-1]!r}"
        return f"has several layers of units; name one of them, {listed}"
    around = [name[:k] for k, letter in enumerate(name) if letter == "."]
    for outer in [*around, name]:
        if isinstance(model.get_submodule(outer), torch.jit.ScriptModule):
            return (
                "is compiled by TorchScript, which memviz can't look into; use the model as it was "
                "before torch.jit.script or torch.jit.trace"
            )
    reasons = weight_layers(Flow(model, trace))[1]
    if name in reasons:
        return f"{reasons[name]}, so it has no units"
    if is_layer(module):
        return "is never reached as a layer in the forward pass"
    if has_inner_layers(module) and not isinstance(module, nn.RNNBase):
        return (
            "has no units that can be told apart; if it holds the experts of a Hugging Face model, "
            "set model.config._experts_implementation to 'grouped_mm'"
        )
    if stated_heads(module) is not None and next(module.parameters(), None) is not None:
        return (
            "has no heads that lie side by side before an output projection; name a conv or linear "
            "layer inside it"
        )
    return (
        "has no units of its own; name a conv, linear, attention or recurrent layer, or let the "
        "module declare its units (memviz.units.DeclaredUnits)"
    )
