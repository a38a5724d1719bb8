"""Convolutions and linear layers: the calls in which a module's weights meet an activation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from memviz.units import Layer, declared_units

from .._trace import ModuleCall, Traced
from .._values import Key
from ._flow import COPIES, Flow, plain
from ._site import Located, Site

_CONVS = frozenset(f"conv{kind}{rank}d" for kind in ("", "_transpose") for rank in (1, 2, 3))
# The order of their arguments, for calls by name.
_ARGUMENTS = {
    **dict.fromkeys(("linear", *_CONVS), ("input", "weight", "bias")),
    "addmm": ("bias", "input", "weight"),
    **dict.fromkeys(("matmul", "mm"), ("input", "weight")),
}
_NAMES_OF_TORCH = {"addmm": {"input": "bias", "mat1": "input", "mat2": "weight"}}
_TRANSPOSES = frozenset(["t", "transpose", "swapaxes", "permute", "adjoint"])
_TRANSPOSED = [Tensor.T.__get__, Tensor.mT.__get__]  # type: ignore[attr-defined]


def is_layer(module: nn.Module) -> bool:
    """Whether a module is a convolution or a linear layer, and declares no units of its own."""
    if declared_units(module) is not None:
        return False
    # Hugging Face's Conv1D is a linear layer with its weight transposed.
    return isinstance(module, nn.modules.conv._ConvNd | nn.Linear) or (
        type(module).__name__ == "Conv1D" and hasattr(module, "nf")
    )


def arguments(call: Traced) -> dict[str, Any]:
    """Input, weight and bias of a linear map, by name; empty for any other call."""
    return map_arguments(call.name, call.args, call.kwargs)


def map_arguments(function: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Input, weight and bias of a linear map, by name; empty for any other function."""
    name = plain(function)
    if name not in _ARGUMENTS:
        return {}
    renamed = _NAMES_OF_TORCH.get(name, {"other": "weight", "mat2": "weight"})
    given = dict(zip(_ARGUMENTS[name], args, strict=False))
    given |= {renamed.get(key, key): value for key, value in kwargs.items()}
    if name == "addmm" and any(given.get(factor, 1) != 1 for factor in ("alpha", "beta")):
        return {}
    return given


def is_own_map(module: nn.Module, function: str, *, turned: bool) -> bool:
    """Whether a function given a layer's weight, perhaps transposed, makes the layer's own units.

    Examples
    --------
    >>> layer = nn.Linear(4, 4)
    >>> is_own_map(layer, "linear", turned=False), is_own_map(layer, "linear", turned=True)
    (True, False)
    """
    name = plain(function)
    if isinstance(module, nn.modules.conv._ConvNd):
        # A convolution's weight in a transposed convolution is the way back to its inputs.
        back = isinstance(module, nn.modules.conv._ConvTransposeNd)
        return name in _CONVS and name.startswith("conv_transpose") == back
    return turned == (name in ("matmul", "mm", "addmm"))


def turned_by(function: Any, weight: Tensor, *, turned: bool) -> bool | None:
    """Whether a layer's weight lies transposed in what a function makes of it alone.

    None if its result is not known to be a weight of the layer.

    Examples
    --------
    >>> import torch
    >>> weight = nn.Linear(4, 4).weight
    >>> turned_by(torch.t, weight, turned=False), turned_by(torch.cumsum, weight, turned=False)
    (True, None)
    """
    name = plain(getattr(function, "__name__", str(function)))
    if (name in _TRANSPOSES or function in _TRANSPOSED) and weight.dim() == 2:
        return not turned
    return turned if name in COPIES or name in ("mul", "div", "truediv", "neg") else None


def bias_of(call: Traced) -> Tensor | None:
    """The bias of a linear map; None without one, and for any other call."""
    bias = arguments(call).get("bias")
    return bias if isinstance(bias, Tensor) and bias.dim() == 1 else None


