"""What Captum needs of a model, for attributions and for localizers."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from memviz.engine.record import layers as layers_of
from memviz.restored import buffers_kept
from memviz.study import Study
from memviz.units import Layer, UnknownLayerError

_MATH = SDPBackend.MATH
_ONE_AT_A_TIME = threading.RLock()


def captum_layers(study: Study, names: Sequence[str] | None = None) -> list[Layer]:
    """The named layers; by default all except the output layer and attention heads.

    Raises
    ------
    UnknownLayerError
        If the study has no such layer.
    ValueError
        If no layer is named, one twice, or a layer's units are not a module's output.

    Examples
    --------
    >>> import torch
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    >>> study = Study(model, torch.ones(2, 4), torch.zeros(2), {"test": range(2)})
    >>> [layer.name for layer in captum_layers(study)]
    ['0']
    """
    known = {layer.name: layer for layer in layers_of(study)}
    chosen = list(names) if names is not None else [
        la.name for la in known.values() if not la.is_output and _is_read(la)
    ]  # fmt: skip
    if not chosen:
        raise ValueError(
            "layers is empty; name at least one, or leave it out for all."
            if names is not None
            else "the model has no convolution or linear layer before its output layer, and none "
            "that declares its units."
        )
    for place, name in enumerate(chosen):
        if name not in known:
            raise UnknownLayerError(name, known)
        if known[name].kind == "heads":
            raise ValueError(
                f"layer {name!r} has attention heads, which Captum cannot attribute to; "
                "use sweep() or estimate()."
            )
        if not _is_read(known[name]):
            raise ValueError(
                f"the units of layer {name!r} ({known[name].kind}) are not a module's output, "
                "which Captum reads; use sweep() or estimate()."
            )
        if name in chosen[:place]:
            raise ValueError(f"layers names {name!r} twice; name each layer once.")
    return [known[name] for name in chosen]


def unit_axes(layer: Layer, dim: int) -> range:
    """The axis, or the neighbouring axes, of a layer's output that its units lie on.

    Examples
    --------
    >>> unit_axes(Layer("conv", "conv", 2, "conv2d"), 4)
    range(1, 2)
    >>> unit_axes(Layer("fc", "linear", 2, "linear"), 3)
    range(2, 3)
    >>> unit_axes(Layer("cells", "grid", 6, "output of Grid", axes=(-2, -1)), 3)
    range(1, 3)
    """
    if layer.axes:
        return range(layer.axes[0] % dim, layer.axes[-1] % dim + 1)
    first = 1 if layer.kind == "conv" else dim - 1
    return range(first, first + 1)


def by_unit(values: Tensor, layer: Layer) -> Tensor:
    """Values of a layer's output ``[n, ...]``, summed over a unit's positions: ``[n, units]``.

    Examples
    --------
    >>> import torch
    >>> by_unit(torch.ones(6, 2, 3, 3), Layer("conv", "conv", 2, "conv2d"))[0]
    tensor([9., 9.], dtype=torch.float64)
    >>> by_unit(torch.ones(6, 5, 2), Layer("fc", "linear", 2, "linear"))[0]
    tensor([5., 5.], dtype=torch.float64)
    """
    rows = units_first(values.detach().double().cpu(), layer)
    return rows.reshape(len(rows), layer.units, -1).sum(2)


def units_first(values: Tensor, layer: Layer) -> Tensor:
    """Values of a layer's output ``[n, ...]`` as ``[n, units, positions...]``.

    Examples
    --------
    >>> import torch
    >>> units_first(torch.ones(6, 5, 2), Layer("fc", "linear", 2, "linear")).shape
    torch.Size([6, 2, 5])
    """
    axes = unit_axes(layer, values.dim())
    return values.flatten(axes.start, axes.stop - 1).movedim(axes.start, 1)


def check_guided(model: nn.Module) -> None:
    """Refuse guided backpropagation where it would be the plain gradient.

    Raises
    ------
    ValueError
        If the model has no ``nn.ReLU`` module, the only place where it changes gradients.

    Examples
    --------
    >>> check_guided(nn.Sequential(nn.Linear(4, 3), nn.ReLU()))
    """
    if not any(isinstance(module, nn.ReLU) for module in model.modules()):
        raise ValueError(
            "guided backpropagation changes the gradient at nn.ReLU modules, and the model has "
            'none; use "saliency" or "gradient".'
        )


@contextmanager
def ready_for_captum(model: nn.Module) -> Iterator[None]:
    """Meanwhile no layer works in place; afterwards buffers and flags are restored.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(inplace=True))
    >>> with ready_for_captum(model):
    ...     print(model[1].inplace)
    False
    >>> model[1].inplace
    True
    """
    # An in-place activation would overwrite the very output that Captum reads.
    changed = [m for m in model.modules() if getattr(m, "inplace", False) is True]
    for module in changed:
        setattr(module, "inplace", False)  # noqa: B010
    try:
        # Fused attention has no second derivative, which conductance takes. The switch is the
        # whole process's: of two threads at once, one would restore what the other had set.
        kept = buffers_kept(model)
        with _ONE_AT_A_TIME, kept, kept, warnings.catch_warnings(), sdpa_kernel(_MATH):
            # Captum warns at each call about hooks that it removes itself.
            warnings.filterwarnings("ignore", message="Setting .*backward hooks")
            yield
    finally:
        for module in changed:
            setattr(module, "inplace", True)  # noqa: B010 - torch types attributes as modules


def explained(explainer: Any, given: tuple[Tensor, ...], **options: Any) -> Tensor:
    """What a Captum explainer attributes, as one tensor."""
    values, *others = given
    if others:
        options["additional_forward_args"] = tuple(others)
    attributions = explainer.attribute(values, **options)
    single: Tensor = attributions[0] if isinstance(attributions, tuple) else attributions
    return single.detach()


def _is_read(layer: Layer) -> bool:
    """Whether a layer's units are a module's output, example by example."""
    return layer.is_plain or (bool(layer.axes) and 0 not in layer.axes)
