"""One unit of a layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ._text import name_in_text


@dataclass(frozen=True, order=True, slots=True)
class Unit:
    """One unit: a channel, a feature, a neuron or a head of a layer.

    Examples
    --------
    >>> str(Unit("conv4", 59)), str(Unit("my layer", 0))
    ('conv4:59', '"my layer":0')
    """

    layer: str
    index: int

    def __str__(self) -> str:
        return f"{name_in_text(self.layer)}:{self.index}"

    def __iter__(self) -> Iterator[Any]:
        yield self.layer
        yield self.index
