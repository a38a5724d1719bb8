"""Scores of units that also name the image or class that owns each unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from memviz.checks import checked
from memviz.scores import Scores
from memviz.study import Study

if TYPE_CHECKING:
    import pandas as pd

SOURCE = "Wang et al. 2024 (arXiv:2409.19069)"


@dataclass(frozen=True, eq=False, repr=False)
class UnitScores(Scores):
    """Scores of units, each with the example or class that owns it.

    Attributes
    ----------
    owners : int64 ``[rows]``
        The study's index of the example (for ClassMem, the class) that activates the unit most, of
        several that tie one drawn by the seed; -1 for a dead unit.
    held_out : float ``[rows]``, optional
        The same measure on as many held-out images.
    """

    owners: np.ndarray | None = None
    held_out: np.ndarray | None = None

    @property
    def dead(self) -> np.ndarray:
        """Units that never fire, bool ``[rows]``; their score is NaN, since it would be 0 / 0."""
        return np.asarray(np.isnan(self.values))

    @property
    def frame(self) -> pd.DataFrame:
        """One row per unit: value, owner and nulls."""
        frame = super().frame
        frame.insert(3, "owner", self.owners)
        if self.held_out is not None:
            frame["held_out"] = self.held_out
        return frame

    def __repr__(self) -> str:
        dead = int(self.dead.sum())
        notes = f"\n{dead} of {len(self)} units are dead (never fire): NaN" if dead else ""
        if self.held_out is not None:
            means = [float(np.nanmean(v)) if not np.isnan(v).all() else np.nan
                     for v in (self.values, self.held_out)]  # fmt: skip
            notes += f"\nmean {means[0]:.3f}; on as many held-out images {means[1]:.3f}"
        return super().__repr__() + notes


@checked
def training_examples(study: Study) -> Tensor:
    """All examples except the group ``test``, int64; all if that leaves none."""
    outside = ~study.groups.get("test", torch.zeros(len(study), dtype=torch.bool))
    return outside.nonzero()[:, 0] if bool(outside.any()) else torch.arange(len(study))
