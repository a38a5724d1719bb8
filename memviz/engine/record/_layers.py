"""Which layers a model has, and where in its forward pass their units are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from memviz.units import Layer

from ._trace import Key, Trace, Traced, tensors_in, version

# Functions that belong to a layer's activation when they directly follow it.
NORMALIZATIONS = frozenset(["batch_norm", "group_norm", "instance_norm", "layer_norm", "rms_norm"])
NONLINEARITIES = frozenset(
    [
        *("relu", "relu_", "relu6", "gelu", "silu", "silu_", "mish", "sigmoid", "tanh", "softplus"),
        *("hardswish", "hardsigmoid", "hardtanh", "leaky_relu", "elu", "celu", "selu", "prelu"),
        *("softsign", "logsigmoid", "sigmoid_", "tanh_", "threshold"),
    ]
)
_HEADS = ("num_heads", "num_attention_heads", "n_heads", "n_head")
_PROJECTIONS = ("out_proj", "proj", "o_proj", "c_proj")


@dataclass(frozen=True)
class Site:
    """Where a layer's activation passes: a call, and the axis and width of its units.

    ``at`` is the call's ``"output"``, its ``"input"`` number ``argument``, or ``"heads"``, the
    input of the output projection inside torch's own attention function.
    """

    call: int
    at: Literal["output", "input", "heads"]
    axis: int
    width: int = 1
    argument: int = 0


@dataclass(frozen=True)
class Located:
    """A layer with its sites, one per time the forward pass reaches it."""

    layer: Layer
    unit_sites: tuple[Site, ...]
    filter_sites: tuple[Site, ...]
    bias: Tensor | None = None


def locate(model: nn.Module, trace: Trace) -> dict[str, Located]:
    """Every layer with units that the traced forward pass reaches, in that order.

    Examples
    --------
    >>> import torch
    >>> from memviz.engine.record import trace
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    >>> inputs = torch.zeros(2, 4)
    >>> located = locate(model, trace(model, lambda: model(inputs)))
    >>> [(name, place.layer.site) for name, place in located.items()]
    [('0', 'linear > relu'), ('2', 'linear')]
    """
    flow = _Flow(trace)
    modules = dict(model.named_modules())
    owners = {
        id(parameter): name
        for name, module in modules.items()
        if _is_layer(module)
        for label, parameter in module.named_parameters()
        if not label.split(".")[-1].startswith("bias") and "parametrizations.bias" not in label
    }
    by_name: dict[str, Located] = {}
    for index, name in flow.weight_uses(model, owners):
        located = _locate_layer(flow, index, name, modules[name], by_name.get(name))
        if located is not None:
            by_name[name] = located
    for name, module in modules.items():
        heads = _locate_heads(flow, name, module)
        if heads is not None:
            by_name[name] = heads
    return dict(sorted(by_name.items(), key=lambda item: item[1].unit_sites[0].call))


def _is_layer(module: nn.Module) -> bool:
    # Hugging Face's Conv1D is a linear layer with its weight transposed.
    return isinstance(module, nn.modules.conv._ConvNd | nn.Linear) or (
        type(module).__name__ == "Conv1D" and hasattr(module, "nf")
    )


class _Flow:
    """The trace as a graph: who made a tensor and who reads it."""

    def __init__(self, trace: Trace) -> None:
        self.calls = trace.calls
        self.readers: dict[Key, list[int]] = {}
        for index, call in enumerate(self.calls):
            if any(key in call.input_keys for key in call.output_keys):
                continue  # dropout in eval mode returns its own input
            for key in call.input_keys:
                self.readers.setdefault(key, []).append(index)
        self.outputs = {(id(t), version(t)) for t in tensors_in(trace.raw)}

    def weight_uses(self, model: nn.Module, owners: dict[int, str]) -> Iterator[tuple[int, str]]:
        """Calls where an activation meets a layer's weight, or a tensor made from it alone."""
        fixed: dict[int, str | None] = {
            id(t): None for t in (*model.parameters(), *model.buffers())
        }
        fixed.update(owners)
        for index, call in enumerate(self.calls):
            ids = [id(t) for t in call.inputs]
            owned = [fixed[i] for i in ids if fixed.get(i) is not None]
            if all(i in fixed for i in ids):
                for tensor in tensors_in(call.output):
                    fixed[id(tensor)] = owned[0] if owned else None
            elif owned and owned[0] is not None and isinstance(call.output, Tensor):
                yield index, owned[0]

    def follow(self, start: int) -> tuple[int, str]:
        """The last call of a layer's activation, after its norm and non-linearity, and its site."""
        index, names = start, [self.calls[start].name.rstrip("_")]
        while True:
            call = self.calls[index]
            readers = self.readers.get(call.output_keys[0], [])
            if len(readers) != 1 or call.output_keys[0] in self.outputs:
                return index, " > ".join(names)
            after = self.calls[readers[0]]
            if not self._continues(after, call.output_keys[0], names):
                return index, " > ".join(names)
            index = readers[0]
            names.append(after.name.rstrip("_"))
            if after.name in NONLINEARITIES:
                return index, " > ".join(names)

    def _continues(self, after: Traced, key: Key, names: list[str]) -> bool:
        follows = after.name in NONLINEARITIES or (after.name in NORMALIZATIONS and len(names) == 1)
        return (
            follows
            and after.input_keys[0] == key
            and isinstance(after.output, Tensor)
            and after.output.shape == after.inputs[0].shape
        )


