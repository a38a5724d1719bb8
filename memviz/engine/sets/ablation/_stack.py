"""The stack of torch function modes of this thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch.overrides import (
    TorchFunctionMode,
    _get_current_function_mode_stack,
    _pop_mode,
    _push_mode,
)


def on_top(mode: TorchFunctionMode) -> bool:
    """Whether a mode is the first to see a call."""
    stack = _get_current_function_mode_stack()
    return bool(stack) and stack[-1] is mode


def others_above(mode: TorchFunctionMode) -> bool:
    """Whether another mode was entered after this one."""
    stack = _get_current_function_mode_stack()
    return any(other is not mode for other in stack[stack.index(mode) + 1 :])


def push(mode: TorchFunctionMode) -> None:
    """Make a mode the first to see a call."""
    _push_mode(mode)


def remove(mode: TorchFunctionMode) -> None:
    """Take the uppermost entry of a mode from the stack, wherever it is."""
    above = []
    while (top := _pop_mode()) is not mode:
        above.append(top)
    for other in reversed(above):
        _push_mode(other)


@contextmanager
def no_modes() -> Iterator[None]:
    """Run without any torch function mode, and put them back."""
    stack = []
    while _get_current_function_mode_stack():
        stack.append(_pop_mode())
    try:
        yield
    finally:
        for mode in reversed(stack):
            _push_mode(mode)
