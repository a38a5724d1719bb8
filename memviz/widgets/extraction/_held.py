"""Which units hold the opened passage: what its margin loses when each of them alone is off."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from memviz.engine.record import Replay, intervention
from memviz.engine.sweep import Effects, estimate_effects, new_effects, sweep_steps
from memviz.scores import Scores
from memviz.session import Session
from memviz.tasks import lost
from memviz.widgets.core import TELL_EVERY, Message, Worker, ranking, unit_scores_message
from memviz.widgets.workbench import ShownScores

KEY = "opened passage"
_LABEL = "effect on this passage"
_KEPT = 50  # passages whose effects are kept


class Host(Protocol):
    """What the score needs of the controller."""

    score: str
    session: Session
    worker: Worker
    scores: ShownScores

    @property
    def key(self) -> str:
        """The intervention, and the variant of the model."""

    def tell_and_keep(self, message: Message, key: str | None = None) -> None:
        """Send a message to every view, and to those opened later."""

    def tell_progress(self, job: str, words: str, done: int, total: int) -> None:
        """Report progress."""


@dataclass
class _Known:
    """Effects on one passage: estimates of all units, exact ones as far as they are swept."""

    estimate: np.ndarray
    exact: Effects

    @property
    def done(self) -> np.ndarray:
        """Which units are exact, bool ``[units]``."""
        return np.asarray(self.exact.done.numpy())

    @property
    def values(self) -> np.ndarray:
        """The margin that each unit takes with it, float64 ``[units]``."""
        exact = -self.exact.margin_change[:, 0].double().numpy()
        return np.where(self.done, exact, self.estimate)


class HeldBy:
    """The effect of each unit on the opened passage, a score of the unit maps.

    It is computed while the maps show it: estimates of all units first, then exact effects, those
    with the largest estimates first. Heads are shown, not ranked: each is a large share of its
    layer, and among neurons they would always lead.

    Parameters
    ----------
    controller : Host
    """

    def __init__(self, controller: Host) -> None:
        self._controller = controller
        self._known: dict[tuple[int, str], _Known] = {}  # by row and key
        self._shown: tuple[int | None, str] = (None, "")
        self._told: Message | None = None
        nothing = np.full(len(controller.scores.units), np.nan)
        units = tuple(controller.scores.units)
        controller.scores.use({KEY: Scores(_LABEL, "", nothing, units=units)})  # can be picked

    def follow(self) -> None:
        """Show the opened passage's effects, if the maps show this score and it is another."""
        controller = self._controller
        row = controller.session.opened
        if controller.score == KEY and self._shown != (row, controller.key):
            self.show()

    def show(self) -> None:
        """Show the effects on the opened passage, and compute what is missing."""
        controller = self._controller
        row = controller.session.opened
        self._shown = (row, controller.key)
        controller.worker.drop("held")
        self._use(row, None if row is None else self._known.get((row, controller.key)))
        if row is not None:
            controller.worker.work("held", self._steps(row, controller.key), rank=2)

    def ranking(self) -> list[int]:
        """Rows of the units from the highest effect down, as the views show them."""
        if self._told is None:
            return []
        units, apart = self._controller.scores.units, self._told.content["unranked"]
        return [row for row in ranking(self._told) if units[row].layer not in apart]

    def cancel(self) -> None:
        """Stop, and keep what is known; choosing the score goes on."""
        self._controller.worker.drop("held")

    def _steps(self, row: int, key: str) -> Iterator[None]:
        controller, how = self._controller, intervention(self._controller.session.how)
        replay = Replay(controller.session.replay.study, torch.tensor([row]))
        units = controller.scores.units
        if (row, key) not in self._known:
            change = estimate_effects(replay, units, how).margin_change[:, 0]
            for oldest in list(self._known)[: 1 - _KEPT]:
                del self._known[oldest]
            found = _Known(-change.double().numpy(), new_effects(replay, units, how))
            self._known[row, key] = found
            self._use(row, found)
            yield
        found = self._known[row, key]
        ranked = np.argsort(-found.estimate, kind="stable")
        left = ranked[~found.done[ranked]].tolist()
        told = time.monotonic()
        for done in sweep_steps(replay, found.exact, how, left) if left else ():
            if time.monotonic() - told > 4 * TELL_EVERY:
                told = time.monotonic()
                self._use(row, found)
            exact = len(units) - len(left) + int(done)
            controller.tell_progress("held", "exact for", exact, len(units))
            yield
        self._use(row, found)
        controller.tell_progress("held", "", 0, 0)

    def _use(self, row: int | None, found: _Known | None) -> None:
        controller = self._controller
        nothing = np.full(len(controller.scores.units), np.nan)
        value = nothing if found is None else found.values
        exact = None if found is None else found.done
        of = "" if row is None else f", passage {row:,}"
        words = f"{lost(controller.session.study.task, 'margin')}{of}"
        layers = controller.session.known
        heads = [layer.name for layer in layers if layer.kind == "heads"]
        neurons = [layer for layer in layers if layer.kind != "heads"]
        content = {"measure": words, "unranked": [], "floor": 0}
        if heads and neurons:
            content |= {"measure": f"{words}; heads are not ranked", "unranked": heads}
        message = unit_scores_message(KEY, _LABEL, words, value, exact=exact)
        self._told = Message({**message.content, **content}, message.buffers)
        controller.tell_and_keep(self._told, f"scores:{KEY}")
