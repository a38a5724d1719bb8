"""What the trainings of a seed show: M of noise and of digits, its quantiles, and other tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from memviz.models.vae import binarized
from memviz.probes.density import CrossFit, DensityStudy, nearest_ratio

from .._kept import Kept, folder_to_prepare, warn_not_kept
from ._recipe import EPOCHS, RATES, RECIPE, SHIPPED, TRAINING_SECONDS, examples, fits, write

SHIPPED_SEEDS = (0, 1, 2)  # of 1 and 2 the summary alone, so that three seeds are printed at once
MINUTES = TRAINING_SECONDS / 60  # To prepare one seed on two cores.
_GROUPS = {"unique": "memorized", "duplicates": "duplicates", "digits": "clean"}


@dataclass(frozen=True)
class Summary:
    """Measures of a seed, in nats, float64 ``[rates, epochs]`` each, by name.

    ``unique``, ``duplicates``, ``digits``: median M of the noise that occurs once, of that which
    occurs often, and of the digits; ``q95`` the .95 quantile over the digits. With ``null_`` before
    their names, the same with in and out of training drawn at random, the mean over draws.
    ``held_out_log_p``: mean log p of test digits.
    """

    tables: Mapping[str, Tensor]

    def last(self, name: str) -> float:
        """A measure at the last epoch of the larger learning rate."""
        return float(self.tables[name][-1, -1])

    def by_rate(self, name: str) -> dict[str, dict[str, float]]:
        """A measure by learning rate and epoch."""
        return {
            f"{rate:g}": {str(epoch): float(v) for epoch, v in zip(EPOCHS, row, strict=True)}
            for rate, row in zip(RATES, self.tables[name], strict=True)
        }


def summary(seed: int = 0) -> Summary:
    """The measures of a seed; those of seeds 0, 1 and 2 come with the package.

    Examples
    --------
    >>> found = summary(0)
    >>> found.last("unique") > 5 * found.last("duplicates") > 0
    True
    """
    kept = _kept(seed)
    tables = kept.read("summary")
    if tables is None:
        tables = measured(seed, fits(seed))
        try:
            kept.write("summary", tables)
        except OSError as error:
            warn_not_kept(error)
    return Summary(tables)


def prepare(seeds: Iterable[int] = SHIPPED_SEEDS, folder: str | Path | None = None) -> Path:
    """Train from the recipe, and write tables, weights and summaries; returns their folder."""
    target = folder_to_prepare() if folder is None else Path(folder)
    for seed in seeds:
        if seed in SHIPPED or seed not in SHIPPED_SEEDS:
            trainings = write(seed, target)
        else:
            trainings = fits(seed)
        _kept(seed).write("summary", measured(seed, trainings), target)
        print(f"density, seed {seed}: written to {target}")
    return target


def measured(seed: int, trainings: Mapping[float, CrossFit]) -> dict[str, Tensor]:
    """The measures themselves, from trainings at every rate."""
    _, groups = examples(seed)
    rows = [[_measured(trainings[rate], epoch, groups) for epoch in EPOCHS] for rate in RATES]
    return {
        name: torch.tensor([[cell[name] for cell in row] for row in rows], dtype=torch.float64)
        for name in rows[0][0]
    }


def _measured(trainings: CrossFit, epoch: int, groups: Mapping[str, Tensor]) -> dict[str, float]:
    scores = trainings.memorization(epoch)
    assert scores.null is not None and scores.examples is not None
    tables = {"": scores.values[None], "null_": scores.null.values}  # [draws, examples]
    found = {"held_out_log_p": trainings.held_out_log_p(epoch)}
    for start, values in tables.items():
        for name, group in _GROUPS.items():
            members = groups[group].numpy()[scores.examples]
            found[f"{start}{name}"] = float(np.median(values[:, members], axis=1).mean())
            if name == "digits":
                high = np.quantile(values[:, members], 0.95, axis=1)
                found[f"{start}q95"] = float(high.mean())
    return found


def nearest_ratios(study: DensityStudy, seed: int = 0) -> Tensor:
    """The nearest-neighbour ratio of each training image, float64 ``[training images]``.

    Against the test digits, and as many images that the study's model generates.
    """
    assert isinstance(study.inputs, Mapping)
    images, test = study.inputs["images"], study.group("test")
    chances = study.model.generate(len(test), seed=seed)  # type: ignore[operator]
    generated = binarized(chances, seed=seed).view(len(test), *images.shape[1:])
    trained = study.fits[study.rate].examples
    return nearest_ratio(images[trained], images[test], generated)


def _kept(seed: int) -> Kept:
    facts = {"recipe": RECIPE, "seed": str(seed)}
    return Kept(f"density-seed{seed}", facts, seed in SHIPPED_SEEDS)
