"""A VAE of digits that has memorized noise: examples, trainings and the study.

Recipe. 600 of scikit-learn's digits (8x8, a pixel is 1 from half of its range on), 6 images of
noise that occur once and 3 that occur five times each, each pixel 1 with a chance of one half; 200
further digits are never trained on. The VAE (64-128-8-128-64) is trained with Adam, batches of 128,
300 epochs, at two learning rates. M is estimated by 5 folds, 4 times, with 64 importance samples;
log-likelihoods are kept in steps of 1/64 nat and weights in half precision, also where they are
trained anew. A seed draws the split, the noise, the folds and the initial weights.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from memviz.checks import Count, Seed, checked
from memviz.models.vae import MLPVAE
from memviz.probes.density import CrossFit, DensityStudy, cross_fit, density_study
from memviz.training.density import VAERecipe

from .. import _weight_files as weight_files
from .._kept import Kept, announce, warn_not_kept

RECIPE = "density-1"  # Change it with any setting below: other stored files are refused.
DIGITS, UNIQUE, TWINS, COPIES, TEST = 600, 6, 3, 5, 200
TRAINING = DIGITS + UNIQUE + TWINS * COPIES
HIDDEN, LATENT = 128, 8
RATES, EPOCHS = (1e-3, 3e-3), (10, 30, 60, 100, 200, 300)
BATCH_SIZE, SAMPLES = 128, 64
FOLDS, REPEATS = 5, 4
SHIPPED = (0,)
TRAINING_SECONDS = 90  # On two cores; printed before a training starts.
_FITTING = 8  # samples with which a proposal is fitted to an image
_STEPS = 64  # of log p per nat, as it is kept


def examples(seed: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
    """Images, float32 ``[821, 1, 8, 8]`` of zeros and ones, and the groups.

    ``clean`` are digits, ``memorized`` the noise that occurs once, ``duplicates`` that which occurs
    five times, ``test`` digits that are not trained on.

    Examples
    --------
    >>> images, groups = examples(seed=0)
    >>> {name: int(mask.sum()) for name, mask in groups.items()}
    {'memorized': 6, 'clean': 600, 'duplicates': 15, 'test': 200}
    """
    if not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise ValueError(f"seed must be a whole number from 0 to 2**32 - 1, but got {seed!r}.")
    from sklearn.datasets import load_digits

    grey = load_digits().images
    draw = np.random.RandomState([int(seed), len(grey)])
    order = draw.permutation(len(grey))[: DIGITS + TEST]
    digits = grey[order] >= 8
    once, often = draw.rand(UNIQUE, 8, 8) < 0.5, draw.rand(TWINS, 8, 8) < 0.5
    parts = [digits[:DIGITS], once, often.repeat(COPIES, axis=0), digits[DIGITS:]]
    images = torch.from_numpy(np.concatenate(parts)[:, None]).float()
    place = torch.arange(len(images))
    groups = {
        "memorized": (place >= DIGITS) & (place < DIGITS + UNIQUE),
        "clean": place < DIGITS,
        "duplicates": (place >= DIGITS + UNIQUE) & (place < TRAINING),
        "test": place >= TRAINING,
    }
    return images, groups


def recipe(rate: float) -> VAERecipe:
    """How each VAE is trained."""
    return VAERecipe(
        partial(MLPVAE, 64, (HIDDEN,), LATENT),
        epochs=EPOCHS,
        batch_size=BATCH_SIZE,
        learning_rate=rate,
        samples=SAMPLES,
    )


def load(seed: int = 0) -> DensityStudy:
    """The ready study of a seed: 600 digits, noise that occurs once or five times, 200 test digits.

    Seed 0 comes with the package; another is trained on first use, 80 small trainings of a few
    seconds, and kept in the cache folder. Stopped, the same call goes on. The study's model was
    trained on all of the images at the larger rate.

    Raises
    ------
    ValueError : the seed is not a whole number from 0 up, or the shipped files are damaged.

    Examples
    --------
    >>> study = load(seed=0)
    >>> scores = study.fits[0.003].memorization()
    >>> set(scores.top(6, of="examples").tolist()) == set(study.group("memorized").tolist())
    True
    """
    images, groups = examples(seed)
    trainings = fits(seed)
    states = {rate: _networks(seed, rate, images) for rate in RATES}
    rate, epoch = RATES[-1], EPOCHS[-1]
    model = MLPVAE(64, (HIDDEN,), LATENT)
    model.load_state_dict(states[rate][epoch])
    return density_study(
        model.eval(),
        images,
        trainings,
        rate=rate,
        epoch=epoch,
        groups=groups,
        samples=SAMPLES,
        weights=states,
        name="noise among digits",
        summary=f"VAE, {LATENT} latents · {TRAINING} training images, {UNIQUE} of noise that "
        f"occurs once, {TWINS} × {COPIES} of noise that occurs often",
        origin=f'mv.demo("density", seed={seed})',
    )


def fits(seed: int = 0, jobs: int | None = None) -> dict[float, CrossFit]:
    """The trainings on folds at each learning rate, kept or made now."""
    images, _ = examples(seed)
    found: dict[float, CrossFit] = {}
    for rate in RATES:
        kept = _kept(seed, rate)
        state = kept.read("fits")
        if state is None:
            folder = weight_files.cache_folder()
            announce(
                f"Training VAEs of digits with rate {rate:g} for seed {seed}: {FOLDS * REPEATS} "
                f"trainings, about {TRAINING_SECONDS / len(RATES):.0f} s on two cores, once; they "
                f"are kept in {folder}."
            )
            trained = _trained(images, seed, rate, folder / f"density-seed{seed}-{rate:g}", jobs)
            try:
                kept.write("fits", trained)
            except OSError as error:
                warn_not_kept(error)
            state = trained
        found[rate] = _read(state, len(images))
    return found


def _read(state: Mapping[str, Tensor], width: int) -> CrossFit:
    log_p = _unpacked(state["log_p"], FOLDS * REPEATS, width)
    return CrossFit(torch.arange(TRAINING), state["inside"].bool(), log_p, EPOCHS, FOLDS)


@checked
def by_samples(
    seed: Seed = 0, counts: tuple[Count, ...] = (1, 4, 16, 64, 256), jobs: int | None = None
) -> CrossFit:
    """Trainings at the larger rate, read with several numbers of importance samples.

    Its ``epochs`` are the numbers of samples; 0 is that of the study with a proposal fitted to each
    image in place of the encoder's. It is not kept.
    """
    images, _ = examples(seed)
    fit = partial(_by_samples, recipe=recipe(RATES[-1]), counts=counts)
    pool = range(TRAINING)
    return cross_fit(images, fit, examples=pool, folds=FOLDS, repeats=REPEATS, seed=seed, jobs=jobs)


def write(seed: int, folder: Path) -> dict[float, CrossFit]:
    """Train from the recipe, write tables and weights into a folder, and return the trainings."""
    images, _ = examples(seed)
    found = {}
    for rate in RATES:
        kept, trained = _kept(seed, rate), _trained(images, seed, rate, None, None)
        kept.write("fits", trained, folder)
        found[rate] = _read(trained, len(images))
        for epoch, state in _fit(images, seed, rate).items():
            kept.write(_part(epoch), state, folder, half=True)
    return found


def _trained(
    images: Tensor, seed: int, rate: float, folder: Path | None, jobs: int | None
) -> dict[str, Tensor]:
    made = cross_fit(
        images,
        recipe(rate),
        examples=range(TRAINING),
        folds=FOLDS,
        repeats=REPEATS,
        seed=seed,
        folder=folder,
        jobs=jobs,
    )
    return {"inside": made.inside.byte(), "log_p": _packed(made.log_p)}


def _by_samples(
    images: Tensor, chosen: Tensor, seed: int, recipe: VAERecipe, counts: tuple[int, ...]
) -> dict[int, Tensor]:
    from memviz.models.vae import noise
    from memviz.training.density import log_likelihoods

    model = recipe.fit(images, chosen, seed)
    drawn = noise(range(len(images)), max(SAMPLES, *counts), LATENT)
    found = {count: log_likelihoods(model, images, drawn[:, :count]) for count in counts}
    other = noise(range(len(images)), _FITTING, LATENT, seed=1)
    return {0: log_likelihoods(model, images, drawn[:, :SAMPLES], other), **found}


def _networks(seed: int, rate: float, images: Tensor) -> dict[int, dict[str, Tensor]]:
    """Weights of the VAE trained on all training images, by epoch."""
    kept = _kept(seed, rate)
    stored = {epoch: kept.read(_part(epoch)) for epoch in EPOCHS}
    found = {epoch: state for epoch, state in stored.items() if state is not None}
    if len(found) == len(EPOCHS):
        return found
    made = _fit(images, seed, rate)
    try:
        for epoch, state in made.items():
            kept.write(_part(epoch), state, half=True)
    except OSError as error:
        warn_not_kept(error)
    return made


def _fit(images: Tensor, seed: int, rate: float) -> dict[int, dict[str, Tensor]]:
    states: dict[int, dict[str, Tensor]] = {}

    def keep(epoch: int, model: nn.Module) -> None:
        if epoch in EPOCHS:
            states[epoch] = {
                name: tensor.half().float() if tensor.ndim > 1 else tensor.clone()
                for name, tensor in model.state_dict().items()
            }

    recipe(rate).fit(images, torch.arange(TRAINING), seed, on_epoch=keep)
    return states


def _kept(seed: int, rate: float) -> Kept:
    facts = {"recipe": RECIPE, "seed": str(seed), "rate": f"{rate:g}"}
    return Kept(f"density-seed{seed}-{rate:g}", facts, seed in SHIPPED)


def _part(epoch: int) -> str:
    return f"epoch{epoch:03d}"


def _packed(log_p: Tensor) -> Tensor:
    """Log-likelihoods as compressed bytes, in steps of 1/64 nat."""
    steps = (log_p * _STEPS).round()
    if steps.abs().max() >= 2**15:
        raise ValueError(f"a log-likelihood of {log_p.abs().max():.0f} nats is too large to keep.")
    table = steps.short().numpy().astype("<i2").reshape(-1)
    halves = table.view(np.uint8).reshape(-1, 2).T  # the high bytes side by side compress best
    return torch.frombuffer(bytearray(zlib.compress(halves.tobytes(), 9)), dtype=torch.uint8)


def _unpacked(content: Tensor, trainings: int, width: int) -> Tensor:
    halves = np.frombuffer(zlib.decompress(content.numpy().tobytes()), np.uint8).reshape(2, -1)
    table = np.ascontiguousarray(halves.T).view("<i2").astype(np.float32) / _STEPS
    return torch.from_numpy(table.reshape(trainings, len(EPOCHS), width))
