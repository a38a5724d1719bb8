"""Adapters between a study and Captum, for attributions and for localizers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from memviz.engine.record import buffers_kept
from memviz.engine.record import layers as layers_of
from memviz.study import Study
from memviz.units import Layer, UnknownLayerError


class Outputs(nn.Module):
    """The study's outputs as a module, since Captum hooks into modules."""

    def __init__(self, study: Study, model: nn.Module | None = None) -> None:
        super().__init__()
        self.model = study.model if model is None else model
        self.task = study.task

    def forward(self, inputs: Tensor) -> Tensor:
        """The outputs that the task reads from what the model returns."""
        return self.task.outputs(self.model(inputs))


def inputs_with_gradient(study: Study, examples: Tensor) -> Tensor:
    """A batch of the study, ready for Captum.

    Raises
    ------
    ValueError
        If the inputs are not a single floating-point tensor.

    Examples
    --------
    >>> study = Study(nn.Linear(4, 3).eval(), torch.ones(2, 4), torch.zeros(2), {"test": range(2)})
    >>> inputs_with_gradient(study, torch.tensor([0])).requires_grad
    True
    """
    inputs = study.batch(examples)
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
        raise ValueError(
            "attribution needs inputs that are a single floating-point tensor; these are "
            f"{inputs.dtype if isinstance(inputs, Tensor) else 'a dict'}."
        )
    # Captum would set it with a warning; the batch is a copy of the study's inputs.
    return inputs.requires_grad_()


def captum_layers(study: Study, names: Sequence[str] | None = None) -> list[Layer]:
    """The named layers; by default all except the output layer and attention heads.

    Raises
    ------
    UnknownLayerError
        If the study has no such layer.
    ValueError
        If a layer has attention heads.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    >>> study = Study(model, torch.ones(2, 4), torch.zeros(2), {"test": range(2)})
    >>> [layer.name for layer in captum_layers(study)]
    ['0']
    """
    known = {layer.name: layer for layer in layers_of(study)}
    if names is None:
        return [la for la in known.values() if not la.is_output and la.kind != "heads"]
    for name in names:
        if name not in known:
            raise UnknownLayerError(name, known)
        if known[name].kind == "heads":
            raise ValueError(
                f"layer {name!r} has attention heads, which Captum cannot attribute to; "
                "use sweep() or estimate()."
            )
    return [known[name] for name in names]


def output_shape(study: Study, module: nn.Module, inputs: Tensor) -> torch.Size:
    """Shape of a module's output for these inputs.

    Examples
    --------
    >>> study = Study(nn.Linear(4, 3).eval(), torch.ones(2, 4), torch.zeros(2), {"test": range(2)})
    >>> output_shape(study, study.model, torch.ones(1, 4))
    torch.Size([1, 3])
    """
    shapes: list[torch.Size] = []
    handle = module.register_forward_hook(lambda _m, _i, output: shapes.append(output.shape))
    try:
        with torch.no_grad(), buffers_kept(study.model):
            study.call(inputs)()
    finally:
        handle.remove()
    return shapes[0]


def unit_axis(layer: Layer) -> int:
    """The axis of a layer's output that its units lie on.

    Examples
    --------
    >>> unit_axis(Layer("conv", "conv", 2, "conv2d")), unit_axis(Layer("fc", "linear", 2, "linear"))
    (1, -1)
    """
    return 1 if layer.kind == "conv" else -1


def by_unit(values: Tensor, layer: Layer) -> Tensor:
    """Values of a layer's output ``[n, ...]``, summed over a unit's positions: ``[n, units]``.

    Examples
    --------
    >>> by_unit(torch.ones(6, 2, 3, 3), Layer("conv", "conv", 2, "conv2d"))[0]
    tensor([9., 9.], dtype=torch.float64)
    >>> by_unit(torch.ones(6, 5, 2), Layer("fc", "linear", 2, "linear"))[0]
    tensor([5., 5.], dtype=torch.float64)
    """
    rows = values.detach().double().cpu().movedim(unit_axis(layer), 1)
    return rows.reshape(len(rows), layer.units, -1).sum(2)


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
        with buffers_kept(model), warnings.catch_warnings():
            # Captum warns at each call about hooks that it removes itself.
            warnings.filterwarnings("ignore", message="Setting forward, backward hooks")
            yield
    finally:
        for module in changed:
            setattr(module, "inplace", True)  # noqa: B010 - torch types attributes as modules
