"""Layers whose units are features of their own weight, and which tensors are such weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from memviz.engine.record import (
    is_copy,
    is_own_map,
    map_arguments,
    tensors_in,
    turned_by,
)
from memviz.restored import version
from memviz.units import declared_units

from ._watched import Watched

Layers = tuple[nn.Module, ...]
# These look a weight's rows up; they are no layer's call, though a layer may share the weight.
_LOOKUPS = frozenset(["embedding", "embedding_bag", "__getitem__", "index_select", "gather"])
# Products that may be a layer's own activation, in a form of which memviz cannot tell.
_PRODUCTS = frozenset(
    [
        *("einsum", "tensordot", "inner", "dot", "mv", "bmm", "baddbmm", "addbmm", "bilinear"),
        *("addmv", "linear", "addmm", "mm", "matmul", "__matmul__", "__rmatmul__"),
        "multi_head_attention_forward",
    ]
)
_SHARED = (
    "a weight that {names} share is used outside of these layers, so it cannot be told whose units "
    "these are; ablate the units in a model where the layers have weights of their own."
)
_OTHER_USE = (
    "the weight of {name!r} is used outside of the layer, by {function} and in a way of its own, "
    "so it cannot be told whether that makes the layer's units; ablate units of another layer."
)


def is_layer(module: nn.Module) -> bool:
    """Whether units are features of the module's own weight: a convolution or a linear layer."""
    if declared_units(module) is not None:
        return False
    return isinstance(module, nn.modules.conv._ConvNd | nn.Linear) or (
        type(module).__name__ == "Conv1D" and hasattr(module, "nf")
    )


def unit_axis(module: nn.Module) -> tuple[int, int]:
    """The axis of a layer's units, counted from the end, and their number.

    Examples
    --------
    >>> unit_axis(nn.Conv2d(3, 6, 3)), unit_axis(nn.Linear(4, 5))
    ((-3, 6), (-1, 5))
    """
    if isinstance(module, nn.modules.conv._ConvNd):
        return -1 - len(module.kernel_size), module.out_channels
    units = getattr(module, "out_features", None)
    return -1, int(units if units is not None else module.nf)  # type: ignore[arg-type]


def has_units(module: nn.Module, value: Tensor) -> bool:
    """Whether a value may be a layer's activation: it has the layer's units on their axis.

    Examples
    --------
    >>> import torch
    >>> has_units(nn.Linear(4, 5), torch.zeros(2, 5)), has_units(nn.Linear(4, 5), torch.zeros(5, 2))
    (True, False)
    """
    axis, units = unit_axis(module)
    return -axis <= value.dim() and value.shape[axis] == units


def weights(module: nn.Module) -> list[Tensor]:
    """The parameters that a layer's units have, all but its bias."""
    return [
        parameter
        for label, parameter in module.named_parameters()
        if not label.split(".")[-1].startswith("bias") and "parametrizations.bias" not in label
    ]


def weight_axis(name: str, weight: Tensor, units: int, groups: int) -> int | None:
    """The axis of a weight along which a layer's units are, in a call of a function.

    Examples
    --------
    >>> weight_axis("linear", nn.Linear(4, 5).weight, 5, 1)
    0
    """
    transposed = name.startswith("conv_transpose")
    if name == "linear" or (name.startswith("conv") and not transposed):
        axis = 0
    elif transposed and groups == 1:
        axis = 1
    elif name in ("addmm", "matmul", "mm", "__matmul__"):
        axis = weight.dim() - 1
    else:
        return None
    return axis if weight.shape[axis] == units else None


_NAMES = {"linear": ("input", "weight", "bias"), "addmm": ("input", "mat1", "mat2")}


def argument(func: Any, args: Any, kwargs: Any, place: int) -> Any:
    """An argument of a call, whether it is given by its place or by its name."""
    if place < len(args):
        return args[place]
    return kwargs[_NAMES[func.__name__][place]]


def versions(tensors: list[Tensor]) -> list[int]:
    """In-place changes of each tensor so far."""
    with torch._C.DisableTorchFunction():  # this look is no call of the model
        return [version(tensor) for tensor in tensors]


class Running:
    """A layer whose own forward runs, and what it has made so far.

    Attributes
    ----------
    layer : nn.Module
    met : int
        In how many calls its weights met an activation.
    made : Watched
        By which function a tensor was made, and whether it is that of the first such call, at most
        copied.
    """

    def __init__(self, layer: nn.Module) -> None:
        self.layer, self.met, self.function = layer, 0, ""
        self.made: Watched[tuple[str, bool]] = Watched()

    def meets(self, function: str) -> nn.Module:
        """Count a call in which the layer's weights meet an activation; the layer."""
        self.function = self.function or function
        self.met += 1
        return self.layer

    def sees(
        self, function: str, tensors: list[Tensor], before: list[int], output: Any, *, met: bool
    ) -> None:
        """Remember who made what; ``before`` are the tensors' versions before the call."""
        same = [k for k, tensor in enumerate(tensors) if tensor is output]
        in_place = function.endswith("_") and not function.startswith("__get")
        if not in_place and any(versions([output])[0] == before[k] for k in same):
            return  # dropout in eval mode returns its own input
        for made in tensors_in(output):
            known = self.made.get(tensors[0]) if tensors and not met else None
            copied = known is not None and known[1] and is_copy(function, tensors[0], made)
            self.made.put(made, (function, copied or (met and self.met == 1)))

    def start(self, output: Tensor) -> tuple[str, bool]:
        """The function that makes the layer's activation, and whether that has ended there."""
        function, is_first = self.made.get(output) or ("", False)
        if is_first and self.met == 1:
            return self.function, function != self.function
        return function, False


