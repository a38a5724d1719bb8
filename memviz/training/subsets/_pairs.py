"""Pairs of encoders, a target and a reference, spread by joblib like other trainings."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from memviz.checks import Count, Seed, checked
from memviz.data.subsets import Subsets
from memviz.tensor_files import State, digest
from memviz.training.epochs import seeded_draws

from ._fingerprint import fingerprint
from ._folder import TrainingFolder
from ._spread import Training, spread

_KIND = "weights of an encoder"


@checked
def train_pairs(
    make: Callable[[], nn.Module],
    fit: Callable[..., Any],
    images: Tensor,
    subsets: Subsets,
    *,
    pairs: Count = 1,
    seed: Seed = 0,
    folder: str | Path | None = None,
    jobs: int | None = None,
    progress: bool = True,
) -> tuple[list[nn.Module], list[nn.Module]]:
    """Train targets and references, for SSLMem and LayerMem over several pairs.

    The two of a pair have the same first weights and the same seed, so that they differ by their
    images alone. Pair k depends on the seed and on k alone, so more pairs can follow later. The
    trainings go through joblib, and are kept and resumed as those of
    :func:`memviz.training.subsets.train_subsets`.

    Parameters
    ----------
    make : callable
        Makes a fresh encoder. It is called with torch's generator seeded; the generator is put
        back after.
    fit : callable
        ``fit(encoder, images, seed=seed)`` trains an encoder in place on the images it is given,
        and is picklable for other processes. :func:`memviz.training.self_supervised.train_simclr`
        or ``train_masked`` in a ``functools.partial``, for example.
    images : float ``[n, ...]``
    subsets : Subsets
        Targets are trained on ``subsets.target``, references on ``subsets.reference``.
    pairs : int
    seed : int
    folder : str or Path, optional
        Where the weights of each finished encoder are kept.
    jobs : int, optional
        joblib's ``n_jobs``.
    progress : bool

    Returns
    -------
    targets, references : list of nn.Module
        In evaluation mode; :func:`memviz.probes.encoders.layer_mem` takes both lists.

    Raises
    ------
    TypeError
        If ``make`` does not return a module.
    ValueError
        If the subsets name an image that is not there, weights have no NumPy dtype (bfloat16), or
        the folder holds other trainings.

    Examples
    --------
    >>> from memviz.training.self_supervised import train_masked
    >>> def make():
    ...     return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
    >>> fit = partial(train_masked, epochs=1, progress=False)
    >>> sets = Subsets(range(4), range(4, 6), range(6, 8), range(8, 9))
    >>> targets, references = train_pairs(make, fit, torch.rand(9, 1, 4, 4), sets, pairs=2)
    >>> len(targets), len(references)
    (2, 2)
    """
    named = torch.cat(list(subsets.named().values()))
    if int(named.max()) >= len(images):
        raise ValueError(
            f"the subsets name image {int(named.max())}, and there are {len(images)}; count from 0."
        )
    sides = (subsets.target, subsets.reference)
    seeds = [int(np.random.default_rng([seed, number]).integers(2**31)) for number in range(pairs)]
    tasks = [Training(side, own) for own in seeds for side in sides]
    models = [_fresh(make, task.seed) for task in tasks]
    kept = None
    if folder is not None:
        facts = {
            "data": digest({"images": images}),
            "recipe": fingerprint([make, fit]),
            "draw": fingerprint([*sides, seed, "pairs"]),
        }
        kept = TrainingFolder(folder, _KIND, facts, size=4096 + _bytes(models[0].state_dict()))
    arrays = (images.detach().cpu().numpy(),)
    train_one = partial(_train_one, make, fit)
    for number, state in spread(train_one, arrays, tasks, kept, jobs, progress):
        models[number].load_state_dict(state)
    return models[::2], models[1::2]


def _train_one(
    make: Callable[[], nn.Module],
    fit: Callable[..., Any],
    images: np.ndarray,
    chosen: np.ndarray,
    seed: int,
) -> dict[str, np.ndarray]:
    """Runs in the other process."""
    encoder = _fresh(make, seed)
    fit(encoder, torch.from_numpy(images)[torch.from_numpy(chosen)], seed=seed)
    state = encoder.state_dict()
    for name, weights in state.items():
        if weights.dtype == torch.bfloat16:
            raise ValueError(f"{name} is torch.bfloat16; let fit leave float32 or float16 weights.")
    return {name: weights.detach().cpu().numpy() for name, weights in state.items()}


def _fresh(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    draws = seeded_draws(seed)
    with draws, draws:  # twice, as an interrupt can miss one exit
        encoder = make()
    if not isinstance(encoder, nn.Module):
        raise TypeError(f"make returned {type(encoder).__name__}; it must return an nn.Module.")
    return encoder.eval()


def _bytes(state: State) -> int:
    return sum(weights.nbytes for weights in state.values())
