"""Tokens recited against the length of the prompt, computed in the background."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Protocol

import numpy as np

from memviz.engine.record import Intervention
from memviz.engine.sets import others_left, random_units
from memviz.session import Session
from memviz.units import UnitSet
from memviz.widgets.core import Message, Worker

from ._messages import curve_message
from ._opened import Asked, Reader
from ._passages import Passages

_AT_ONCE = 4  # lengths a step: a click waits no longer
DRAWS = 5  # of random units
_KEPT = 200


class Host(Protocol):
    """What the curves need of the controller."""

    passages: Passages
    session: Session
    worker: Worker

    @property
    def reader(self) -> Reader:
        """Lets the model speak."""

    @property
    def key(self) -> str:
        """The intervention, and the variant of the model."""

    def tell_and_keep(self, message: Message, key: str | None = None) -> None:
        """Send a message to every view, and to those opened later."""

    def tell_figures(self) -> None:
        """Send the figures of all passages, and the sentence."""


class Curves:
    """The curves of the opened passage, with its own prompt: before, units off, random units.

    Parameters
    ----------
    controller : Host
    """

    def __init__(self, controller: Host) -> None:
        self._controller = controller
        # First choices ``[lengths, continuation]`` by row, units and key.
        self._known: dict[tuple[int, str, str], np.ndarray] = {}
        self._told: tuple[int, str, str, int] | None = None

    def starts(self, row: int) -> int | None:
        """The length from which on every prompt recites the passage whole; None if none does."""
        curve = self._known.get((row, "", self._controller.session.variant))
        return None if curve is None else self._starts(self._matched(row, curve))

    def follow(self, units: UnitSet, how: Intervention, version: int) -> None:
        """Compute the curves of the opened passage, unless they are there."""
        controller = self._controller
        row = controller.session.opened
        if row is None:
            controller.worker.drop("curve")
            return
        state = (row, str(units), controller.key, version)
        if state != self._told:
            self._told = state
            controller.worker.drop("curve null")
            controller.worker.work("curve", self._steps(row, units, how, version), rank=0)

    def _steps(self, row: int, units: UnitSet, how: Intervention, version: int) -> Iterator[None]:
        controller = self._controller
        passages, session = controller.passages, controller.session
        asked = Asked(row, tuple(passages.prompt(row)), tuple(passages.true(row)))
        nothing = np.full(passages.task.prompt, np.nan)
        before = yield from self._curve(asked, UnitSet(), how, session.variant)
        self._tell(row, version, units, before, None if units else before, nothing)
        if not units:
            controller.tell_figures()  # now the sentence knows from which prompt on
            return
        after = yield from self._curve(asked, units, how, controller.key)
        self._tell(row, version, units, before, after, nothing)
        if others_left(session.replay.layers, units):
            steps = self._null_steps(asked, units, how, version, (before, after))
            controller.worker.work("curve null", steps, rank=2)

    def _null_steps(
        self,
        asked: Asked,
        units: UnitSet,
        how: Intervention,
        version: int,
        known: tuple[np.ndarray, np.ndarray],
    ) -> Iterator[None]:
        controller, drawn = self._controller, list[np.ndarray]()
        for draw in range(DRAWS):
            random = random_units(controller.session.replay.layers, units, seed=draw)
            found = yield from self._curve(asked, random, how, controller.key)
            drawn.append(self._matched(asked.row, found))
        self._tell(asked.row, version, units, *known, np.mean(drawn, axis=0))

    def _curve(
        self, asked: Asked, units: UnitSet, how: Intervention, key: str
    ) -> Generator[None, None, np.ndarray]:
        place = (asked.row, str(units), key)
        if place not in self._known:
            parts, longest = [], len(asked.prompt)
            for first in range(1, longest + 1, _AT_ONCE):
                lengths = range(first, min(first + _AT_ONCE, longest + 1))
                parts.append(self._controller.reader.predicted(asked, lengths, units, how))
                yield
            for oldest in list(self._known)[: 1 - _KEPT]:
                del self._known[oldest]
            self._known[place] = np.concatenate(parts)
        return self._known[place]

    def _tell(
        self,
        row: int,
        version: int,
        units: UnitSet,
        before: np.ndarray,
        after: np.ndarray | None,
        null: np.ndarray,
    ) -> None:
        controller = self._controller
        if row != controller.session.opened:
            return
        was = self._matched(row, before)
        curves = {"before": was, "null": null}
        curves["after"] = np.full(len(was), np.nan) if after is None else self._matched(row, after)
        wrong = {"wrongBefore": self._wrong(was, before)}
        if after is not None:
            wrong["wrongAfter"] = self._wrong(curves["after"], after)
        starts = self._starts(was)
        told = curve_message(row, version, len(units), starts, wrong, **curves)
        controller.tell_and_keep(told)

    def _matched(self, row: int, predicted: np.ndarray) -> np.ndarray:
        """Tokens before the first wrong one, for each length of the prompt."""
        right = predicted == np.array(self._controller.passages.true(row))
        return np.asarray(np.cumprod(right, 1).sum(1))

    def _wrong(self, matched: np.ndarray, predicted: np.ndarray) -> list[str]:
        """The first wrong token for each length; empty where none is."""
        passages = self._controller.passages
        return [
            passages.words([int(said[place])])[0] if place < len(said) else ""
            for place, said in zip(matched.tolist(), predicted, strict=True)
        ]

    def _starts(self, curve: np.ndarray) -> int | None:
        short = np.flatnonzero(curve < self._controller.passages.task.continuation)
        first = int(short[-1]) + 2 if len(short) else 1
        return first if first <= len(curve) else None
