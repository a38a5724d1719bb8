"""What a call of a model may change unseen: buffers, and attributes of its modules."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


def attributes(model: nn.Module) -> dict[str, Any]:
    """What the modules hold besides weights, by name: plain values, and the sums of tensors.

    Examples
    --------
    >>> attributes(nn.Dropout(0.5).eval())["p"]
    0.5
    """
    held: dict[str, Any] = {}
    for path, module in model.named_modules():
        for key, value in [*vars(module).items(), *module.named_buffers(recurse=False)]:
            name = f"{path}.{key}".lstrip(".")
            if isinstance(value, Tensor):
                held[name] = float(value.detach().double().sum())
            elif isinstance(value, str | int | float | complex | tuple):
                held[name] = value
            elif isinstance(value, list | set | dict) and not key.startswith("_"):
                held[name] = len(value)
    return held
