"""What runs on this thread: torch function modes, and the Python that makes a call."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any

from torch import nn
from torch.nn.modules.module import _global_forward_hooks, _global_forward_pre_hooks
from torch.overrides import (
    TorchFunctionMode,
    _get_current_function_mode_stack,
    _pop_mode,
    _push_mode,
)

_PACKAGE = f"{__package__}."
_MODULE_FILE = nn.Module.__call__.__code__.co_filename
_CALLS = frozenset(["_call_impl", "inner"])


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


@contextmanager
def no_hooks(model: nn.Module) -> Iterator[None]:
    """Run without hooks on modules, which may count calls; torch's own make weights, and stay."""
    tables: list[dict[Any, Any]] = [_global_forward_hooks, _global_forward_pre_hooks]
    for module in model.modules():
        tables += [module._forward_hooks, module._forward_pre_hooks]
    kept = [(table, dict(table)) for table in tables if table]
    for table, hooks in kept:
        for key, hook in hooks.items():
            if not type(hook).__module__.startswith("torch."):
                del table[key]
    try:
        yield
    finally:
        for table, hooks in kept:
            table.clear()
            table.update(hooks)


def frames() -> Iterator[FrameType]:
    """The Python frames above the caller's, the nearest first."""
    frame = sys._getframe(1).f_back
    while frame is not None:
        yield frame
        frame = frame.f_back


def called_by_memviz() -> bool:
    """Whether memviz itself makes this call: an engine, or the work of another thread."""
    for frame in frames():
        name = frame.f_globals.get("__name__", "")
        if not name.startswith(("torch.", _PACKAGE)):
            return bool(name.startswith("memviz.")) and not name.startswith("memviz.models")
    return False


def in_hook() -> bool:
    """Whether a hook on a module makes this call: it looks at a value, or exchanges it."""
    called: FrameType | None = None
    for frame in frames():
        code = frame.f_code
        if code.co_filename == _MODULE_FILE and code.co_name in _CALLS:
            forward = _code_of_forward(frame.f_locals.get("self"))
            return called is not None and forward is not None and called.f_code is not forward
        called = frame
    return False


def _code_of_forward(module: nn.Module | None) -> CodeType | None:
    forward = getattr(module, "forward", None)
    if not hasattr(forward, "__code__") and type(forward).__module__.startswith(_PACKAGE):
        forward = type(forward).__call__  # what stands in for it while a block runs
    return getattr(getattr(forward, "__func__", forward), "__code__", None)
