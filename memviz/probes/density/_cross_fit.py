"""Trainings on folds: who had which example, and what each of them says of every example."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memviz.checks import Count, IndicesLike, Seed, as_indices, checked
from memviz.tensor_files import digest
from memviz.training.subsets import (
    Training,
    TrainingFolder,
    fingerprint,
    spread,
)

from ._fits import CrossFit
from ._likelihoods import check_inputs, log_likelihoods

# (inputs, indices to train on, seed) to a density, or to densities by epoch
Fit = Callable[[Tensor, Tensor, int], Any]
KIND = "log-likelihoods of a training"


@checked
def cross_fit(
    inputs: Tensor,
    fit: Fit,
    *,
    examples: IndicesLike | None = None,
    folds: Count = 10,
    repeats: Count = 10,
    seed: Seed = 0,
    folder: str | Path | None = None,
    jobs: int | None = None,
    progress: bool = True,
) -> CrossFit:
    """Train without each fold in turn, several times over, and keep log p(x) of every input.

    Algorithm 1 of van den Burg & Williams (2021), with 10 folds repeated 10 times: in each repeat
    the examples are cut anew into folds at random, and one model is trained without each of them.
    It leaves n / folds examples out at a time, a stand-in for leaving out one. Repeat k depends on
    the seed and on k alone, so more repeats can follow later.

    The trainings go through joblib, and are kept and resumed as those of
    :func:`memviz.training.subsets.train_subsets`: the same call with the same folder goes on.

    Parameters
    ----------
    inputs : Tensor ``[n, ...]``
        Binarized or dequantised once and for all: log p(x) must be of the same x in all trainings.
    fit : callable
        ``fit(inputs, chosen, seed)`` trains on the inputs ``chosen`` (int64) and returns a density:
        an object with ``log_prob`` or scikit-learn's ``score_samples``, or log p(x) of all inputs,
        ``[n]``; or a dict of such by epoch (or by any other whole number that varies). It leaves
        the inputs as they are, and is picklable for other processes. A
        :class:`memviz.training.density.VAERecipe` is one.
    examples : int64 ``[m]``, optional
        The inputs to cut into folds; all, unless given. The others are never trained on.
    folds, repeats : int
    seed : int
    folder : str or Path, optional
        Where each finished training is kept.
    jobs : int, optional
        joblib's ``n_jobs``.
    progress : bool

    Raises
    ------
    TypeError
        If what ``fit`` returns is no density.
    ValueError
        On fewer than 2 folds or more than examples, log-likelihoods that are NaN, or a folder of
        other trainings.

    Examples
    --------
    >>> from torch.distributions import Normal
    >>> def fit(inputs, chosen, seed):
    ...     return Normal(inputs[chosen].mean(), 1.0)
    >>> cross_fit(torch.arange(6.0), fit, folds=3, repeats=2)
    CrossFit(6 trainings: 3 folds of 6 examples, 2 times)
    """
    pool = pool_of(inputs, examples)
    if not 2 <= folds <= len(pool):
        raise ValueError(
            f"folds is {folds} for {len(pool)} examples; give a number from 2 to {len(pool)}."
        )
    tasks = [task for number in range(repeats) for task in _repeat(pool, folds, seed, number)]
    draw = fingerprint([pool, folds, seed, "folds"])
    epochs, log_p = train_all(inputs, fit, tasks, draw, folder, jobs, progress)
    inside = torch.zeros(len(tasks), len(inputs), dtype=torch.bool)
    for number, task in enumerate(tasks):
        inside[number, task.chosen] = True
    return CrossFit(pool, inside[:, pool], log_p, epochs, folds)


def pool_of(inputs: Tensor, examples: IndicesLike | None) -> Tensor:
    """The inputs that may be trained on, int64 ``[m]``, in order."""
    check_inputs(inputs)
    if examples is None:
        return torch.arange(len(inputs))
    return as_indices("examples", examples, len(inputs), each_once=True).sort().values


def train_all(
    inputs: Tensor,
    fit: Fit,
    tasks: list[Training],
    draw: str,
    folder: str | Path | None,
    jobs: int | None,
    progress: bool,
) -> tuple[tuple[int, ...], Tensor]:
    """Epochs, and log p(x) of every input, ``[trainings, epochs, n]``."""
    kept = None
    if folder is not None:
        data = digest({"inputs": inputs})
        facts = {"data": data, "recipe": fingerprint(fit), "draw": draw}
        kept = TrainingFolder(folder, KIND, facts, size=4096 + 64 * len(inputs))
    arrays = (inputs.detach().cpu().numpy(),)
    found: dict[int, tuple[tuple[int, ...], Tensor]] = {}
    for number, state in spread(partial(_train_one, fit), arrays, tasks, kept, jobs, progress):
        found[number] = tuple(state["epochs"].tolist()), state["log_p"]
    epochs = found[0][0]
    for number, (others, _) in found.items():
        if others != epochs:
            raise ValueError(
                f"training 0 gave epochs {list(epochs)} and training {number} {list(others)}; all "
                "must give the same."
            )
    return epochs, torch.stack([found[number][1] for number in range(len(tasks))])


def _train_one(
    fit: Fit, inputs: np.ndarray, chosen: np.ndarray, seed: int
) -> dict[str, np.ndarray]:
    """Runs in the other process."""
    given = torch.from_numpy(inputs)
    densities = fit(given, torch.from_numpy(chosen), seed)
    by_epoch = densities if isinstance(densities, Mapping) else {0: densities}
    if not by_epoch or not all(isinstance(epoch, int) for epoch in by_epoch):
        raise TypeError(
            f"fit returned a dict with the keys {list(by_epoch)[:5]}; give a density, or densities "
            "by epoch, whole numbers."
        )
    epochs = sorted(by_epoch)
    rows = [log_likelihoods(by_epoch[epoch], given) for epoch in epochs]
    return {"epochs": np.array(epochs, np.int64), "log_p": torch.stack(rows).numpy()}


def _repeat(pool: Tensor, folds: int, seed: int, number: int) -> list[Training]:
    """The trainings of one repeat, each without one fold."""
    rng = np.random.default_rng([seed, number])
    parts = np.array_split(rng.permutation(len(pool)), folds)
    seeds = rng.integers(2**31, size=folds)
    tasks = []
    for part, own in zip(parts, seeds.tolist(), strict=True):
        kept = np.ones(len(pool), bool)
        kept[part] = False
        tasks.append(Training(pool[torch.from_numpy(kept)], own))
    return tasks
