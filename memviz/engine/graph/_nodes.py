"""The calls of a recorded pass, as nodes of a graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from torch import Tensor

from memviz.engine.record import NONLINEARITIES

_SIGNATURES: dict[str, dict[str, Any]] = {
    "conv2d": {
        **{"input": None, "weight": None, "bias": None},
        **{"stride": 1, "padding": 0, "dilation": 1, "groups": 1},
    },
    "linear": {"input": None, "weight": None, "bias": None},
    "layer_norm": {
        **{"input": None, "normalized_shape": (), "weight": None, "bias": None, "eps": 1e-5}
    },
    "max_pool2d": {
        **{"input": None, "kernel_size": None, "stride": None, "padding": 0, "dilation": 1},
        **{"ceil_mode": False, "return_indices": False},
    },
    "batch_norm": {
        **{"input": None, "running_mean": None, "running_var": None, "weight": None, "bias": None},
        **{"training": False, "momentum": 0.1, "eps": 1e-5},
    },
}


@cache
def names_of_unary() -> frozenset[str]:
    """Operations on one tensor, element by element."""
    plain = {name.rstrip("_") for name in NONLINEARITIES} - {"prelu", "threshold"}
    return frozenset(plain | {"neg", "exp", "log", "sqrt", "abs", "clamp", "pow"})


ARITHMETIC = ("add", "sub", "mul", "div")
POOLS = tuple(
    f"{pool}{rank}d"
    for pool in ("max_pool", "avg_pool", "adaptive_max_pool", "adaptive_avg_pool")
    for rank in (1, 2, 3)
)
RESHAPES = ("flatten", "reshape", "view", "squeeze", "unsqueeze")
REDUCTIONS = ("mean", "sum", "amax", "amin")
MOVES = ("permute", "transpose")
# Calls with a rule for a bent record; before all others it is worked out.
BENT = frozenset(["add", "linear", "layer_norm"])
# Calls that treat each row alone, whatever the number of rows.
BY_ROW = frozenset(
    {*names_of_unary(), *ARITHMETIC, *POOLS, *RESHAPES, "amax", "amin", "mean", "relu"}
    | {"batch_norm", "group_norm", "layer_norm", "linear", "conv2d", "units_of"}
)
# Their result may share memory with their input.
VIEWS = frozenset([*RESHAPES, *MOVES])


@dataclass(eq=False)
class Node:
    """One call that computed something."""

    index: int
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    inputs: list[Tensor]
    outputs: list[Tensor]
    written: dict[int, Tensor]

    @property
    def mutates(self) -> tuple[int, ...]:
        """Numbers of the inputs that it writes into; ``written`` holds what they became."""
        return tuple(self.written)

    @cached_property
    def name(self) -> str:
        """The operation's plain name: ``add`` for ``__iadd__``, ``add_`` and ``__radd__``."""
        name = self._raw_name.strip("_")
        return name[1:] if name[1:] in ("add", "sub", "mul", "truediv") else name

    @property
    def _raw_name(self) -> str:
        return str(getattr(self.function, "__name__", self.function))

    @property
    def out(self) -> Tensor:
        """The one output."""
        return self.outputs[0]

    @property
    def reversed(self) -> bool:
        """Whether the operands are swapped, as in ``__rsub__``."""
        return self._raw_name.startswith("__r")

    @cached_property
    def work(self) -> int:
        """Multiplications of a convolution or linear layer; 0 for all cheaper calls."""
        if self.name not in ("conv2d", "linear"):
            return 0
        return int(self.out.numel() * self.bound["weight"][0].numel())

    @cached_property
    def bound(self) -> dict[str, Any]:
        """Arguments by name."""
        defaults = _SIGNATURES[self.name]
        return {**defaults, **dict(zip(defaults, self.args, strict=False)), **self.kwargs}

    def call(self, first: Tensor) -> Tensor:
        """The call with another first argument."""
        result: Tensor = self.function(first, *self.args[1:], **self.kwargs)
        return result
