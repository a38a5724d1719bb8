"""Trainings spread by joblib, each kept as soon as it is finished; lost workers made good."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, CancelledError
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from joblib import Parallel, delayed, effective_n_jobs  # type: ignore[import-untyped]
from joblib.parallel import get_active_backend  # type: ignore[import-untyped]
from torch import Tensor
from tqdm.auto import tqdm

from memviz.checks import quoted
from memviz.tensor_files import State

from ._cluster import client_of, over_dask
from ._folder import TrainingFolder

# (arrays ..., indices to train on, seed) to the tables to keep; runs in another process.
TrainOne = Callable[..., dict[str, np.ndarray]]
_MOST_JOBS = 1_000
_TRIES = 3  # rounds in a row that lose a worker and finish nothing
_LONG = 600.0  # seconds of trainings that are worth a folder


@dataclass(frozen=True)
class Training:
    """The study's indices to train on, int64 ``[m]``, and the seed."""

    chosen: Tensor
    seed: int


def spread(
    train_one: TrainOne,
    arrays: tuple[Any, ...],
    tasks: Sequence[Training],
    kept: TrainingFolder | None,
    jobs: int | None,
    progress: bool,
) -> Iterator[tuple[int, State]]:
    """Number and tables of each training, those of the folder first; the others are made.

    Parameters
    ----------
    train_one : callable
        ``train_one(*arrays, chosen, seed)`` returns the tables of a training by their names.
    arrays : tuple
        What every training gets; large arrays are shared among the processes.
    tasks : sequence of Training
    kept : TrainingFolder, optional
    jobs : int, optional
        joblib's ``n_jobs``.
    progress : bool

    Raises
    ------
    ValueError
        If ``jobs`` is 0 or above 1,000.
    """
    if jobs is not None and (jobs == 0 or abs(jobs) > _MOST_JOBS):
        raise ValueError(
            f"jobs is {quoted(jobs)}; give a number of processes up to {_MOST_JOBS:,}, or -1 for "
            "one per core."
        )
    found = {} if kept is None else kept.find(len(tasks))
    yield from found.items()
    missing = [number for number in range(len(tasks)) if number not in found]
    if kept is not None and missing:
        kept.check_writable()
    with tqdm(
        total=len(tasks), initial=len(found), desc="trainings", delay=1.0, disable=not progress
    ) as bar:
        for number, tables in _insisting(
            train_one, arrays, tasks, missing, jobs, bar, kept is None
        ):
            state = {name: torch.from_numpy(table) for name, table in tables.items()}
            if kept is not None:
                kept.keep_or_warn(number, state)
            yield number, state
            bar.update()


def _insisting(
    train_one: TrainOne,
    arrays: tuple[Any, ...],
    tasks: Sequence[Training],
    missing: list[int],
    jobs: int | None,
    bar: Any,
    in_memory: bool,
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Results as they come; trainings whose worker was lost are made again."""
    left, in_vain = set(missing), 0
    pace = _Pace(len(missing), effective_n_jobs(jobs)) if in_memory else None
    while left:
        before = len(left)
        try:
            for number, tables in _results(train_one, arrays, tasks, sorted(left), jobs):
                left.discard(number)
                yield number, tables
                if pace is not None:
                    pace.count()
        except Exception as error:
            if not _lost_a_worker(error):
                raise
            in_vain = in_vain + 1 if len(left) == before else 0
            if in_vain == _TRIES:
                error.add_note(
                    f"A worker was lost {_TRIES} times in a row before any training was finished; "
                    f"{len(tasks) - len(left)} of {len(tasks)} are."
                )
                raise
            bar.write(f"A worker was lost; {len(left)} trainings are left to be made.", sys.stderr)


def _lost_a_worker(error: Exception) -> bool:
    # Dask's own errors are known by name, since it may not be installed.
    return isinstance(error, BrokenExecutor | CancelledError) or (
        type(error).__name__ in ("KilledWorker", "FutureCancelledError", "CommClosedError")
    )


class _Pace:
    """Warns once, when the first results show that trainings in memory alone will take long."""

    def __init__(self, trainings: int, at_once: int) -> None:
        self._trainings, self._at_once = trainings, at_once
        self._finished, self._start = 0, time.monotonic()

    def count(self) -> None:
        """One more is finished."""
        self._finished += 1
        if self._finished != self._at_once:
            return
        each = (time.monotonic() - self._start) / self._finished
        seconds = each * (self._trainings - self._finished)
        if seconds > _LONG:
            warnings.warn(
                f"{self._trainings - self._finished:,} trainings are left, about "
                f"{seconds / 60:,.0f} minutes, and without folder= all are lost if the run stops.",
                stacklevel=5,
            )


def _results(
    train_one: TrainOne,
    arrays: tuple[Any, ...],
    tasks: Sequence[Training],
    missing: list[int],
    jobs: int | None,
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Number and tables of each training as it is finished, in any order."""
    backend = get_active_backend()[0]
    calls = (
        (number, train_one, tasks[number].chosen.numpy(), tasks[number].seed) for number in missing
    )
    if (client := client_of(backend)) is not None:
        yield from over_dask(client, _numbered, arrays, calls)
        return
    # As each is finished, where the backend can; Ray's, for one, gives all at the end.
    early = backend.supports_return_generator
    parallel = Parallel(
        n_jobs=jobs,
        return_as="generator_unordered" if early else "list",
        batch_size=1,
        mmap_mode="c",
    )
    yield from parallel(delayed(_numbered)(arrays, *rest) for rest in calls)


def _numbered(
    arrays: tuple[Any, ...], number: int, train_one: TrainOne, chosen: np.ndarray, seed: int
) -> tuple[int, dict[str, np.ndarray]]:
    """Runs in the other process."""
    return number, train_one(*arrays, chosen, seed)
