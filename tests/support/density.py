"""A small density study, and likelihoods of trainings made up so that M is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.special import logsumexp
from torch import Tensor

import memviz as mv
from memviz.models.vae import MLPVAE, binarized, noise
from memviz.tasks import Density
from memviz.widgets.density import Nearest

TRAINED, HELD_OUT = 40, 8  # images
TRAININGS, FOLDS = 20, 5
PLANTED = {"planted": range(6), "clean": range(6, TRAINED), "test": range(TRAINED, 48)}


def density_study(**changes: object) -> mv.Study:
    """48 binary images; a VAE with 28 units to ablate; labels that make M about 10 nats."""
    generator = torch.Generator().manual_seed(0)
    n = TRAINED + HELD_OUT
    images = binarized((torch.rand(n, 1, 8, 8, generator=generator) < 0.3).float())
    model = MLPVAE(64, (12,), latent=4, seed=0).eval()
    inputs = {"images": images, "noise": noise(range(n), samples=4, latent=4)}
    with torch.no_grad():
        labels = model(**inputs) - 10.0 * (torch.arange(n) < 6)
    given = {"groups": PLANTED, "task": Density(), "name": "strokes"}
    return mv.Study(model, inputs, labels, **{**given, **changes})


@dataclass
class PlantedEstimate:
    """One learning rate and epoch: in training, image i is ``gain[i]`` nats likelier."""

    log_p: np.ndarray
    is_in: np.ndarray
    held_out: float
    null_of_quantile: tuple[float, float] = (0.1, 0.4)
    inside: np.ndarray = field(init=False)
    outside: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.inside = _log_mean_exp(self.log_p, self.is_in)
        self.outside = _log_mean_exp(self.log_p, ~self.is_in)

    @property
    def memorization(self) -> np.ndarray:
        return self.inside - self.outside

    @property
    def null(self) -> tuple[np.ndarray, np.ndarray]:
        return 0.01 * self.memorization, 0.02 * self.memorization

    @property
    def matched(self) -> np.ndarray:
        return self.memorization - 0.1


class PlantedTable:
    """M grows with epochs and learning rate, and most for the planted images."""

    rates: Sequence[float] = (1e-4, 1e-3)
    epochs: Sequence[int] = (20, 40, 60)
    of_model = (1e-3, 60)

    def __init__(self, images: int = TRAINED, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.examples = np.arange(images)
        self.seen: list[tuple[float, int]] = []
        fold = np.stack([rng.permutation(images) % FOLDS for _ in range(TRAININGS // FOLDS)])
        self.is_in = np.concatenate([fold != k for k in range(FOLDS)])
        self.noise = rng.normal(0, 1, self.is_in.shape)
        self.nearest_ratio: np.ndarray | None = rng.normal(1.1, 0.1, images)
        self.kept: dict[tuple[float, int], dict[str, Tensor]] = {}

    def nearest(self, example: int) -> Nearest | None:
        if self.nearest_ratio is None:
            return None
        after = [(example + step) % len(self.examples) for step in range(1, 5)]
        drawn = torch.rand(4, 64, generator=torch.Generator().manual_seed(example))
        return Nearest(after, [2.5, 2.6, 2.8, 2.9], drawn, [2.2, 2.3, 2.4, 2.5], 30, 2.8)

    def ratios(self) -> np.ndarray | None:
        return self.nearest_ratio

    def weights(self, rate: float, epoch: int) -> dict[str, Tensor] | None:
        return self.kept.get((rate, epoch))

    def estimate(self, rate: float, epoch: int) -> PlantedEstimate:
        self.seen.append((rate, epoch))
        size = epoch / 60 * (1.0 if rate > 5e-4 else 0.3)
        gain = size * np.where(self.examples < 6, 30.0 - self.examples, 2.0)
        log_p = -40 + 10 * size + gain * self.is_in + self.noise
        return PlantedEstimate(log_p, self.is_in, -30 + 8 * size)


def _log_mean_exp(log_p: np.ndarray, mask: np.ndarray) -> np.ndarray:
    kept = np.where(mask, log_p, -np.inf)
    return np.asarray(logsumexp(kept, axis=0) - np.log(mask.sum(0)))
