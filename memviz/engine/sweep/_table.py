"""The table of a sweep: units × examples, with what is done and by which engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from memviz.study import Study
from memviz.units import Unit


@dataclass(eq=False)
class EffectTable:
    """Margin and loss of every example, and how they change when each unit is ablated.

    Attributes
    ----------
    study : Study
    units : tuple of Unit, ``U`` of them
    examples : int64 ``[n]``
        Indices into the study.
    how : str
        The intervention.
    engine : str
        ``"packed"``, ``"graph"``, ``"replay"`` or ``"hook"`` (all exact), or ``"estimate"``.
    why : str
        Why a slower engine answers, and for which layers; empty where the fastest one does.
    margin, loss : float32 ``[n]``
        With nothing ablated.
    margin_change, loss_change : float32 ``[U, n]``
        After minus before. Where a unit is not done, its estimate, or NaN without one.
    correct : bool ``[U, n]``
        Whether the example is right with the unit ablated.
    done : bool ``[U]``
        Which units are finished: exact, unless the engine is ``"estimate"``.
    """

    study: Study
    units: tuple[Unit, ...]
    examples: Tensor
    how: str
    engine: str
    margin: Tensor
    loss: Tensor
    margin_change: Tensor
    loss_change: Tensor
    correct: Tensor
    done: Tensor
    why: str = ""

    @classmethod
    def empty(
        cls,
        study: Study,
        units: tuple[Unit, ...],
        examples: Tensor,
        how: str,
        engine: str,
        outputs: Tensor,
    ) -> Self:
        """A table for a sweep to fill; ``outputs`` are those with nothing ablated."""
        labels = study.labels[examples].to(outputs.device)
        shape = (len(units), len(examples))
        return cls(
            study,
            units,
            examples,
            how,
            engine,
            study.task.margin(outputs, labels).float().cpu(),
            study.task.loss(outputs, labels).float().cpu(),
            torch.full(shape, torch.nan),
            torch.full(shape, torch.nan),
            torch.zeros(shape, dtype=torch.bool),
            torch.zeros(len(units), dtype=torch.bool),
        )

    def put(self, rows: Sequence[int], positions: Tensor, outputs: Tensor) -> None:
        """Store the outputs ``[rows, positions, ...]`` of some units on some examples."""
        task, count = self.study.task, len(rows)
        labels = self.study.labels[self.examples[positions]].to(outputs.device)
        labels = labels.repeat(count, *[1] * (labels.dim() - 1))
        flat = outputs.flatten(0, 1)
        margin = task.margin(flat, labels).float().cpu().view(count, -1)
        loss = task.loss(flat, labels).float().cpu().view(count, -1)
        place = torch.tensor(list(rows))[:, None], positions
        self.margin_change[place] = margin - self.margin[positions]
        self.loss_change[place] = loss - self.loss[positions]
        self.correct[place] = margin > 0

    @property
    def exact(self) -> Tensor:
        """Which units have exact values, bool ``[U]``."""
        return self.done & (self.engine != "estimate")

    @property
    def estimated(self) -> Tensor:
        """Which units have only an estimate, bool ``[U]``."""
        return ~self.exact & ~self.margin_change.isnan().any(1)

    def members(self, group: str) -> Tensor:
        """Positions of a group in ``examples``, int64, in the order of the study's examples."""
        self.study.group(group)
        order = self.examples.argsort(stable=True)
        return order[self.study.groups[group][self.examples[order]]]
