"""What the density explorer reads: M of each image by learning rate and epoch, and its evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from memviz.checks import quoted
from memviz.study import Study
from memviz.tasks import Density


class Estimate(Protocol):
    """M of ``m`` images after some epochs with one learning rate, from ``t`` trainings.

    Everything is in nats.
    """

    @property
    def memorization(self) -> np.ndarray:
        """M: the log of the mean density in training minus that held out, ``[m]``."""

    @property
    def matched(self) -> np.ndarray:
        """M from equally many trainings on both sides, ``[m]``."""

    @property
    def null(self) -> tuple[np.ndarray, np.ndarray]:
        """Range of M where in and out are assigned at random, ``[m]`` each."""

    @property
    def null_of_quantile(self) -> tuple[float, float]:
        """The range of the .95 quantile of M there."""

    @property
    def inside(self) -> np.ndarray:
        """Log of the mean density over the trainings that had the image, ``[m]``."""

    @property
    def outside(self) -> np.ndarray:
        """The same over the trainings that had not, ``[m]``."""

    @property
    def log_p(self) -> np.ndarray:
        """Log-likelihoods, ``[t, m]``."""

    @property
    def is_in(self) -> np.ndarray:
        """Whether each training had the image, bool ``[t, m]``."""

    @property
    def held_out(self) -> float:
        """Mean log-likelihood of images that were not trained on; NaN if there are none."""


@dataclass(frozen=True)
class Nearest:
    """The images nearest to one image, nearest first.

    Attributes
    ----------
    trained : list of int
        Examples of the study, other than the image itself.
    generated : Tensor ``[k, ...]``
        Images that the model generated, as large as the study's own.
    trained_distances, generated_distances : list of float
    of : int
        How many images were generated.
    held_out_distance : float
        To the nearest image that was not trained on; NaN if there are none.
    """

    trained: list[int]
    trained_distances: list[float]
    generated: Tensor
    generated_distances: list[float]
    of: int
    held_out_distance: float


@runtime_checkable
class DensityTable(Protocol):
    """The trainings that the explorer shows, with one or several learning rates."""

    @property
    def rates(self) -> Sequence[float]:
        """The learning rates."""

    @property
    def epochs(self) -> Sequence[int]:
        """The epochs after which likelihoods were recorded."""

    @property
    def examples(self) -> np.ndarray:
        """Examples of the study that M is known of, int ``[m]``."""

    @property
    def of_model(self) -> tuple[float, int] | None:
        """Learning rate and epochs of the study's own model, if they are among these."""

    def estimate(self, rate: float, epoch: int) -> Estimate:
        """The estimate after ``epoch`` epochs with this learning rate."""

    def weights(self, rate: float, epoch: int) -> Mapping[str, Tensor] | None:
        """Weights of the model that was then trained on all of the images, if they were kept."""

    def nearest(self, example: int) -> Nearest | None:
        """The images nearest to an example, if they can be looked for."""

    def ratios(self) -> np.ndarray | None:
        """Distance to the nearest held-out image over that to the nearest generated, ``[m]``."""


def check_table(table: object, study: Study) -> DensityTable:
    """A table that fits the study.

    Raises
    ------
    TypeError, ValueError
        If it is no such table, is empty, or speaks of other examples; if the study judges no
        densities.
    """
    if not isinstance(study.task, Density):
        raise ValueError(
            f"the study's task is {quoted(study.task)}; the density explorer needs a model that "
            "returns log p(x) of each example, and task=mv.tasks.Density()."
        )
    if not isinstance(table, DensityTable):
        raise TypeError(
            f"table is {quoted(table)}; give a study made by mv.probes.density.density_study, "
            "which has its trainings with it, or a DensityTable of memviz.widgets.density."
        )
    examples = np.asarray(table.examples)
    if not len(table.rates) or not len(table.epochs) or not len(examples):
        raise ValueError(
            f"the table has {len(table.rates)} learning rates, {len(table.epochs)} epochs and "
            f"{len(examples)} images; it needs at least one of each."
        )
    if examples.min() < 0 or examples.max() >= len(study):
        raise ValueError(
            f"the table speaks of examples {examples.min()} to {examples.max()}, and the study has "
            f"{len(study):,}, 0 to {len(study) - 1:,}; give the study that it was measured on."
        )
    if len(np.unique(examples)) < len(examples):
        raise ValueError("the table names an example twice; give each of its images once.")
    return table
