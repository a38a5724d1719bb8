"""Memorization by leaving out one example at a time: the definition itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from memviz.checks import Count, IndicesLike, Seed, as_indices, checked
from memviz.scores import Scores
from memviz.training.subsets import Training, fingerprint

from ._cross_fit import Fit, pool_of, train_all
from ._likelihoods import log_mean_exp


@checked
def leave_one_out(
    inputs: Tensor,
    fit: Fit,
    examples: IndicesLike | None = None,
    *,
    pool: IndicesLike | None = None,
    repeats: Count = 1,
    epoch: int | None = None,
    seed: Seed = 0,
    folder: str | Path | None = None,
    jobs: int | None = None,
    progress: bool = True,
) -> Scores:
    """M in nats: log p(x) of models trained on everything, minus that of models without x.

    ``M_i = log E_a p(x_i | D, a) - log E_a p(x_i | D without x_i, a)``, the mean over the
    randomness of the training inside the logarithm (van den Burg & Williams 2021, section 3). Both
    sides have equally many trainings, with the same seeds, so that without randomness it is exact.

    Parameters
    ----------
    inputs, fit
        As for :func:`cross_fit`.
    examples : int64, optional
        Those to leave out, one training each and repeat; all of the pool, unless given.
    pool : int64, optional
        The inputs to train on; all, unless given.
    repeats : int
        Trainings to average over; 1 where training is not random.
    epoch : int, optional
        Where ``fit`` gives several; the last by default.
    seed, folder, jobs, progress
        As for :func:`cross_fit`.

    Raises
    ------
    TypeError, ValueError
        As :func:`cross_fit`, or if an example is not in the pool.

    Examples
    --------
    >>> from torch.distributions import Normal
    >>> def fit(inputs, chosen, seed):
    ...     return Normal(inputs[chosen].mean(), 1.0)
    >>> leave_one_out(torch.tensor([0.0, 0.0, 3.0]), fit).values.round(3)
    array([0.625, 0.625, 2.5  ])
    """
    whole = pool_of(inputs, pool)
    chosen = whole if examples is None else as_indices("examples", examples, len(inputs))
    outside = chosen[~torch.isin(chosen, whole)]
    if len(outside):
        raise ValueError(f"example {int(outside[0])} is not in the pool; leave it out.")
    if len(whole) < 2:
        raise ValueError("there is 1 example to train on; leaving it out leaves none.")
    seeds = np.random.default_rng([seed, len(whole)]).integers(2**31, size=repeats).tolist()
    sets = [whole, *(whole[whole != example] for example in chosen)]
    tasks = [Training(some, own) for some in sets for own in seeds]
    draw = fingerprint([whole, chosen, seed, repeats, "leave one out"])
    epochs, log_p = train_all(inputs, fit, tasks, draw, folder, jobs, progress)
    if epoch is not None and epoch not in epochs:
        raise ValueError(f"there is no epoch {epoch}; choose from {', '.join(map(str, epochs))}.")
    at = log_p[:, -1 if epoch is None else epochs.index(epoch)].double()
    by_set = at.view(len(sets), repeats, -1)
    rows = torch.arange(len(chosen))
    with_it = log_mean_exp(by_set[0][:, chosen], 0)
    without = log_mean_exp(by_set[1:].transpose(0, 1)[:, rows, chosen], 0)
    return Scores(
        name="density memorization, leave one out",
        measure="nats of log p(x) with the example in training less that without",
        values=(with_it - without).numpy(),
        examples=chosen.numpy(),
        source="van den Burg & Williams 2021, section 3 (arXiv:2106.03216)",
    )
