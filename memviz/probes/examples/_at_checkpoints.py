"""A measure of examples at each checkpoint of a study, averaged or summed over them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from memviz.checks import IndicesLike, checked
from memviz.progress import slow
from memviz.restored import undisturbed
from memviz.scores import Scores
from memviz.study import Study, check_examples
from memviz.training.checkpoints import load_checkpoint

from ._dynamics import shuffled_null

# Maps a study at a checkpoint, its epoch (None: the current model) and examples [n] to values [n].
Measure = Callable[[Study, int | None, Tensor], Tensor]


class About(NamedTuple):
    """Name, measure and source of a score."""

    name: str
    measure: str
    source: str


class Null(NamedTuple):
    """How the null is drawn: number of draws (0 for none) and seed."""

    draws: int
    seed: int


def over_checkpoints(
    study: Study,
    examples: IndicesLike | None,
    epochs: Collection[int] | None,
    measure: Measure,
    about: About,
    null: Null,
    *,
    total: bool = False,
    progress: bool,
) -> Scores:
    """Mean or sum of a measure over checkpoints; the null permutes each checkpoint's values.

    Parameters
    ----------
    study : Study
        Its model is not changed: checkpoints are loaded into a copy.
    examples : int64 ``[n]``, optional
        Each once; all by default.
    epochs : collection of int, optional
        As for :func:`chosen_epochs`.
    measure : callable
        ``(study, epoch, examples)`` to float ``[n]``.
    about, null
    total : bool
        Return the sum instead of the mean.
    progress : bool
    """
    chosen = check_examples(study, examples, each_once=True)
    _check_labels(study, chosen)
    steps = chosen_epochs(study, epochs)
    model, rows = copy.deepcopy(study.model), []
    for epoch in slow(steps, about.name, progress=progress):
        at = at_checkpoint(study, model, epoch)
        # A forward pass may change the copy's buffers and torch's generator.
        calm = undisturbed(random=True, counting=model)
        with calm, calm, torch.enable_grad():
            rows.append(measure(at, epoch, chosen).detach().double().cpu())
    table = torch.stack(rows)
    reduce = _sum if total else _mean
    over = f"{'sum' if total else 'mean'} over epochs {', '.join(map(str, steps))}"
    return Scores(
        name=about.name,
        measure=f"{about.measure}; {'of the model as it is' if None in steps else over}",
        values=reduce(table).numpy(),
        examples=chosen.numpy(),
        source=about.source,
        null=shuffled_null(table, reduce, null.draws, null.seed, "checkpoint")
        if null.draws
        else None,
    )


@checked
def chosen_epochs(study: Study, epochs: Collection[int] | None) -> Sequence[int | None]:
    """The checkpoints to use: by default all after epoch 0, or ``[None]`` if the study has none.

    Raises
    ------
    ValueError
        If an epoch has no checkpoint, or ``epochs`` is empty.
    """
    if epochs is None:
        return sorted(epoch for epoch in study.checkpoints if epoch > 0) or [None]
    absent = sorted(epoch for epoch in epochs if epoch not in study.checkpoints)
    if absent or not epochs:
        known = ", ".join(map(str, sorted(study.checkpoints))) or "none"
        named = f"epoch {absent[0]}" if absent else "no epoch"
        raise ValueError(f"epochs names {named}; this study has checkpoints of epochs {known}.")
    return sorted(set(epochs))


@checked
def early_epochs(study: Study) -> list[int] | None:
    """The checkpoints of the first third of the training, without epoch 0; None without any."""
    later = sorted(epoch for epoch in study.checkpoints if epoch > 0)
    if not later:
        return None
    return [epoch for epoch in later if 3 * epoch <= later[-1]] or later[:1]


def at_checkpoint(study: Study, model: nn.Module, epoch: int | None) -> Study:
    """The study with this copy of its model, loaded from a checkpoint.

    Raises
    ------
    ValueError
        If the checkpoint is of another architecture.
    """
    if epoch is not None:
        try:
            load_checkpoint(model, study.checkpoints[epoch])
        except ValueError as error:
            raise ValueError(f"epoch {epoch}: {error}") from error
    return replace(study, model=model, checkpoints={})


def _check_labels(study: Study, examples: Tensor) -> None:
    """Let the task refuse a label that the model has no output for, before the long run."""
    labels = study.labels[examples]
    firsts = labels.flatten(1)[:, 0] if labels.dim() > 1 else labels
    ends = examples[torch.stack([firsts.argmin(), firsts.argmax()])]
    at = replace(study, model=copy.deepcopy(study.model), checkpoints={})
    calm = undisturbed(random=True)
    with calm, calm:
        outputs = study.task.outputs(at.call(at.batch(ends))())
        study.task.margin(outputs, study.labels[ends].to(outputs.device))


def _mean(table: Tensor) -> Tensor:
    return table.mean(0)


def _sum(table: Tensor) -> Tensor:
    return table.sum(0)
