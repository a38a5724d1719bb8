"""Gradient checkpointing: what is computed again for a gradient is ablated as it was at first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch.utils import checkpoint

from ._thread import frames

if TYPE_CHECKING:
    from ._mode import Ablating

_UNKNOWN = (
    "this version of torch checkpoints gradients in a way that memviz does not know, so what is "
    "computed again for them could not be ablated; switch gradient checkpointing off."
)


def follow_checkpoint(mode: Ablating) -> None:
    """If a checkpointed function runs now, let its second run ablate the same units.

    The second run may come after the block, and in a thread of autograd.

    Raises
    ------
    RuntimeError
        If this version of torch keeps the function where memviz does not find it.
    """
    for frame in frames():
        if frame.f_code.co_filename == checkpoint.__file__:
            if frame.f_code.co_name == "checkpoint" and "gen" in frame.f_locals:
                kept = frame.f_locals["gen"].gi_frame.f_locals.get("new_frame")
                _replace(kept, "recompute_fn", mode)
            elif frame.f_code.co_name == "forward" and "ctx" in frame.f_locals:
                _replace(frame.f_locals["ctx"], "run_function", mode)


def _replace(holder: Any, name: str, mode: Ablating) -> None:
    if holder is None:
        return  # it runs without gradients, so never again
    function = getattr(holder, name, None)
    if function is None:
        raise RuntimeError(_UNKNOWN)
    if not isinstance(function, _Again):
        setattr(holder, name, _Again(function, mode))


class _Again:
    """A checkpointed function whose second run ablates what the first one did."""

    def __init__(self, function: Callable[..., Any], mode: Ablating) -> None:
        self.function, self.mode, self.blocks = function, mode, list(mode.blocks)
        self.passes = [replace(running, uses=dict(running.uses)) for running in mode.passes]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        mode, passes = self.mode, [replace(each, uses=dict(each.uses)) for each in self.passes]
        with mode.as_if(self.blocks, passes):
            return self.function(*args, **kwargs)
