"""Effects: what ablating one unit at a time does to each example."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from memviz.checks import quoted
from memviz.scores import Scores
from memviz.study import Study
from memviz.units import UnitsLike

from ._answers import drop, of_example, of_group, of_unit
from ._stored import load_table, save_table
from ._table import EffectTable

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_SORTED = 1 << 22  # values at a time


@dataclass(eq=False)
class Effects(EffectTable):
    """Margin and loss change of every example when each unit alone is ablated.

    The fields are those of :class:`EffectTable`: ``units`` (``U`` of them), ``examples`` ``[n]``,
    ``how`` and ``engine``; ``margin`` and ``loss`` ``[n]`` with nothing ablated; ``margin_change``,
    ``loss_change`` and ``correct`` ``[U, n]``; ``done`` ``[U]``.

    Examples
    --------
    >>> from memviz.engine.sweep import sweep
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    >>> groups = {"memorized": range(2), "clean": range(2, 6)}
    >>> study = Study(model.eval(), torch.randn(6, 4), torch.zeros(6), groups)
    >>> sweep(study, progress=False).scores("memorized", "clean").top(3).layers.keys()
    dict_keys(['0'])
    """

    def scores(
        self, group: str | None = None, against: str | None = None, on: str = "margin"
    ) -> Scores:
        """Mean drop on a group, minus the mean drop on another, for each unit.

        Parameters
        ----------
        group, against : str, optional
            The study's first and second groups by default; ``against=""`` for none.
        on : str
            ``"margin"`` (logits lost) or ``"loss"`` (nats gained).

        Returns
        -------
        Scores
            Over units. The null draws groups of the same sizes at random from both groups
            together, or from all examples if there is no second group.

        Raises
        ------
        ValueError
            If a group is unknown or none of its examples was swept.
        """
        return of_group(self, group, against, on)

    def of_example(self, example: int, on: str = "margin") -> Scores:
        """Which units hold this example: its drop when each of them is ablated.

        Parameters
        ----------
        example : int
            Its index in the study.
        on : str
            ``"margin"`` (logits lost) or ``"loss"`` (nats gained).

        Returns
        -------
        Scores
            Over units. The null is the same number for other examples, at most 200 drawn at
            random; there is none if only one example was swept.

        Raises
        ------
        IndexError
            If the example was not swept.
        """
        return of_example(self, example, on)

    def of_unit(self, unit: UnitsLike, on: str = "margin") -> Scores:
        """Which examples this unit holds: the drop of each when the unit is ablated.

        Parameters
        ----------
        unit : Unit or text
            One unit, for example ``"conv4:59"``.
        on : str
            ``"margin"`` (logits lost) or ``"loss"`` (nats gained).

        Returns
        -------
        Scores
            Over examples. The null is the same number for other units of the layer, at most 200
            drawn at random; there is none if no other was swept.

        Raises
        ------
        ValueError
            If the unit was not swept.
        """
        return of_unit(self, unit, on)

    def lost(self, group: str) -> Tensor:
        """How many of a group turn from right to wrong without each unit, int64 ``[U]``."""
        members = self.members(group)
        before = self.margin[members] > 0
        counts: Tensor = (before & ~self.correct[:, members]).sum(1)
        return torch.where(self.done, counts, 0)

    def most_lost(self, k: int = 6) -> Tensor:
        """The k examples whose margin drops most without each unit, int64 ``[U, k]``.

        Equal drops are ordered by example; all examples are listed if there are fewer than k.

        Raises
        ------
        ValueError
            If k is no whole number from 1.
        """
        k = _count("k", k)
        examples, by_example = self.examples.sort(stable=True)
        # A few units at a time, since a sort takes three times the memory of what it sorts.
        step = max(1, _SORTED // max(1, len(examples)))
        rows = [
            part[:, by_example].nan_to_num(torch.inf).argsort(dim=1, stable=True)[:, :k]
            for part in self.margin_change.split(step)
        ]
        return examples[torch.cat(rows)]

    def atlas(self, units: int = 120, examples: int = 300, on: str = "margin") -> Figure:
        """A heat map of units × examples, both clustered, with the mean drop of each.

        Parameters
        ----------
        units, examples : int
            The most to show: those with the largest root mean square change.
        on : str
            ``"margin"`` or ``"loss"``.

        Raises
        ------
        ValueError
            If ``units`` or ``examples`` is no whole number from 1, or no unit has values.
        """
        from memviz.plots.atlas import atlas

        return atlas(self, *drop(self, on), _count("units", units), _count("examples", examples))

    def save(self, path: str | Path) -> None:
        """Write everything but the study as safetensors, atomically."""
        save_table(self, path)

    @classmethod
    def load(cls, path: str | Path, study: Study) -> Effects:
        """Read a file that ``save`` or ``sweep(path=...)`` wrote.

        Raises
        ------
        ValueError
            If the file is damaged, holds no effects, or belongs to other weights, inputs or labels.
        """
        return cls(**load_table(path, study))

    @property
    def path(self) -> str:
        """The former name of ``engine``."""
        warnings.warn(
            "effects.path is now effects.engine; a path is a file.",
            DeprecationWarning,
            stacklevel=2,
        )
        return self.engine

    @property
    def frame(self) -> pd.DataFrame:
        """A table with one row per unit and example: margin_change, loss_change, correct, exact."""
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
            + f"engine {self.engine}"
            + (f": {self.why})" if self.why else ")")
        )


def _count(what: str, given: Any) -> int:
    value = given.tolist() if hasattr(given, "tolist") else given
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{what} is {quoted(given)}; give a whole number from 1.")
    return value