def weight_layers(flow: Flow) -> tuple[dict[str, Located], dict[str, str]]:
    """Convolutions and linear layers by name; and for those without units, why."""
    located: dict[str, Located] = {}
    reasons: dict[str, str] = {}
    uses = [*_by_module(flow, reasons), *_by_function(flow, reasons)]
    for _, name, use in sorted(uses, key=lambda item: item[0]):
        located[name] = located[name].and_again(use) if name in located else use
    return located, {name: why for name, why in reasons.items() if name not in located}


def _by_module(flow: Flow, reasons: dict[str, str]) -> list[tuple[int, str, Located]]:
    """Layers that are called as modules."""
    uses = []
    for called in flow.trace.modules:
        if not is_layer(called.module):
            continue
        use = _module_use(flow, called)
        if isinstance(use, str):
            reasons.setdefault(called.name, use)
        else:
            uses.append((use.unit_sites[0].call, called.name, use))
    return uses


def _module_use(flow: Flow, called: ModuleCall) -> Located | str:
    """The layer in one call of its module, or why it has no units there."""
    if called.first == called.end:
        return "computes nothing that torch's Python functions show"
    meets = _meets(flow, called)
    if all(flow.constants.issuperset(flow.calls[index].input_keys) for index in meets):
        return "is fed by parameters, buffers or plain numbers alone, never by an example"
    last = _last(flow, called)
    if last is None:
        return "does not return its units on the axis where its type has them"
    index, axis = last
    whole = _axis(flow, meets[0], called.module)
    filtered = len(meets) == 1 and _is_told(flow, meets[0])
    if whole is not None and len(meets) == 1 and _is_copy(flow, index, meets[0]):
        index, axis = meets[0], whole
    use = _use(flow, called.name, called.module, index, axis)
    if whole is None or not filtered:
        return replace(use, unfiltered=_unfiltered(called.name))
    site = Site(meets[0], "output", whole)
    return replace(use, filter_sites=(site,), biases=(bias_of(flow.calls[meets[0]]),))


def _meets(flow: Flow, called: ModuleCall) -> list[int]:
    """Calls in which the module's weights meet a tensor from outside."""
    module = called.module
    own = {id(t) for t in (*module.parameters(), *module.buffers())}
    weights = {
        id(parameter)
        for label, parameter in module.named_parameters()
        if not label.split(".")[-1].startswith("bias") and "parametrizations.bias" not in label
    }
    meets = []
    for index in range(called.first, called.end):
        call = flow.calls[index]
        ids = [id(t) for t in call.inputs]
        made = {id(t) for t in _tensors(call.output)}
        if own.issuperset(ids):
            own |= made
            weights |= made if weights.intersection(ids) else set()
        elif weights.intersection(ids):
            meets.append(index)
    return meets


def _tensors(output: Any) -> list[Tensor]:
    outputs = output if isinstance(output, tuple | list) else [output]
    return [tensor for tensor in outputs if isinstance(tensor, Tensor)]


def _last(flow: Flow, called: ModuleCall) -> tuple[int, int] | None:
    """The call that makes what the module returns, and the axis of the units there."""
    for key in called.outputs:
        made = flow.source(key)
        if made is not None and called.first <= made[0] < called.end:
            axis = _axis(flow, made[0], called.module)
            if axis is not None:
                return made[0], axis
    return None


def _is_copy(flow: Flow, index: int, of: int) -> bool:
    """Whether a call's output is another's, at most copied or with other axes in front."""
    keys = flow.calls[of].output_keys
    return index == of or flow.unmoved(flow.calls[index].output_keys[0]) in keys


def _is_told(flow: Flow, index: int) -> bool:
    """Whether a call shows what is left of a unit without its weights: its bias, or 0."""
    call = flow.calls[index]
    bias = bias_of(call)
    given = zip(call.input_keys, call.inputs, strict=True)
    fixed = all(key in flow.constants for key, tensor in given if tensor is bias)
    return fixed and (bool(arguments(call)) or plain(call.name) == "einsum")


def _unfiltered(name: str) -> str:
    return (
        f"layer {name!r} uses its weights in a way of its own, so what filter ablation would leave "
        "of a unit can't be told; choose another intervention, such as 'zero' or 'mean'."
    )


