"""Smaller models and earlier checkpoints on the same passages: who recites this already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from memviz.checks import coded, quoted
from memviz.probes.extraction import forecast, teacher_forced
from memviz.widgets.core import Message, pack

from ._passages import Passages

_AT_ONCE = 16  # passages a step: a click waits no longer
Ladder = Mapping[str, nn.Module | Mapping[str, nn.Module]]


@dataclass
class Rung:
    """One model of the ladder.

    Attributes
    ----------
    row, column : str
        Its size, and its checkpoint if there are several.
    model : nn.Module
    matched : int64 ``[n]``
        Tokens of each passage before the first wrong one; -1 where it is not read yet.
    """

    row: str
    column: str
    model: nn.Module
    matched: np.ndarray

    @property
    def weights(self) -> int:
        """Parameters, tied ones once."""
        return sum(parameter.numel() for parameter in self.model.parameters())


class Rungs:
    """The ladder, read in the background.

    Parameters
    ----------
    ladder : mapping of name to model, or to a mapping of checkpoint to model
    passages : Passages

    Raises
    ------
    TypeError
        If something else than models is given.
    """

    def __init__(self, ladder: Ladder | None, passages: Passages) -> None:
        self._passages = passages
        self.rungs = [
            Rung(row, column, model, np.full(len(passages.study), -1))
            for row, given in (ladder or {}).items()
            for column, model in _columns(str(row), given).items()
        ]
        for rung in self.rungs:
            if rung.model.training:
                raise ValueError(
                    coded(
                        "E01",
                        f"ladder: {rung.row!r} is in train mode; call model.eval() first, so that "
                        "dropout does not decide what is recited.",
                    )
                )

    def steps(self) -> Iterator[int]:
        """Read what has not been read, some passages at a time; yields how many are done."""
        passages, task = self._passages, self._passages.task
        done = 0
        for rung in self.rungs:
            for rows in torch.arange(len(passages.study)).split(_AT_ONCE):
                if rung.matched[rows[0]] < 0:
                    read = teacher_forced(
                        rung.model,
                        passages.tokens[rows],
                        task.prompt,
                        task.continuation,
                        progress=False,
                    )
                    rung.matched[rows.numpy()] = read.correct.long().cumprod(1).sum(1).numpy()
                done += len(rows)
                yield done

    @property
    def total(self) -> int:
        """Passages to read, of all models together."""
        return len(self.rungs) * len(self._passages.study)

    def message(self, row: int | None, memorized: np.ndarray) -> Message | None:
        """A row for each size; a cell for each checkpoint, with the opened passage.

        Parameters
        ----------
        row : int or None
            The opened passage.
        memorized : bool ``[n]``
            Which passages the explorer's own model recites whole: the target of each forecast.
        """
        if not self.rungs:
            return None
        trained = self._passages.trained.numpy()
        columns = list(dict.fromkeys(rung.column for rung in self.rungs))
        rows = []
        for name in dict.fromkeys(rung.row for rung in self.rungs):
            rungs = [rung for rung in self.rungs if rung.row == name]
            cells: list[int | None] = []
            for column in columns:
                found = next((rung for rung in rungs if rung.column == column), None)
                if found is None or row is None:
                    cells.append(-1)  # nothing to say
                else:
                    cells.append(int(found.matched[row]) if found.matched[row] >= 0 else None)
            rows.append(
                {"name": name, "weights": rungs[-1].weights, "cells": cells}
                | self._judged(rungs[-1], trained, memorized)
            )
        chance = float(memorized[trained].mean()) if len(trained) else None
        content = {"type": "recited_ladder", "row": row, "columns": columns, "rows": rows}
        return pack(content | {"chance": chance, "name": self._passages.study.name})

    def _judged(
        self, rung: Rung, trained: np.ndarray, memorized: np.ndarray
    ) -> dict[str, float | None]:
        """Its recited share, and its precision and recall as a forecast."""
        matched = rung.matched[trained]
        if not len(trained) or (matched < 0).any():
            return {"recited": None, "precision": None, "recall": None}
        recites = matched == self._passages.task.continuation
        judged = forecast(recites, memorized[trained])
        values = {"precision": judged.precision, "recall": judged.recall}
        known = {name: value if np.isfinite(value) else None for name, value in values.items()}
        return {"recited": float(recites.mean()), **known}


def _columns(name: str, given: Any) -> Mapping[str, nn.Module]:
    named = dict(given) if isinstance(given, Mapping) else {"": given}
    wrong = [model for model in named.values() if not isinstance(model, nn.Module)]
    if wrong or not named:
        what = quoted(wrong[0], 60) if wrong else "empty"
        raise TypeError(
            f"ladder[{name!r}] is {what}; give a model, or models by checkpoint: "
            "{'small': model, 'large': {'half': model, 'end': model}}."
        )
    return {str(column): model for column, model in named.items()}
