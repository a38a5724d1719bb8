"""The protocol of a task: what a probe needs to know about a model's outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor

Inputs = Tensor | Mapping[str, Tensor]


class Task(Protocol):
    """Tells right from wrong: what a probe needs to know about a model's outputs.

    ``n`` is the number of examples; a task may be any object with these four methods, for example
    :class:`memviz.tasks.Classification`.
    """

    def outputs(self, raw: Any) -> Tensor:
        """The tensor to judge, ``[n, ...]``, taken from whatever the model returned."""

    def predictions(self, outputs: Tensor) -> Tensor:
        """Predicted label of each example, int64 ``[n]``."""

    def margin(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """How far each example is from the decision boundary, ``[n]``; right if above 0."""

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Loss of each example, ``[n]``."""
