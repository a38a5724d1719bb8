"""Many trainings on parts of a study, spread by joblib, each kept as soon as it is finished."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memviz.checks import IndicesLike, Seed, checked
from memviz.study import Study, check_classes, check_examples, study_facts
from memviz.tasks.task import Inputs
from memviz.tensor_files import read_hashed, write_hashed
from memviz.training.epochs import check_seed

from ._fingerprint import fingerprint
from ._folder import TrainingFolder, packed, unpacked
from ._spread import Training, spread

# (inputs, labels, indices to train on, seed) to the predicted class of every input
Fit = Callable[[Inputs, Tensor, Tensor, int], Tensor]
_KIND, _KIND_OF_ONE = "trainings on subsets", "a training on a subset"


@dataclass(frozen=True, eq=False)
class SubsetTrainings:
    """Which examples each training had, and which it got right.

    Attributes
    ----------
    examples : int64 ``[n]``
        The study's indices that the subsets were drawn from.
    inside : bool ``[trainings, n]``
        Columns are those of ``examples``.
    correct : bool ``[trainings, N]``
        Of every example of the study, test ones included.
    """

    examples: Tensor
    inside: Tensor
    correct: Tensor

    def __len__(self) -> int:
        return len(self.inside)

    def __repr__(self) -> str:
        drawn = int(self.inside[0].sum())
        return f"SubsetTrainings({len(self)} on {drawn:,} of {len(self.examples):,} examples each)"

    @property
    def correct_inside(self) -> Tensor:
        """Of the examples that the subsets were drawn from, bool ``[trainings, n]``."""
        return self.correct[:, self.examples]

    def save(self, path: str | Path) -> None:
        """Write all of it into one safetensors file, one bit per training and example."""
        tables = {
            "examples": self.examples,
            "inside": packed(self.inside),
            "correct": packed(self.correct),
        }
        write_hashed(Path(path), tables, {"kind": _KIND, "width": str(self.correct.shape[1])})

    @classmethod
    def load(cls, path: str | Path) -> SubsetTrainings:
        """Read what ``save`` wrote.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is damaged, altered, or holds no trainings.
        """
        tables, facts = read_hashed(Path(path), _KIND)
        examples = tables["examples"]
        inside = unpacked(tables["inside"], len(examples))
        return cls(examples, inside, unpacked(tables["correct"], int(facts["width"])))


@checked
def train_subsets(
    study: Study,
    fit: Fit,
    *,
    examples: IndicesLike | None = None,
    trainings: int = 100,
    fraction: float = 0.7,
    seed: Seed = 0,
    folder: str | Path | None = None,
    jobs: int | None = None,
    progress: bool = True,
) -> SubsetTrainings:
    """Train on random subsets of the training examples, for memorization and influence.

    Feldman & Zhang (2020) draw 0.7 of the examples for each of 2,000 to 4,000 trainings; the
    standard error of a score is at most ``.5 * sqrt(1 / (.7 t) + 1 / (.3 t))``: .11 at 100
    trainings. Subset k depends on the seed and on k alone, so more trainings can follow later.

    The trainings go through joblib: ``with joblib.parallel_config("dask"): ...`` spreads them over
    a cluster, ``jobs=-1`` over the processors of this machine. Trainings whose worker is lost are
    made again. Interrupted, the same call with the same folder goes on; only what was still in
    training is lost. Without a folder everything is, and a run that will take more than ten minutes
    warns of it after its first trainings.

    Parameters
    ----------
    study : Study
        Its model is not used, and its test examples are never trained on.
    fit : callable
        ``fit(inputs, labels, chosen, seed)`` trains on the examples ``chosen`` (int64) and returns
        the predicted class of each input, int64 ``[N]``. It leaves the inputs as they are, and is
        picklable for other processes. A :class:`memviz.training.subsets.Recipe` is one.
    examples : int64 ``[n]``, optional
        To draw from: those of all groups but ``test``, unless given.
    trainings : int
    fraction : float
        Share of the examples in each subset, above 0 and below 1.
    seed : int
    folder : str or Path, optional
        Where each finished training is kept, with hashes of data, recipe and draw: a folder of
        other trainings is refused. See :func:`memviz.training.subsets.fingerprint`. A training
        that can't be written is warned of, and stays in memory.
    jobs : int, optional
        joblib's ``n_jobs``.
    progress : bool

    Raises
    ------
    ValueError
        On labels that are not classes, a number out of its range, predictions that don't fit, or a
        folder of other trainings.
    OSError
        If nothing can be written in the folder; before the first training.

    Examples
    --------
    >>> def fit(inputs, labels, chosen, seed):  # the nearest of the chosen
    ...     return labels[chosen][torch.cdist(inputs, inputs[chosen]).argmin(1)]
    >>> study = Study(torch.nn.Linear(1, 2).eval(), torch.arange(10.0)[:, None], [0, 1] * 5,
    ...               {"clean": range(8), "test": [8, 9]})
    >>> train_subsets(study, fit, trainings=4)
    SubsetTrainings(4 on 6 of 8 examples each)
    """
    seed = check_seed(seed)
    pool = training_pool(study, examples)
    size = round(fraction * len(pool)) if 0 < fraction < 1 else 0
    if not 0 < size < len(pool):
        raise ValueError(
            f"fraction is {fraction} of {len(pool)} examples; a subset must have at least one of "
            "them and lack at least one."
        )
    if trainings < 2:
        raise ValueError(f"trainings is {trainings}; make at least 2.")
    draw = fingerprint([pool, size, seed, "subsets"])
    tasks = [Training(*_drawn(pool, size, seed, number)) for number in range(trainings)]
    inside, correct = run_tasks(study, fit, tasks, draw, folder, jobs, progress)
    return SubsetTrainings(pool, inside[:, pool], correct)


def run_tasks(
    study: Study,
    fit: Fit,
    tasks: Sequence[Training],
    draw: str,
    folder: str | Path | None,
    jobs: int | None,
    progress: bool,
) -> tuple[Tensor, Tensor]:
    """Make the trainings that are not there yet; inside and correct, bool ``[trainings, N]``."""
    check_classes(study, "trainings on subsets")
    inside = torch.zeros(len(tasks), len(study), dtype=torch.bool)
    correct = torch.zeros_like(inside)
    kept = None
    if folder is not None:
        facts = {"data": study_facts(study)["data"], "recipe": fingerprint(fit), "draw": draw}
        kept = TrainingFolder(folder, _KIND_OF_ONE, facts, size=4096 + len(study) // 4)
    # Arrays, since joblib shares large ones among processes; copied only where they are written.
    given = study.whole_inputs()
    inputs = (
        {key: value.cpu().numpy() for key, value in given.items()}
        if isinstance(given, Mapping)
        else given.cpu().numpy()
    )
    train_one = partial(_train_one, fit)
    arrays = (inputs, study.labels.numpy())
    for number, state in spread(train_one, arrays, tasks, kept, jobs, progress):
        inside[number] = unpacked(state["inside"], len(study))
        correct[number] = unpacked(state["correct"], len(study))
    return inside, correct


def _train_one(
    fit: Fit, inputs: Any, labels: np.ndarray, chosen: np.ndarray, seed: int
) -> dict[str, np.ndarray]:
    """Runs in the other process."""
    given = (
        {key: torch.from_numpy(value) for key, value in inputs.items()}
        if isinstance(inputs, Mapping)
        else torch.from_numpy(inputs)
    )
    truth = torch.from_numpy(labels)
    answer = fit(given, truth, torch.from_numpy(chosen), seed)
    if not isinstance(answer, Tensor | np.ndarray | list | tuple):
        raise ValueError(
            f"fit returned {type(answer).__name__}; it must return the predicted class of every "
            f"input, int64 [{len(truth)}]."
        )
    predicted = torch.as_tensor(answer).cpu()
    if predicted.shape != truth.shape or predicted.is_floating_point():
        raise ValueError(
            f"fit returned {predicted.dtype} of shape {list(predicted.shape)}; it must return the "
            f"predicted class of every input, int64 [{len(truth)}]."
        )
    inside = torch.zeros(len(truth), dtype=torch.bool).index_fill_(
        0, torch.from_numpy(chosen), True
    )
    return {"inside": packed(inside).numpy(), "correct": packed(predicted == truth).numpy()}


def _drawn(pool: Tensor, size: int, seed: int, number: int) -> tuple[Tensor, int]:
    rng = np.random.default_rng([seed, number])
    rows = np.sort(rng.choice(len(pool), size, replace=False))
    return pool[torch.from_numpy(rows)], int(rng.integers(2**31))


def training_pool(study: Study, examples: IndicesLike | None) -> Tensor:
    """The examples that may be trained on: all groups but test, unless they are given."""
    if examples is None:
        masks = [mask for name, mask in study.groups.items() if name != "test"]
        if not masks:
            raise ValueError(
                "the study has no group but test; name the examples that may be trained on."
            )
        return torch.stack(masks).any(0).nonzero()[:, 0]
    chosen = check_examples(study, examples)
    if len(chosen.unique()) < len(chosen):
        raise ValueError("examples names an example twice; give each index once.")
    return chosen
