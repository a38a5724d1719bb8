"""Tensors inside arguments and results: found, exchanged, measured, told apart."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from memviz.restored import version

Key = tuple[int, int]  # (id, version): the same tensor before and after an in-place call

_POSITIONS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("cat", "concat", "concatenate", "stack"), ("tensors",)),
    "scaled_dot_product_attention": ("query", "key", "value"),
    **dict.fromkeys(("linear", "conv1d", "conv2d", "conv3d", "embedding"), ("input",)),
    **dict.fromkeys(("batch_norm", "layer_norm", "group_norm", "rms_norm"), ("input",)),
    **dict.fromkeys(("relu", "gelu", "silu", "sigmoid", "tanh", "leaky_relu", "elu"), ("input",)),
    **dict.fromkeys(("dropout", "softmax", "log_softmax", "flatten", "reshape"), ("input",)),
    **dict.fromkeys(("permute", "transpose", "mean", "sum", "amax", "amin"), ("input",)),
    **dict.fromkeys(("squeeze", "unsqueeze", "add", "sub", "mul", "div", "addmm"), ("input",)),
    **dict.fromkeys(("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d"), ("input",)),
}


def positional(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The same call with its first arguments by position, where it names them.

    Examples
    --------
    >>> positional(torch.cat, (), {"tensors": [1, 2], "dim": 1})
    (([1, 2],), {'dim': 1})
    """
    names = _POSITIONS.get(getattr(func, "__name__", ""), ()) if kwargs else ()
    while len(args) < len(names) and names[len(args)] in kwargs:
        kwargs = dict(kwargs)
        args = (*args, kwargs.pop(names[len(args)]))
    return args, kwargs


def leaves(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[list[Tensor], list[Any]]:
    """The tensors among the arguments, and everything else, each in a fixed order.

    Examples
    --------
    >>> leaves((torch.ones(1), "mean"), {"dim": 0})
    ([tensor([1.])], [2, 'mean', 'dim', 0])
    """
    tensors: list[Tensor] = []
    constants: list[Any] = []
    _gather(args, tensors, constants)
    if kwargs:
        _gather(kwargs, tensors, constants)
    return tensors, constants


def _gather(value: Any, tensors: list[Tensor], constants: list[Any]) -> None:
    if isinstance(value, Tensor):
        tensors.append(value)
    elif isinstance(value, tuple | list):
        constants.append(len(value))
        for item in value:
            _gather(item, tensors, constants)
    elif isinstance(value, dict):
        constants.extend(value)
        for item in value.values():
            _gather(item, tensors, constants)
    elif isinstance(value, slice):
        _gather((value.start, value.stop, value.step), tensors, constants)
    else:
        constants.append(value)


def tensors_in(value: Any) -> list[Tensor]:
    """The tensors of a result: a tensor, or those in a tuple, a dict or a model output object.

    Examples
    --------
    >>> tensors_in({"logits": torch.ones(1), "hidden": (torch.zeros(1), None)})
    [tensor([1.]), tensor([0.])]
    """
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, tuple | list):
        return [tensor for item in value for tensor in tensors_in(item)]
    if isinstance(value, dict):
        return [tensor for item in value.values() for tensor in tensors_in(item)]
    logits = getattr(value, "logits", None)
    return [logits] if isinstance(logits, Tensor) else []


def swap(value: Any, new: dict[int, Tensor]) -> Any:
    """The same arguments with some tensors (by id) exchanged."""
    if isinstance(value, Tensor):
        while id(value) in new:  # a tensor changed in place twice is exchanged twice
            value = new[id(value)]
        return value
    if isinstance(value, tuple | list):
        items = [swap(item, new) for item in value]
        if isinstance(value, list):
            return items
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if isinstance(value, dict):
        fresh = {key: swap(item, new) for key, item in value.items()}
        changed = {key: item for key, item in fresh.items() if item is not value[key]}
        if not changed:
            return value
        # A copy: the recorded mapping is met again by the next unit.
        copied = {**value} if type(value) is dict else copy.copy(value)
        for key, item in changed.items():
            copied[key] = item
        return copied
    if isinstance(value, slice):
        return slice(swap(value.start, new), swap(value.stop, new), swap(value.step, new))
    return value


def storage_bytes(values: Any) -> int:
    """Bytes of the tensors of these results; shared storages are counted once."""
    sizes = {}
    for value in values:
        for tensor in tensors_in(value):
            address = memory(tensor)
            sizes[address] = tensor.untyped_storage().nbytes() if address else 0
    return sum(sizes.values())


def memory(tensor: Tensor) -> int:
    """The address of a tensor's memory; 0 if it has none of its own, as sparse tensors do."""
    if tensor.layout != torch.strided or tensor.is_meta:
        return 0
    return tensor.untyped_storage().data_ptr()


def key_of(tensor: Tensor) -> Key:
    """What tells a tensor from all others, and from itself before an in-place call."""
    return id(tensor), version(tensor)
