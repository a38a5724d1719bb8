"""Kinds of arguments beyond their type: seeds, counts and shares, each with its range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True)
class Between:
    """A number from ``low`` to ``high``, both included unless ``above`` is set.

    Examples
    --------
    >>> Between(1).holds(0), Between(0, 1).holds(1), Between(0, above=True).holds(0)
    (False, True, False)
    """

    low: float
    high: float | None = None
    above: bool = False

    def holds(self, value: float) -> bool:
        """Whether the number is in this range."""
        if value < self.low or (self.above and value == self.low):
            return False
        return self.high is None or value <= self.high

    @property
    def words(self) -> str:
        """The range in words, to stand after "a number"."""
        if self.above:
            return f" above {self.low}" + ("" if self.high is None else f", up to {self.high}")
        return (
            f" of at least {self.low}" if self.high is None else f" from {self.low} to {self.high}"
        )


# Both PyTorch and NumPy take these.
Seed = Annotated[int, Between(0, 2**63 - 1)]
Count = Annotated[int, Between(1, 10**9)]
CountOrZero = Annotated[int, Between(0, 10**9)]
Share = Annotated[float, Between(0, 1)]
# Beyond it float32 overflows.
Positive = Annotated[float, Between(0, 1e30, above=True)]