@dataclass(frozen=True)
class Origin:
    """The layers that a tensor is a weight of, and whether it lies transposed; None if unknown."""

    layers: Layers = ()
    turned: bool | None = None


class Owners:
    """Tensors that do not depend on a model's inputs, and the layers whose weight each one is.

    Examples
    --------
    >>> layer, owners = nn.Linear(4, 5), Owners()
    >>> owners.add(layer)
    >>> owners.of([layer.weight]) == (layer,), owners.of([layer.bias])
    (True, ())
    """

    def __init__(self) -> None:
        self._known: Watched[Origin] = Watched()

    def add(self, model: nn.Module) -> None:
        """Learn a model's weights and buffers."""
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor not in self._known:
                self._known.put(tensor, Origin())
        for module in model.modules():
            self._add_layer(module)

    def learn(self, layer: nn.Module) -> None:
        """Learn the weights that a layer is called with, such as ``functional_call`` gives it."""
        if not self.are_fixed(weights(layer)):
            self._add_layer(layer)

    def _add_layer(self, module: nn.Module) -> None:
        for weight in weights(module) if is_layer(module) else ():
            known = self._known.get(weight) or Origin()
            if module not in known.layers:
                is_whole = weight is module._parameters.get("weight")
                turned = hasattr(module, "nf") if is_whole else None
                agreed = not known.layers or known.turned == turned
                layers = (*known.layers, module)
                self._known.put(weight, Origin(layers, turned if agreed else None))

    def of(self, tensors: list[Tensor]) -> Layers:
        """The layers that weights among the tensors belong to."""
        origins = [origin for tensor in tensors if (origin := self._known.get(tensor))]
        return tuple(dict.fromkeys(layer for origin in origins for layer in origin.layers))

    def by_function(
        self, func: Any, args: Any, kwargs: Any, tensors: list[Tensor], name: Callable[..., str]
    ) -> nn.Module | None:
        """The layer whose units a function makes that is given its weight outside of the layer.

        Raises
        ------
        RuntimeError
            If several layers share the weight, or it cannot be told whether these are its units.
        """
        function = getattr(func, "__name__", "")
        if function in _LOOKUPS:
            return None
        given = map_arguments(function, args, kwargs)
        weight, value = given.get("weight"), given.get("input")
        origin = self._known.get(weight) if isinstance(weight, Tensor) else None
        if origin is None or not origin.layers:
            if function in _PRODUCTS:
                layers = self.of(tensors)
                raise RuntimeError(_OTHER_USE.format(name=name(layers[0]), function=function))
            return None
        if isinstance(value, Tensor) and self.are_fixed([value]):
            return None
        layer = origin.layers[0]
        if origin.turned is None:
            assert isinstance(weight, Tensor)
            units = unit_axis(layer)[1]
            if weight_axis(function, weight, units, kwargs.get("groups", 1)) is None:
                return None
            raise RuntimeError(_OTHER_USE.format(name=name(layer), function=function))
        if not is_own_map(layer, function, turned=origin.turned):
            return None
        if len(origin.layers) > 1:
            raise RuntimeError(_SHARED.format(names=" and ".join(map(name, origin.layers))))
        return layer

    def are_fixed(self, tensors: list[Tensor]) -> bool:
        """Whether no activation is among the tensors."""
        return all(tensor in self._known for tensor in tensors)

    def derive(self, func: Any, tensors: list[Tensor], made: list[Tensor]) -> None:
        """Learn what a function has made of weights alone."""
        layers, turned = self.of(tensors), None
        if layers and len(tensors) == 1:
            before = self._known.get(tensors[0])
            if before is not None and before.turned is not None:
                turned = turned_by(func, tensors[0], turned=before.turned)
        for tensor in made:
            if not any(tensor is weight for weight in tensors):
                self._known.put(tensor, Origin(layers, turned))

    def weight(self, tensors: list[Tensor], layer: nn.Module) -> Tensor:
        """The first of the tensors that is a weight of a layer."""
        return next(tensor for tensor in tensors if layer in self.of([tensor]))

    def take(self, tensors: list[Tensor]) -> list[tuple[Tensor, Origin]]:
        """Forget tensors for a while; what was known of them, for ``give_back``."""
        taken = []
        for tensor in tensors:
            origin = self._known.get(tensor)
            if origin is not None:
                taken.append((tensor, origin))
                self._known.pop(tensor)
        return taken

    def give_back(self, taken: list[tuple[Tensor, Origin]]) -> None:
        """Know again what ``take`` has forgotten."""
        for tensor, origin in taken:
            self._known.put(tensor, origin)

    def sharing(self, layer: nn.Module) -> list[nn.Module]:
        """Other layers with the same weight."""
        if not is_layer(layer):
            return []
        return [other for other in self.of(weights(layer)) if other is not layer]
