"""A study of a density: one model, and what trainings with and without each example say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memviz.checks import CountOrZero, Seed, checked
from memviz.models.vae import VAE, check_images, noise
from memviz.study import Study
from memviz.tasks import Density

from ._fits import CrossFit

Weights = Mapping[float, Mapping[int, Mapping[str, Tensor]]]


@dataclass(eq=False, repr=False)
class DensityStudy(Study):
    """A study whose task is :class:`memviz.tasks.Density`, with the trainings behind its labels.

    It is used as any other study. :func:`density_study` makes one.

    Parameters
    ----------
    fits : mapping of learning rate to CrossFit
        Over the study's examples, in their order.
    rate, epoch : float, int
        Those of the study's model; its labels are ``fits[rate].held_out(epoch)``.
    weights : mapping of learning rate to epoch to state dict
        Of models trained on all of the examples, as far as they were kept; those of ``rate`` are
        the study's ``checkpoints`` too.

    Raises
    ------
    ValueError
        As for a Study, or if the trainings are of other examples, or not of that rate and epoch.
    """

    fits: Mapping[float, CrossFit] = field(default_factory=dict)
    rate: float = 0.0
    epoch: int = 0
    weights: Weights = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rate not in self.fits:
            known = ", ".join(f"{rate:g}" for rate in self.fits) or "none"
            raise ValueError(f"there are no trainings of rate {self.rate:g}; choose from {known}.")
        _check_lengths(self.fits, len(self))
        if self.epoch not in self.fits[self.rate].epochs:
            known = ", ".join(map(str, self.fits[self.rate].epochs))
            raise ValueError(f"there is no epoch {self.epoch}; choose from {known}.")


@checked
def density_study(
    model: VAE,
    images: Tensor,
    fits: Mapping[float, CrossFit],
    *,
    rate: float | None = None,
    epoch: int | None = None,
    groups: Mapping[str, Any] | None = None,
    samples: CountOrZero = 64,
    noise_seed: Seed = 0,
    weights: Weights | None = None,
    **more: Any,
) -> DensityStudy:
    """The study of a VAE that was trained on the examples of its trainings on folds.

    Parameters
    ----------
    model : VAE
        In eval mode; trained on all of ``fits[rate].examples`` for ``epoch`` epochs.
    images : ``[n, ...]``, from 0 to 1
        The inputs of the trainings, in the same order.
    fits : mapping of learning rate to CrossFit
    rate, epoch : optional
        The model's; the largest rate and its last epoch by default.
    groups : mapping, optional
        By default ``clean``, the examples that were trained on, and ``test``, the others.
    samples, noise_seed : int
        Of the importance samples, as in the recipe of the trainings: with fewer, log p(x) of the
        model is smaller than theirs in the mean, and so is M.
    weights : mapping of learning rate to epoch to state dict, optional
    more
        ``class_names``, ``name``, ``summary``, ``origin``, as for :class:`memviz.study.Study`.

    Raises
    ------
    ValueError
        On images outside [0, 1], no samples, or as :class:`DensityStudy`.

    Examples
    --------
    >>> from functools import partial
    >>> from memviz.models.vae import MLPVAE
    >>> from memviz.probes.density import cross_fit
    >>> from memviz.training.density import VAERecipe
    >>> recipe = VAERecipe(partial(MLPVAE, 4, (8,), 2), epochs=(2,), samples=16)
    >>> images = torch.eye(4).repeat(3, 1)
    >>> fits = cross_fit(images, recipe, examples=range(9), folds=3, repeats=2, progress=False)
    >>> model = recipe.fit(images, torch.arange(9), seed=0)
    >>> density_study(model, images, {1e-3: fits}, samples=16)
    Study('study': MLPVAE, 12 examples: 9 clean, 3 test)
    """
    check_images(images)
    if not fits:
        raise ValueError("there are no trainings; give {learning rate: cross_fit(...)}.")
    if not samples:
        raise ValueError("samples is 0; log p(x) needs at least 1 importance sample.")
    _check_lengths(fits, len(images))
    rate = max(fits) if rate is None else rate
    if rate not in fits:
        known = ", ".join(f"{other:g}" for other in fits)
        raise ValueError(f"there are no trainings of rate {rate:g}; choose from {known}.")
    epoch = fits[rate].epochs[-1] if epoch is None else epoch
    weights = {} if weights is None else weights
    return DensityStudy(
        model,
        {
            "images": images,
            "noise": noise(range(len(images)), samples, model.latent, seed=noise_seed),
        },
        fits[rate].held_out(epoch),
        dict(_groups(len(images), fits[rate]) if groups is None else groups),
        images=_shown(images),
        checkpoints=weights.get(rate, {}),
        task=Density(),
        fits=fits,
        rate=rate,
        epoch=epoch,
        weights=weights,
        **more,
    )


def _check_lengths(fits: Mapping[float, CrossFit], n: int) -> None:
    for rate, of_rate in fits.items():
        if of_rate.log_p.shape[2] != n:
            raise ValueError(
                f"the trainings of rate {rate:g} know {of_rate.log_p.shape[2]:,} examples and the "
                f"study has {n:,}; give those of its inputs."
            )


def _groups(n: int, fits: CrossFit) -> dict[str, Tensor]:
    trained = torch.zeros(n, dtype=torch.bool)
    trained[fits.examples] = True
    return {name: mask for name, mask in (("clean", trained), ("test", ~trained)) if mask.any()}


def _shown(images: Tensor) -> np.ndarray | None:
    """Grey images for the gallery, if that is what they are."""
    if images.dim() == 4 and images.shape[1] == 1:
        images = images[:, 0]
    if images.dim() != 3:
        return None
    grey: np.ndarray = (images * 255).round().byte().cpu().numpy()
    return grey