def _locate_layer(
    flow: _Flow, index: int, name: str, module: nn.Module, earlier: Located | None
) -> Located | None:
    call = flow.calls[index]
    is_conv = isinstance(module, nn.modules.conv._ConvNd)
    units = module.out_channels if is_conv else getattr(module, "out_features", None)
    units = int(units if units is not None else module.nf)  # type: ignore[arg-type]
    shape = call.output.shape
    # Counted from the end: there may be any number of axes in front.
    axis = len(shape) - 1 - (len(module.kernel_size) if is_conv else 0)  # type: ignore[arg-type]
    if axis < 0 or shape[axis] != units:
        return None
    last, words = flow.follow(index)
    layer = Layer(
        name,
        "conv" if is_conv else "linear",
        units,
        words,
        flow.calls[last].output_keys[0] in flow.outputs,
    )
    unit_site, filter_site = Site(last, "output", axis), Site(index, "output", axis)
    if earlier is None:
        return Located(layer, (unit_site,), (filter_site,), getattr(module, "bias", None))
    return Located(
        earlier.layer,
        (*earlier.unit_sites, unit_site),
        (*earlier.filter_sites, filter_site),
        earlier.bias,
    )


def _locate_heads(flow: _Flow, name: str, module: nn.Module) -> Located | None:
    heads = next((getattr(module, key) for key in _HEADS if hasattr(module, key)), None)
    weight = next(
        (
            getattr(module, key).weight
            for key in _PROJECTIONS
            if isinstance(getattr(getattr(module, key, None), "weight", None), Tensor)
        ),
        None,
    )
    if not isinstance(heads, int) or heads < 1 or weight is None or weight.dim() != 2:
        return None
    sites = []
    for index, call in enumerate(flow.calls):
        places = [k for k, tensor in enumerate(call.inputs) if tensor is weight]
        if not places:
            continue
        if call.function is F.multi_head_attention_forward:
            sites.append(Site(index, "heads", -1, weight.shape[1] // heads))
            continue
        argument, features = _projection_input(call, weight)
        if features and features % heads == 0:
            sites.append(Site(index, "input", -1, features // heads, argument))
    if not sites:
        return None
    layer = Layer(name, "heads", heads, "heads, before the output projection")
    return Located(layer, tuple(sites), tuple(sites))


def _projection_input(call: Traced, weight: Tensor) -> tuple[int, int]:
    """Which of the inputs is projected, and its number of features; (0, 0) if none is."""
    if call.function is F.linear:
        return 0, weight.shape[1]
    if call.name == "addmm":  # Hugging Face's Conv1D: bias, input, weight
        return 1, weight.shape[0]
    return 0, 0
