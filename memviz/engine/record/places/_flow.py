"""A trace as a graph: who makes a tensor, who reads it, and in which module."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from memviz.restored import version

from .._trace import Trace, Traced
from .._values import Key, tensors_in

# Functions that belong to a layer's activation when they directly follow it.
NORMALIZATIONS = frozenset(["batch_norm", "group_norm", "instance_norm", "layer_norm", "rms_norm"])
NONLINEARITIES = frozenset(
    [
        *("relu", "relu_", "relu6", "gelu", "silu", "silu_", "mish", "sigmoid", "tanh", "softplus"),
        *("hardswish", "hardsigmoid", "hardtanh", "leaky_relu", "elu", "celu", "selu", "prelu"),
        *("softsign", "logsigmoid", "sigmoid_", "tanh_", "threshold"),
    ]
)
# They change no value: only its type, its memory, or nothing at all in eval mode.
COPIES = frozenset(
    [
        *("contiguous", "clone", "detach", "to", "type", "type_as", "float", "half", "bfloat16"),
        *("double", "dropout", "dropout_", "feature_dropout", "alpha_dropout"),
    ]
)
MOVES = frozenset(
    [
        *("view", "reshape", "flatten", "unflatten", "transpose", "permute", "movedim", "moveaxis"),
        *("swapaxes", "swapdims", "squeeze", "unsqueeze", "t", "getitem", "narrow", "select"),
    ]
)
PIECES = frozenset(["chunk", "split", "unbind", "tensor_split", "getitem", "narrow", "select"])
ELEMENTWISE = frozenset(
    {name.rstrip("_") for name in NONLINEARITIES}
    | {"mul", "div", "truediv", "add", "sub", "neg", "clamp", "pow", "exp", "square", "erf"}
)


def plain(name: str) -> str:
    """A function's plain name: ``add`` for ``__iadd__``, ``add_`` and ``__radd__``.

    Examples
    --------
    >>> [plain(name) for name in ("__rmul__", "add_", "__getitem__", "rsqrt")]
    ['mul', 'add', 'getitem', 'rsqrt']
    """
    short = name.strip("_")
    return short[1:] if short[1:] in ("add", "sub", "mul", "truediv", "matmul") else short


def is_copy(function: str, value: Tensor, output: Any) -> bool:
    """Whether a function copies a value, or only has other axes in front of its features.

    Examples
    --------
    >>> import torch
    >>> is_copy("view", torch.zeros(6, 4), torch.zeros(2, 3, 4))
    True
    """
    name = plain(function)
    return name in COPIES or (
        name in ("view", "reshape", "flatten", "unsqueeze", "squeeze")
        and isinstance(output, Tensor)
        and value.shape[-1:] == output.shape[-1:]
    )


class Flow:
    """The trace as a graph.

    Attributes
    ----------
    maker : dict of key to call number
        The call that made a tensor, or last changed it in place.
    readers : dict of key to call numbers
    outputs : set of keys
        What the model returns.
    constants : set of keys
        Parameters, buffers, and what is made from them or from plain numbers alone.
    """

    def __init__(self, model: nn.Module, trace: Trace) -> None:
        self.model, self.trace, self.calls = model, trace, trace.calls
        self.modules = dict(model.named_modules())
        self.maker: dict[Key, int] = {}
        self.readers: dict[Key, list[int]] = {}
        fixed = {id(t) for t in (*model.parameters(), *model.buffers())}
        self.constants: set[Key] = set()
        for index, call in enumerate(self.calls):
            given = zip(call.input_keys, call.inputs, strict=True)
            self.constants.update(key for key, tensor in given if id(tensor) in fixed)
            if self.constants.issuperset(call.input_keys):
                self.constants.update(call.output_keys)
            if any(key in call.input_keys for key in call.output_keys):
                continue  # dropout in eval mode returns its own input
            for key in call.input_keys:
                self.readers.setdefault(key, []).append(index)
            for key in call.output_keys:
                self.maker[key] = index
        self.outputs = {(id(t), version(t)) for t in tensors_in(trace.raw)}
        self._owners: list[str] = [""] * len(self.calls)
        owned = [False] * len(self.calls)
        for called in trace.modules:  # the innermost modules return first
            for index in range(called.first, called.end):
                if not owned[index]:
                    self._owners[index], owned[index] = called.name, True

    def owner(self, index: int) -> str:
        """The innermost module that makes a call."""
        return self._owners[index]

    def output(self, index: int) -> Tensor | None:
        """A call's output, if it is one tensor."""
        output = self.calls[index].output
        return output if isinstance(output, Tensor) else None

    def source(self, key: Key) -> tuple[int, Traced] | None:
        """The call that made a tensor; None for an input of the model or what torch did not see."""
        index = self.maker.get(key)
        if index is None or index in self.trace.volatile:
            return None
        return index, self.calls[index]

    def unmoved(self, key: Key) -> Key:
        """The tensor of which this one is a copy, with its features still on the last axis."""
        while (made := self.source(key)) is not None:
            _, call = made
            if not call.inputs or not is_copy(call.name, call.inputs[0], call.output):
                return key
            key = call.input_keys[0]
        return key

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


def shared_parent(first: str, second: str) -> str:
    """The innermost module that holds both.

    Examples
    --------
    >>> shared_parent("encoder.0.attn.drop", "encoder.0.attn.proj")
    'encoder.0.attn'
    """
    common = []
    for left, right in zip(first.split("."), second.split("."), strict=False):
        if left != right:
            break
        common.append(left)
    return ".".join(common)
