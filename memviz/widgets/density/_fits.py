"""The trainings behind a density study, as the explorer reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np
import torch
from torch import Tensor

from memviz.probes.density import CrossFit, DensityStudy, nearest_ratio, neighbours

from ._table import Nearest

_NEAREST = 4  # images of each kind
_GENERATED = 1000  # images, where none is held out


@dataclass(frozen=True)
class FitEstimate:
    """M of the examples of one learning rate after one epoch."""

    memorization: np.ndarray
    matched: np.ndarray
    null: tuple[np.ndarray, np.ndarray]
    null_of_quantile: tuple[float, float]
    inside: np.ndarray
    outside: np.ndarray
    log_p: np.ndarray
    is_in: np.ndarray
    held_out: float

    @classmethod
    def of(cls, fits: CrossFit, epoch: int) -> FitEstimate:
        """Computed from the trainings."""
        scores = fits.memorization(epoch)
        matched = fits.memorization(epoch, matched=True, null_draws=0)
        assert scores.null is not None
        quantiles = np.nanquantile(scores.null.values, 0.95, axis=1)
        low, high = np.percentile(quantiles, [2.5, 97.5])
        return cls(
            scores.values,
            matched.values,
            scores.null.interval,
            (float(low), float(high)),
            fits.in_training(epoch).numpy(),
            fits.held_out(epoch)[fits.examples].numpy(),
            fits.log_p[:, fits.epochs.index(epoch)][:, fits.examples].numpy(),
            fits.inside.numpy(),
            fits.held_out_log_p(epoch),
        )


class FitsTable:
    """The trainings of a study made by :func:`memviz.probes.density.density_study`.

    Parameters
    ----------
    study : DensityStudy

    Raises
    ------
    ValueError
        If the learning rates have no epoch in common, or other examples each.
    """

    def __init__(self, study: DensityStudy) -> None:
        self._study = study
        first, *others = study.fits.values()
        shared = set(first.epochs).intersection(*(fits.epochs for fits in others))
        same = all(torch.equal(fits.examples, first.examples) for fits in others)
        if not shared or not same:
            what = "examples" if shared else "epochs"
            raise ValueError(
                f"the trainings of this study's learning rates are of different {what}; give those "
                "of the same to be compared."
            )
        self.rates, self.epochs = sorted(study.fits), sorted(shared)
        self.examples: np.ndarray = first.examples.numpy()
        self.of_model = (study.rate, study.epoch)

    def estimate(self, rate: float, epoch: int) -> FitEstimate:
        """The estimate after ``epoch`` epochs with this learning rate."""
        return FitEstimate.of(self._study.fits[rate], epoch)

    def weights(self, rate: float, epoch: int) -> Mapping[str, Tensor] | None:
        """Weights of the model that was then trained on all of the images, if they were kept."""
        return self._study.weights.get(rate, {}).get(epoch)

    def nearest(self, example: int) -> Nearest | None:
        """The images nearest to an example."""
        images, trained = self._images, torch.from_numpy(self.examples)
        one, generated = images[[example]], self._generated
        k = min(_NEAREST, len(trained) - 1, len(generated))
        if k < 1:
            return None
        place = (trained == example).nonzero().flatten()
        skip = place if len(place) else torch.tensor([-1])
        near = neighbours(one, images[trained], k, skip=skip)
        made = neighbours(one, generated, k)
        away = float("nan")
        if len(self._held_out):
            itself = (self._held_out == example).nonzero().flatten()
            skip = itself if len(itself) else torch.tensor([-1])
            if len(self._held_out) > 1:
                found = neighbours(one, images[self._held_out], 1, skip=skip)
                away = float(found["distance"].iloc[0])
        return Nearest(
            trained[near["neighbour"].to_numpy().copy()].tolist(),
            near["distance"].tolist(),
            generated[made["neighbour"].to_numpy().copy()],
            made["distance"].tolist(),
            len(generated),
            away,
        )

    def ratios(self) -> np.ndarray | None:
        """Distance to the nearest held-out image over that to the nearest generated, ``[m]``."""
        if not len(self._held_out):
            return None
        images = self._images
        trained = images[torch.from_numpy(self.examples)]
        return np.asarray(nearest_ratio(trained, images[self._held_out], self._generated))

    @cached_property
    def _images(self) -> Tensor:
        given = self._study.whole_inputs()
        images = next(iter(given.values())) if isinstance(given, Mapping) else given
        return images.float().cpu()

    @cached_property
    def _held_out(self) -> Tensor:
        kept = torch.ones(len(self._study), dtype=torch.bool)
        kept[torch.from_numpy(self.examples)] = False
        return kept.nonzero().flatten()

    @cached_property
    def _generated(self) -> Tensor:
        """As many as are held out: the larger set would be nearer by its size alone."""
        generate = cast(Callable[[int], Tensor], self._study.model.generate)
        made = generate(len(self._held_out) or _GENERATED)
        return torch.as_tensor(made).cpu().view(-1, *self._images.shape[1:])
