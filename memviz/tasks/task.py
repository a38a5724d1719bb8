"""The protocol of a task: what a probe needs to know about a model's outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor

Inputs = Tensor | Mapping[str, Tensor]


class Task(Protocol):
    """Tells right from wrong: what a probe needs to know about a model's outputs."""

    def outputs(self, raw: Any) -> Tensor:
        """The tensor that is judged, one row an example, taken from what the model returned."""

    def predictions(self, outputs: Tensor) -> Tensor:
        """Predicted label of each example, int64 ``[n]``."""

    def margin(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """How far each example is on the right side, ``[n]``; right if above 0."""

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Loss of each example, ``[n]``."""