def _by_function(flow: Flow, reasons: dict[str, str]) -> list[tuple[int, str, Located]]:
    """Layers whose weight another module passes to a function."""
    within = {
        index
        for called in flow.trace.modules
        if is_layer(called.module)
        for index in range(called.first, called.end)
    }
    owners = _owners(flow)
    uses = []
    for index, call in enumerate(flow.calls):
        if index in within:
            continue
        _derive(call, owners)
        given = arguments(call)
        weight, value = given.get("weight"), given.get("input")
        if not isinstance(weight, Tensor) or id(weight) not in owners:
            continue
        names, turned = owners[id(weight)]
        if not is_own_map(flow.modules[names[0]], call.name, turned=turned):
            continue
        if len(names) > 1:
            words = f"shares its weight with {names[1]!r}, and a function, not a module, uses it"
            reasons.setdefault(names[0], words)
            continue
        keys = [k for k, t in zip(call.input_keys, call.inputs, strict=True) if t is value]
        if not keys or keys[0] in flow.constants:
            continue
        module = flow.modules[names[0]]
        axis = _axis(flow, index, module)
        if axis is not None:
            use = _use(flow, names[0], module, index, axis)
            why = "" if _is_told(flow, index) else _unfiltered(names[0])
            uses.append((index, names[0], replace(use, unfiltered=why)))
    return uses


def _owners(flow: Flow) -> dict[int, tuple[tuple[str, ...], bool]]:
    """Layers by the id of their weight, and whether the weight lies transposed."""
    owners: dict[int, tuple[tuple[str, ...], bool]] = {}
    for name, module in flow.modules.items():
        weight = getattr(module, "weight", None) if is_layer(module) else None
        if isinstance(weight, nn.Parameter):
            names, _ = owners.get(id(weight), ((), False))
            owners[id(weight)] = ((*names, name), hasattr(module, "nf"))
    return owners


def _derive(call: Traced, owners: dict[int, tuple[tuple[str, ...], bool]]) -> None:
    """Tensors made of one weight alone: its copies, and its transpose."""
    sources = [t for t in call.inputs if id(t) in owners]
    if len(call.inputs) != 1 or not sources or not isinstance(call.output, Tensor):
        return
    names, before = owners[id(sources[0])]
    turned = turned_by(call.function, sources[0], turned=before)
    if turned is not None:
        owners[id(call.output)] = (names, turned)


def _axis(flow: Flow, index: int, module: nn.Module) -> int | None:
    """The axis of a call's output that holds the module's units."""
    output = flow.output(index)
    is_conv = isinstance(module, nn.modules.conv._ConvNd)
    # Counted from the end: there may be any number of axes in front.
    behind = len(module.kernel_size) if is_conv else 0  # type: ignore[arg-type]
    if output is None or output.dim() <= behind:
        return None
    axis = output.dim() - 1 - behind
    return axis if output.shape[axis] == _units(module) else None


def _units(module: nn.Module) -> int:
    names = ("out_channels", "out_features", "nf")
    return int(next(getattr(module, name) for name in names if hasattr(module, name)))


def _use(flow: Flow, name: str, module: nn.Module, start: int, axis: int) -> Located:
    kind = "conv" if isinstance(module, nn.modules.conv._ConvNd) else "linear"
    last, words = flow.follow(start)
    is_output = flow.calls[last].output_keys[0] in flow.outputs
    layer = Layer(name, kind, _units(module), words, is_output)
    sites = (Site(last, "output", axis),), (Site(start, "output", axis),)
    return Located(layer, *sites, biases=(bias_of(flow.calls[start]),))


def sites_of_input(flow: Flow, key: Key, axis: int, width: int = 1) -> tuple[Site, ...]:
    """Where a tensor is changed for all that read it: on its way into linear maps, if only these.

    ``axis`` is counted from the end.
    """
    sites = []
    for index in flow.readers.get(key, []):
        call = flow.calls[index]
        number = call.input_keys.index(key)
        if key in flow.outputs or arguments(call).get("input") is not call.inputs[number]:
            return (Site(flow.maker[key], "output", axis, width),)
        sites.append(Site(index, "input", axis, width, number))
    return tuple(sites)
