"""What a forward pass may change in Python, kept so that the pass can be run again."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from memviz.restored import DeviceStates, version

_SMALL = 2**16  # values of a tensor that is copied; of a larger one, a change is noticed
_DEPTH = 6
# A module's own tables, which a forward pass leaves alone, but for its buffers.
_TABLES = frozenset(vars(nn.Module())) - {"_buffers"}


class Snapshot:
    """The state around one call: attributes and buffers of modules, arguments, random numbers.

    Containers and objects among the arguments, such as a key-value cache, are restored in place.
    Large tensors are not copied: ``restore`` says whether one of them has changed.

    Examples
    --------
    >>> model, cache = nn.Linear(2, 2), []
    >>> before = Snapshot(model, [cache])
    >>> cache.append(1); model.table = 2
    >>> before.restore(), cache, hasattr(model, "table")
    (True, [], False)
    """

    def __init__(self, model: nn.Module, arguments: Iterable[Any]) -> None:
        self._undo: list[Callable[[], None]] = []
        self._tensors: dict[int, tuple[Tensor, int, Tensor | None]] = {}
        self._seen: set[int] = set()
        self._random = (torch.get_rng_state(), random.getstate(), np.random.get_state())  # noqa: NPY002
        self._of_devices = DeviceStates()
        for module in model.modules():
            self._keep_module(module)
        for argument in arguments:
            self._keep(argument, _DEPTH)

    def restore(self) -> bool:
        """Put everything back; False if a large tensor has changed and could not be restored."""
        torch.set_rng_state(self._random[0])
        random.setstate(self._random[1])
        np.random.set_state(self._random[2])  # noqa: NPY002
        self._of_devices.put_back()
        for undo in self._undo:
            undo()
        whole = True
        with torch.no_grad():
            for tensor, before, copy in self._tensors.values():
                if version(tensor) != before:
                    if copy is None:
                        whole = False
                    else:
                        tensor.copy_(copy)
        return whole

    def _keep_module(self, module: nn.Module) -> None:
        attributes = vars(module)
        self._undo.append(partial(_restore_attributes, attributes, dict(attributes)))
        for name, value in attributes.items():
            if name not in _TABLES and isinstance(value, dict | list | set):
                self._keep(value, 2)

    def _keep(self, value: Any, depth: int) -> None:
        if isinstance(value, Tensor):
            if id(value) not in self._tensors:
                small = value.numel() <= _SMALL and not isinstance(value, nn.Parameter)
                copy = value.detach().clone() if small else None
                self._tensors[id(value)] = (value, version(value), copy)
            return
        if depth == 0 or id(value) in self._seen or isinstance(value, nn.Module | type):
            return
        self._seen.add(id(value))
        if isinstance(value, dict):
            self._undo.append(_restorer(value, dict(value)))
            items = list(value.values())
        elif isinstance(value, list | set):
            self._undo.append(_restorer(value, type(value)(value)))
            items = list(value)
        elif isinstance(value, tuple):
            items = list(value)
        elif hasattr(value, "__dict__") and not callable(value):
            self._undo.append(_restorer(vars(value), dict(vars(value))))
            items = list(vars(value).values())
        else:
            return
        for item in items:
            self._keep(item, depth - 1)


def _restore_attributes(attributes: dict[str, Any], before: dict[str, Any]) -> None:
    """One by one: other threads call the module, and their blocks exchange its ``forward``."""
    for name in [name for name in list(attributes) if name not in before]:
        if name != "forward":
            del attributes[name]
    for name, value in before.items():
        if name != "forward" and (name not in attributes or attributes[name] is not value):
            attributes[name] = value


def _restorer(container: Any, before: Any) -> Callable[[], None]:
    def restore() -> None:
        if isinstance(container, list):
            container[:] = before
        elif container != before if isinstance(container, set) else _differ(container, before):
            container.clear()
            container.update(before)

    return restore


def _differ(container: dict[Any, Any], before: dict[Any, Any]) -> bool:
    return list(container) != list(before) or any(
        container[key] is not before[key] for key in before
    )
