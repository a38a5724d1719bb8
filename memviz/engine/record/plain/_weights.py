"""A fingerprint of a model: whether weights or settings changed since a pass was recorded."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from .._values import memory

Fingerprint = tuple[tuple[int, int], ...]
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")


def fingerprint(model: nn.Module) -> Fingerprint:
    """Address and checksum of every parameter and buffer, and a checksum of the settings.

    Torch counts in-place changes, but not those through ``.data`` or a NumPy view, so the values
    themselves are read. Settings are plain attributes of the modules, and their hooks.

    Examples
    --------
    >>> model = nn.Linear(2, 2)
    >>> before = fingerprint(model)
    >>> model.weight.data[0, 0] += 1
    >>> fingerprint(model) == before
    False
    """
    # Listed at once: a block of mv.ablate in another thread may add to the tables meanwhile.
    tables = [table for m in model.modules() for table in (m._parameters, m._buffers)]
    tensors = [t for table in tables for t in list(table.values()) if t is not None]
    weights = [(memory(tensor), _checksum(tensor.detach())) for tensor in tensors]
    return (*weights, (0, hash(tuple(_settings(model)))))


def _settings(model: nn.Module) -> Iterator[tuple[Any, ...]]:
    for module in model.modules():
        yield (id(module),)
        for name, value in list(vars(module).items()):
            if isinstance(value, bool | int | float | str):
                yield name, type(value), value
            elif name in _HOOKS:
                yield name, *(id(hook) for hook in list(value.values()))


def _checksum(tensor: Tensor) -> int:
    if tensor.layout != torch.strided:
        return _checksum(tensor.to_dense())
    if tensor.is_quantized:
        tensor = tensor.int_repr()
    if tensor.is_meta or not tensor.numel():
        return 0
    raw = tensor.contiguous().reshape(-1).view(torch.uint8).cpu()
    return zlib.crc32(raw.numpy())  # type: ignore[arg-type]
