"""Layers whose units are features of their own weight, and which tensors are such weights."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ._watched import Watched

Layers = tuple[nn.Module, ...]


def is_layer(module: nn.Module) -> bool:
    """Whether units are features of the module's own weight: a convolution or a linear layer."""
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
        self._known: Watched[Layers] = Watched()

    def add(self, model: nn.Module) -> None:
        """Learn a model's weights and buffers."""
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor not in self._known:
                self._known.put(tensor, ())
        for module in model.modules():
            for weight in weights(module) if is_layer(module) else ():
                known = self._known.get(weight) or ()
                if module not in known:
                    self._known.put(weight, (*known, module))

    def of(self, tensors: list[Tensor]) -> Layers:
        """The layers that the first weight among the tensors belongs to."""
        return next((layers for t in tensors if (layers := self._known.get(t))), ())

    def are_fixed(self, tensors: list[Tensor]) -> bool:
        """Whether no activation is among the tensors."""
        return all(tensor in self._known for tensor in tensors)

    def put(self, tensors: list[Tensor], layers: Layers) -> None:
        """Learn tensors that are made from weights alone."""
        for tensor in tensors:
            self._known.put(tensor, layers)

    def weight(self, tensors: list[Tensor], layer: nn.Module) -> Tensor:
        """The first of the tensors that is a weight of a layer."""
        return next(t for t in tensors if layer in (self._known.get(t) or ()))

    def take(self, tensors: list[Tensor]) -> list[tuple[Tensor, Layers]]:
        """Forget tensors for a while; what was known of them, for ``put``."""
        taken = []
        for tensor in tensors:
            layers = self._known.get(tensor)
            if layers is not None:
                taken.append((tensor, layers))
                self._known.pop(tensor)
        return taken

    def sharing(self, layer: nn.Module) -> list[nn.Module]:
        """Other layers with the same weight."""
        if not is_layer(layer):
            return []
        others = [other for weight in weights(layer) for other in self._known.get(weight) or ()]
        return [other for other in others if other is not layer]
