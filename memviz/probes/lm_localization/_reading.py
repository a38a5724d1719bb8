"""What is read of passages with units dropped out, and how far what is said is from the text."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memviz.checks import described, quoted
from memviz.engine.record import Replay, Zero
from memviz.engine.sets import ablate
from memviz.models.causal import Causal
from memviz.study import Study, default_groups
from memviz.units import UnitSet

from ._neurons import language

_BATCH = 64  # passages decoded together


@dataclass(frozen=True, eq=False)
class Reading:
    """Accuracy and recitation of the examples read ``[n]``, NaN elsewhere; held-out perplexity."""

    accuracy: np.ndarray
    recited: np.ndarray
    perplexity: float


class Reader:
    """Reads a group's passages and held-out ones.

    Parameters
    ----------
    study : Study
    group, held_out : str, optional
        The study's first and last groups by default.
    every : bool
        Read all passages of the study.
    """

    def __init__(
        self, study: Study, group: str | None, held_out: str | None, *, every: bool = False
    ) -> None:
        self.task = language(study)
        self.study, self.group = study, default_groups(study, group, None)[0]
        self.held_out = [*study.groups][-1] if held_out is None else held_out
        members = study.group(self.group)
        if self.held_out == self.group and not every:
            raise ValueError(
                f"held-out passages and memorized ones are both {quoted(self.group)}; name another "
                "group with held_out=."
            )
        examples = torch.cat([members, study.group(self.held_out)]).unique()
        self.replay = Replay(study, None if every else examples)

    def without(self, units: UnitSet) -> Reading:
        """What is read with these units at zero."""
        return self.of(self.replay.outputs(units, Zero()))

    def of(self, outputs: Tensor) -> Reading:
        """What is read of these outputs, of the replay's examples."""
        task, examples = self.task, self.replay.examples
        labels = self.study.labels[examples].to(outputs.device)
        right = (task.predictions(outputs) == labels).double().mean(1).cpu().numpy()
        accuracy, recited = (np.full(len(self.study), np.nan) for _ in range(2))
        accuracy[examples.numpy()] = right
        recited[examples.numpy()] = (task.margin(outputs, labels) > 0).double().cpu().numpy()
        losses = task.loss(outputs, labels).double().cpu()
        mean = losses[self.study.groups[self.held_out][examples]].mean()
        return Reading(accuracy, recited, float(mean.exp()))

    def distances(self, units: UnitSet) -> np.ndarray:
        """Edit distance of what is said with these units at zero from the text, float64 ``[n]``.

        Decoded freely and greedily; in characters, or in tokens without a tokenizer. NaN of
        passages that are not read.
        """
        examples, found = self.replay.examples, np.full(len(self.study), np.nan)
        own = self.replay.own_study
        with ablate(own.model, units):
            causal = Causal(own.model)
            for rows in examples.split(_BATCH):
                prompts = self._tokens(rows)[:, : self.task.prompt]
                said = causal.greedy(prompts, self.task.continuation)
                for row, ids in zip(rows.tolist(), said.tolist(), strict=True):
                    found[row] = edit_distance(self._text(ids), self._text(self.study.labels[row]))
        return found

    def _tokens(self, rows: Tensor) -> Tensor:
        batch = self.study.batch(rows)
        return batch if isinstance(batch, Tensor) else batch["input_ids"]

    def _text(self, ids: Tensor | Sequence[int]) -> Sequence[object]:
        tokens = ids.tolist() if isinstance(ids, Tensor) else list(ids)
        return tokens if self.task.tokenizer is None else self.task.text(tokens)


def edit_distance(one: Sequence[Hashable], other: Sequence[Hashable]) -> int:
    """Fewest insertions, deletions and exchanges that turn one sequence into the other.

    Parameters
    ----------
    one, other : text, or sequence of tokens
        Lists, or tensors and arrays with one axis.

    Raises
    ------
    TypeError
        If one is neither.

    Examples
    --------
    >>> edit_distance("kitten", "sitting"), edit_distance([1, 2, 3], [])
    (3, 3)
    """
    one, other = _entries("one", one), _entries("other", other)
    places = np.arange(len(other) + 1)
    row = places.copy()
    codes = {value: code for code, value in enumerate(dict.fromkeys([*one, *other]))}
    target = np.array([codes[value] for value in other], dtype=np.int64)
    for value in one:
        step = np.minimum(row[1:] + 1, row[:-1] + (target != codes[value]))
        first = np.concatenate([[row[0] + 1], step])
        # An insertion costs one more than the place before: a running minimum of what is left.
        row = np.minimum.accumulate(first - places) + places
    return int(row[-1])


def _entries(what: str, given: Any) -> Sequence[Hashable]:
    """Letters or tokens; tensors as their numbers, since two tensors are never the same key."""
    entries = given.tolist() if hasattr(given, "tolist") else given
    if isinstance(entries, list):
        entries = [e.item() if getattr(e, "ndim", None) == 0 else e for e in entries]
    if not isinstance(entries, Sequence) or not all(isinstance(e, Hashable) for e in entries):
        raise TypeError(f"{what} is {described(given)}; give text or a list of tokens.")
    return entries
