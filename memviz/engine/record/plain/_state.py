"""What a call of a model may change: random states, buffers, and attributes of its modules."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


@contextmanager
def random_kept() -> Iterator[Callable[[], list[str]]]:
    """Put back the random states that change meanwhile; yields a function that names them.

    In a background thread they are left alone: what changed them may be a cell of the user's.
    """
    states = _states()

    def moved() -> list[str]:
        now = _states()
        return [name for name in states if not _same(states[name], now[name])]

    try:
        yield moved
    finally:
        if threading.current_thread() is threading.main_thread():
            for name in moved():
                _restore(name, states[name])


def _states() -> dict[str, Any]:
    states: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "Python's random module": random.getstate(),
        "NumPy": np.random.get_state(legacy=False),  # noqa: NPY002 - the state that a model may draw from
    }
    if torch.cuda.is_initialized():
        states["torch on the GPU"] = torch.stack(torch.cuda.get_rng_state_all())
    return states


def _same(before: Any, now: Any) -> bool:
    if isinstance(before, Tensor):
        return torch.equal(before, now)
    if isinstance(before, dict):  # NumPy's: a dict that holds an array
        return repr(before) == repr(now) and np.array_equal(
            before["state"]["key"], now["state"]["key"]
        )
    return bool(before == now)


def _restore(name: str, state: Any) -> None:
    if name == "torch":
        torch.set_rng_state(state)
    elif name == "NumPy":
        np.random.set_state(state)  # noqa: NPY002
    elif isinstance(state, Tensor):
        torch.cuda.set_rng_state_all(list(state))
    else:
        random.setstate(state)


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
