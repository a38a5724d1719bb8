"""A fingerprint of a model's weights: whether they changed since a pass was recorded."""

from __future__ import annotations

import zlib

import torch
from torch import Tensor, nn

from .._values import memory

Fingerprint = tuple[tuple[int, int], ...]


def fingerprint(model: nn.Module) -> Fingerprint:
    """Address and checksum of every parameter and buffer.

    Torch counts in-place changes, but not those through ``.data`` or a NumPy view, so the values
    themselves are read.

    Examples
    --------
    >>> model = nn.Linear(2, 2)
    >>> before = fingerprint(model)
    >>> model.weight.data[0, 0] += 1
    >>> fingerprint(model) == before
    False
    """
    tensors = [*model.parameters(), *model.buffers()]
    return tuple((memory(tensor), _checksum(tensor.detach())) for tensor in tensors)


def _checksum(tensor: Tensor) -> int:
    if tensor.layout != torch.strided:
        return _checksum(tensor.to_dense())
    if tensor.is_quantized:
        tensor = tensor.int_repr()
    if tensor.is_meta or not tensor.numel():
        return 0
    raw = tensor.contiguous().reshape(-1).view(torch.uint8).cpu()
    return zlib.crc32(raw.numpy())  # type: ignore[arg-type]
