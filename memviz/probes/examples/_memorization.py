"""Memorization of examples by trainings with and without them, by subsets or one at a time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from memviz.checks import CountOrZero, IndicesLike, Seed, checked
from memviz.scores import Null
from memviz.study import Study, check_classes, check_examples
from memviz.training.subsets import (
    Fit,
    SubsetTrainings,
    Training,
    fingerprint,
    run_tasks,
    training_pool,
)

from . import _feldman as feldman
from ._feldman import Memorization

if TYPE_CHECKING:
    import pandas as pd


@checked
def subsampled_memorization(
    trainings: SubsetTrainings, *, null_draws: CountOrZero = 20, seed: Seed = 0
) -> Memorization:
    """Feldman and Zhang's memorization: how much training on an example raises its accuracy.

    It depends on the size of the subsets, and says nothing if the trainings did not fit their
    subsets. Near duplicates hide each other: with one in the subset, the other is right.

    Parameters
    ----------
    trainings : SubsetTrainings
    null_draws : int
        Permutations of the subsets among the trainings; 0 for none.
    seed : int

    Returns
    -------
    Memorization
        From -1 to 1, with its standard error; NaN for an example in every subset, or in none.

    Examples
    --------
    >>> inside = torch.tensor([[1, 0], [1, 1], [0, 0], [0, 1]]).bool()
    >>> trainings = SubsetTrainings(torch.tensor([0, 1]), inside, inside)
    >>> subsampled_memorization(trainings).values
    array([1., 1.])
    """
    inside, correct = trainings.inside, trainings.correct_inside
    values, errors = feldman.memorization(inside, correct)
    count_with = inside.sum(0).numpy()
    return Memorization(
        name="memorization",
        measure="accuracy with the example in training less that without",
        values=values.numpy(),
        examples=trainings.examples.numpy(),
        source=f"{feldman.SOURCE}, {len(trainings)} trainings",
        null=feldman.permuted_null(inside, correct, null_draws, seed) if null_draws else None,
        standard_error=errors.numpy(),
        trainings_with=count_with,
        trainings_without=len(trainings) - count_with,
    )


@checked
def influential_pairs(
    study: Study,
    trainings: SubsetTrainings,
    *,
    influence: float = 0.15,
    memorization: float = 0.25,
    same_class: bool = True,
) -> pd.DataFrame:
    """Pairs of a memorized example and a test example that would be wrong without it.

    Parameters
    ----------
    study : Study
        With a group ``test``.
    trainings : SubsetTrainings
    influence, memorization : float
        Thresholds; the defaults are those of Feldman and Zhang (2020).
    same_class : bool
        Keep only pairs with the same given label.

    Returns
    -------
    pandas.DataFrame
        Columns ``example``, ``test example``, ``influence`` and ``memorization``, the largest
        influence first.

    Raises
    ------
    ValueError
        If the study has no group ``test``, or the labels are not classes and ``same_class`` is set.
    """
    import pandas as pd

    if same_class:
        check_classes(study, "pairs of the same class")
    test = study.group("test")
    values = feldman.memorization(trainings.inside, trainings.correct_inside)[0]
    # A difference of two shares is rounded: one of exactly the threshold counts.
    rows = (values >= memorization - 1e-12).nonzero()[:, 0]
    pairs, influences = feldman.influential_pairs(
        trainings.inside[:, rows], trainings.correct[:, test], influence
    )
    example, test_example = trainings.examples[rows[pairs[:, 0]]], test[pairs[:, 1]]
    frame = pd.DataFrame(
        {
            "example": example.numpy(),
            "test example": test_example.numpy(),
            "influence": influences.numpy(),
            "memorization": values[rows[pairs[:, 0]]].numpy(),
        }
    )
    alike = (study.labels[example] == study.labels[test_example]).numpy()
    return frame[alike].reset_index(drop=True) if same_class else frame


@checked
def leave_one_out(
    study: Study,
    fit: Fit,
    examples: IndicesLike,
    *,
    pool: IndicesLike | None = None,
    runs: int = 1,
    seed: Seed = 0,
    folder: str | Path | None = None,
    jobs: int | None = None,
    progress: bool = True,
) -> Memorization:
    """Feldman's memorization by definition: train on all examples, and on all but one.

    This takes ``(1 + len(examples)) * runs`` trainings: use it for a few examples, or with a fast
    learner. The null leaves out each of the other examples instead.

    Parameters
    ----------
    study, fit, seed, folder, jobs, progress
        As for :func:`memviz.training.subsets.train_subsets`.
    examples : int64 ``[m]``
        Examples to leave out, one at a time.
    pool : int64 ``[n]``, optional
        Training examples; by default all groups except ``test``.
    runs : int
        Trainings with different seeds behind each share.

    Returns
    -------
    Memorization

    Raises
    ------
    ValueError
        If the labels are not classes, an example is not in the pool or is given twice, or ``runs``
        is below 1.

    Examples
    --------
    >>> def fit(inputs, labels, chosen, seed):  # the nearest of the chosen
    ...     return labels[chosen][torch.cdist(inputs, inputs[chosen]).argmin(1)]
    >>> inputs = torch.tensor([[0.0], [1.0], [1.1], [5.0], [5.1]])
    >>> study = Study(torch.nn.Linear(1, 2).eval(), inputs, [0, 1, 0, 1, 1], {"clean": range(5)})
    >>> leave_one_out(study, fit, [1, 2, 3]).values
    array([1., 1., 0.])
    """
    everything = training_pool(study, None if pool is None else check_examples(study, pool, "pool"))
    left_out = check_examples(study, examples)
    absent = left_out[~torch.isin(left_out, everything)]
    if len(absent) or runs < 1 or len(left_out.unique()) < len(left_out):
        raise ValueError(
            f"examples must be in the pool, each once, and runs at least 1; got runs={runs}"
            + (f" and example {int(absent[0])}, which is not in the pool." if len(absent) else ".")
        )
    subsets = [everything, *(everything[everything != example] for example in left_out)]
    tasks = [Training(subset, seed * 10_000 + run) for subset in subsets for run in range(runs)]
    draw = fingerprint([everything, left_out, runs, seed, "leave one out"])
    _, correct = run_tasks(study, fit, tasks, draw, folder, jobs, progress)
    hits = correct[:, left_out].unflatten(0, (len(subsets), runs)).sum(1).double()
    gained = (hits[0] - hits[1:]) / runs  # [left out, judged]
    smoothed = (torch.stack([hits[0], hits[1:].diagonal()]) + 1) / (runs + 2)
    others = ~torch.eye(len(left_out), dtype=torch.bool)
    null = gained.T[others].view(len(left_out), -1).T
    return Memorization(
        name="leave-one-out memorization",
        measure="accuracy with the example in training less that without",
        values=gained.diagonal().numpy(),
        examples=left_out.numpy(),
        source=f"Feldman 2020, definition of memorization; {runs} trainings for each share",
        null=Null("another example left out instead", null.numpy()) if len(null) else None,
        standard_error=(smoothed * (1 - smoothed) / (runs + 2)).sum(0).sqrt().numpy(),
        trainings_with=np.full(len(left_out), runs),
        trainings_without=np.full(len(left_out), runs),
    )
