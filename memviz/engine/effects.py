"""Effects: what ablating one unit at a time does to each example."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from memviz.scores import Null, Scores
from memviz.study import Study
from memviz.units import Unit

if TYPE_CHECKING:
    import pandas as pd

_NULL_DRAWS = 200


@dataclass(eq=False)
class Effects:
    """Margin and loss change of every example under the ablation of each unit alone.

    Attributes
    ----------
    study : Study
    units : tuple of Unit, ``U`` of them
    examples : int64 ``[n]``
        The study's indices.
    how : str
        The intervention.
    path : str
        ``"replay"`` or ``"hook"`` (both exact), or ``"estimate"``.
    margin, loss : float32 ``[n]``
        Nothing ablated.
    margin_change, loss_change : float32 ``[U, n]``
        After minus before; NaN where not done.
    correct : bool ``[U, n]``
        Right with the unit ablated.
    done : bool ``[U]``
        Which units have their values.

    Examples
    --------
    >>> from memviz.engine.sweep import sweep
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    >>> groups = {"memorized": range(2), "clean": range(2, 6)}
    >>> study = Study(model.eval(), torch.randn(6, 4), torch.zeros(6), groups)
    >>> sweep(study, progress=False).scores("memorized", "clean").top(3).layers.keys()
    dict_keys(['0'])
    """

    study: Study
    units: tuple[Unit, ...]
    examples: Tensor
    how: str
    path: str
    margin: Tensor
    loss: Tensor
    margin_change: Tensor
    loss_change: Tensor
    correct: Tensor
    done: Tensor

    @classmethod
    def empty(
        cls,
        study: Study,
        units: tuple[Unit, ...],
        examples: Tensor,
        how: str,
        path: str,
        outputs: Tensor,
    ) -> Effects:
        """Room for the values, filled by a sweep."""
        labels = study.labels[examples].to(outputs.device)
        shape = (len(units), len(examples))
        return cls(
            study,
            units,
            examples,
            how,
            path,
            study.task.margin(outputs, labels).float().cpu(),
            study.task.loss(outputs, labels).float().cpu(),
            torch.full(shape, torch.nan),
            torch.full(shape, torch.nan),
            torch.zeros(shape, dtype=torch.bool),
            torch.zeros(len(units), dtype=torch.bool),
        )

    def put(self, row: int, positions: Tensor, outputs: Tensor) -> None:
        """Store one unit's outputs on some examples."""
        labels = self.study.labels[self.examples[positions]].to(outputs.device)
        margin = self.study.task.margin(outputs, labels).float().cpu()
        loss = self.study.task.loss(outputs, labels).float().cpu()
        self.margin_change[row, positions] = margin - self.margin[positions]
        self.loss_change[row, positions] = loss - self.loss[positions]
        self.correct[row, positions] = margin > 0

    def members(self, group: str) -> Tensor:
        """Positions of a group among ``examples``."""
        self.study.group(group)
        return self.study.groups[group][self.examples].nonzero()[:, 0]

    def scores(
        self, group: str | None = None, against: str | None = None, on: str = "margin"
    ) -> Scores:
        """Mean drop on a group, minus the mean drop on another, for each unit.

        Parameters
        ----------
        group, against : str, optional
            Names of groups: the study's first and second unless given; ``against=""`` for none.
        on : str
            ``"margin"`` (logits lost) or ``"loss"`` (nats gained).

        Returns
        -------
        Scores
            Its null draws groups of the same sizes at random from the two groups together, so
            that membership says nothing (from all examples, where there is no second group).
        """
        names = list(self.study.groups)
        group = names[0] if group is None else group
        against = next((n for n in names if n != group), "") if against is None else against
        if on not in ("margin", "loss"):
            raise ValueError(f"on is {on!r}; use 'margin' or 'loss'.")
        change = -self.margin_change if on == "margin" else self.loss_change
        mine = self.members(group)
        rest = self.members(against) if against else torch.arange(0)
        if len(mine) == 0 or (against and len(rest) == 0):
            raise ValueError(f"none of the examples swept is in {group!r} or in {against!r}.")
        values = _contrast(change, mine, rest)
        what = "logits of margin lost" if on == "margin" else "nats of loss gained"
        return Scores(
            name=f"effect on {group}" + (f" against {against}" if against else ""),
            measure=f"{what}, mean of {len(mine):,}"
            + (f" {group} − mean of {len(rest):,} {against}" if against else f" {group}"),
            values=values.double().numpy(),
            units=self.units,
            exact=np.full(len(self.units), self.path != "estimate"),
            higher=f"holds {group} examples" + (f" more than {against} ones" if against else ""),
            source="memviz: exact ablation, one unit at a time"
            if self.path != "estimate"
            else "first-order: gradient × activation (Molchanov et al. 2017; Maini et al. 2023, 5)",
            null=self._null(change, mine, rest),
        )

    def _null(self, change: Tensor, mine: Tensor, rest: Tensor) -> Null:
        generator = torch.Generator().manual_seed(0)
        pool = torch.cat([mine, rest]) if len(rest) else torch.arange(len(self.examples))
        known = change[:, pool].nan_to_num()
        weights = torch.zeros(_NULL_DRAWS, len(pool))
        others = len(pool) - len(mine)
        for draw in range(_NULL_DRAWS):
            order = torch.randperm(len(pool), generator=generator)
            weights[draw, order[: len(mine)]] = 1 / len(mine)
            if len(rest):
                weights[draw, order[len(mine) :]] = -1 / others
        words = f"{_NULL_DRAWS} draws of {len(mine):,} examples at random in place of the group"
        return Null(words, (weights @ known.T).numpy())

    def lost(self, group: str) -> Tensor:
        """How many of a group each unit alone turns from right to wrong, int64 ``[U]``."""
        members = self.members(group)
        before = self.margin[members] > 0
        counts: Tensor = (before & ~self.correct[:, members]).sum(1)
        return torch.where(self.done, counts, 0)

    def most_lost(self, k: int = 6) -> Tensor:
        """The examples whose margin each unit holds most, int64 ``[U, k]``."""
        k = min(k, len(self.examples))
        drop = (-self.margin_change).nan_to_num(-torch.inf)
        return self.examples[drop.topk(k, dim=1).indices]

    @property
    def frame(self) -> pd.DataFrame:
        """One row a unit and example: margin_change, loss_change, correct."""
        import pandas as pd

        count = len(self.examples)
        return pd.DataFrame(
            {
                "layer": np.repeat([unit.layer for unit in self.units], count),
                "unit": np.repeat([unit.index for unit in self.units], count),
                "example": np.tile(self.examples.numpy(), len(self.units)),
                "margin_change": self.margin_change.flatten().numpy(),
                "loss_change": self.loss_change.flatten().numpy(),
                "correct": self.correct.flatten().numpy(),
            }
        )

    def __repr__(self) -> str:
        return (
            f"Effects({self.how} on {len(self.units):,} units × {len(self.examples):,} examples, "
            f"{int(self.done.sum()):,} done, path {self.path})"
        )


def _contrast(change: Tensor, mine: Tensor, rest: Tensor) -> Tensor:
    value: Tensor = change[:, mine].mean(1)
    return value - change[:, rest].mean(1) if len(rest) else value
