"""Gradient checkpointing: what is computed again for a gradient is ablated as it was at first."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from torch.utils import checkpoint

from ._thread import frames

_UNKNOWN = (
    "this version of torch checkpoints gradients in a way that memviz does not know, so what is "
    "computed again for them could not be ablated; switch gradient checkpointing off."
)
Again = Callable[[], AbstractContextManager[None]]


def follow_checkpoint(remember: Callable[[], Again]) -> None:
    """If a checkpointed function runs now, let its second run ablate the same units.

    The second run may come after the block, and in a thread of autograd. ``remember`` keeps what
    is ablated now, and returns what ablates it again.

    Raises
    ------
    RuntimeError
        If this version of torch keeps the function where memviz does not find it.
    """
    for frame in frames():
        if frame.f_code.co_filename == checkpoint.__file__:
            if frame.f_code.co_name == "checkpoint" and "gen" in frame.f_locals:
                kept = frame.f_locals["gen"].gi_frame.f_locals.get("new_frame")
                _replace(kept, "recompute_fn", remember)
            elif frame.f_code.co_name == "forward" and "ctx" in frame.f_locals:
                _replace(frame.f_locals["ctx"], "run_function", remember)


def _replace(holder: Any, name: str, remember: Callable[[], Again]) -> None:
    if holder is None:
        return  # it runs without gradients, so never again
    function = getattr(holder, name, None)
    if function is None:
        raise RuntimeError(_UNKNOWN)
    if not isinstance(function, _Ablated):
        setattr(holder, name, _Ablated(function, remember()))


class _Ablated:
    """A checkpointed function whose second run ablates what the first one did."""

    def __init__(self, function: Callable[..., Any], again: Again) -> None:
        self.function, self.again = function, again

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with self.again():
            return self.function(*args, **kwargs)
