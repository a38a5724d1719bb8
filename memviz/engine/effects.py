"""Effects: what ablating one unit at a time does to each example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from memviz.engine.answers import of_example, of_group, of_unit
from memviz.scores import Scores
from memviz.study import Study
from memviz.units import Unit, UnitsLike

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


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
        After minus before; where not done, the estimate if one was made, else NaN.
    correct : bool ``[U, n]``
        Right with the unit ablated.
    done : bool ``[U]``
        Which units have their values: exact ones, unless the path is ``"estimate"``.

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

    def put(self, rows: Sequence[int], positions: Tensor, outputs: Tensor) -> None:
        """Store some units' outputs ``[rows, positions, ...]`` on some examples."""
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
        return self.done & (self.path != "estimate")

    @property
    def estimated(self) -> Tensor:
        """Which units have an estimate only, bool ``[U]``."""
        return ~self.exact & ~self.margin_change.isnan().any(1)

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
        return of_group(self, group, against, on)

    def of_example(self, example: int, on: str = "margin") -> Scores:
        """Who holds this example: its drop under the ablation of each unit.

        Parameters
        ----------
        example : int
            The study's index.
        on : str
            ``"margin"`` (logits lost) or ``"loss"`` (nats gained).

        Returns
        -------
        Scores
            Over units; its null is the same number for other examples, at most 200 drawn at
            random (none where only one example was swept).

        Raises
        ------
        IndexError
            If the example was not swept.
        """
        return of_example(self, example, on)

    def of_unit(self, unit: UnitsLike, on: str = "margin") -> Scores:
        """What this unit holds: the drop of each example under its ablation.

        Parameters
        ----------
        unit : Unit or text
            One unit, for example ``"conv4:59"``.
        on : str
            ``"margin"`` (logits lost) or ``"loss"`` (nats gained).

        Returns
        -------
        Scores
            Over examples; its null is the same number for other units of the layer, at most 200
            drawn at random (none where no other was swept).

        Raises
        ------
        ValueError
            If the unit was not swept.
        """
        return of_unit(self, unit, on)

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

    def atlas(self, units: int = 120, examples: int = 300, on: str = "margin") -> Figure:
        """Units × examples, both clustered, with the mean drop of each beside them.

        Parameters
        ----------
        units, examples : int
            How many at most: those with the largest root mean square change.
        on : str
            ``"margin"`` or ``"loss"``.
        """
        from memviz.plots.atlas import atlas

        return atlas(self, units, examples, on)

    def save(self, path: str | Path) -> None:
        """Write everything but the study as safetensors; whole or not at all."""
        from memviz.engine.stored import save_effects

        save_effects(self, path)

    @classmethod
    def load(cls, path: str | Path, study: Study) -> Effects:
        """Read what ``save`` or ``sweep(path=...)`` wrote.

        Raises
        ------
        ValueError
            If the file is damaged, no file of effects, or of other weights, inputs or labels.
        """
        from memviz.engine.stored import load_effects

        return load_effects(path, study)

    @property
    def frame(self) -> pd.DataFrame:
        """One row a unit and example: margin_change, loss_change, correct, exact."""
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
                "exact": np.repeat(self.exact.numpy(), count),
            }
        )

    def __repr__(self) -> str:
        left = int((self.estimated & ~self.done).sum())
        return (
            f"Effects({self.how} on {len(self.units):,} units × {len(self.examples):,} examples, "
            f"{int(self.done.sum()):,} done, "
            + (f"{left:,} estimated, " if left else "")
            + f"path {self.path})"
        )
