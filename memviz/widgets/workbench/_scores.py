"""Scores over units: effects, estimates, localizers and the user's own, sent as they come."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch

from memviz.checks import coded, quoted
from memviz.engine.record import intervention
from memviz.engine.sweep import (
    Effects,
    OneAtATime,
    batches,
    default_units,
    estimate_steps,
    new_effects,
    sweep_steps,
)
from memviz.scores import Scores
from memviz.session import Session
from memviz.tasks import lost
from memviz.units import Layer
from memviz.widgets.core import TELL_EVERY, Choices, Message, Worker, extra_scores_message, ranking

from . import _choices as choices
from ._conductance import conductance
from ._localizers import LOCALIZER, LocalizerScores, Onlookers
from ._messages import effects_message, group_effect
from ._singles import SingleTables

_SWEPT = {"effect", "estimate"}
# Effects of this many interventions and variants are kept, of fewer where they are large.
_MOST, _LEAST, _BYTES = 24, 4, 2**30


class Audience(Onlookers, Protocol):
    """Which scores the views show, and where scores and progress are sent."""

    def tell_and_keep(self, message: Message, key: str | None = None) -> None:
        """Send a message to every view, and to those opened later."""


class ShownScores:
    """Every score over a session's units that a view can show.

    Parameters
    ----------
    session : Session
    worker : Worker
    audience : Audience
    swept : callable
        Called when a sweep has ended.
    layers : sequence of Layer, optional
        Those whose units are scored; all of the session by default.
    singles : SingleTables, optional
        Filled by every sweep.

    Attributes
    ----------
    units : list of Unit
        The order of values in every message.
    extra : dict of key to Scores
        The user's own.
    effects, estimates : dict of key to Effects
        By intervention and variant of the model, the newest few.
    """

    def __init__(
        self,
        session: Session,
        worker: Worker,
        audience: Audience,
        swept: Callable[[], None],
        layers: Sequence[Layer] | None = None,
        singles: SingleTables | None = None,
    ) -> None:
        self.singles = singles
        self.session, self._worker, self._audience, self._ended = session, worker, audience, swept
        self.units = default_units(session.known if layers is None else layers)
        self.extra: dict[str, Scores] = {}
        self.effects: dict[str, Effects] = {}
        self.estimates: dict[str, Effects] = {}
        self._latest: dict[str, Message] = {}
        self._localizers = LocalizerScores(session, worker, audience, self.units, self._tell)
        self._swept = ""  # the key last swept, to its end or until it was cancelled
        self._cancelled = False  # that sweep goes on only when its score is chosen again
        self._told = ""  # the key whose effects the views show
        self._first = next(iter(session.study.groups))

    @property
    def key(self) -> str:
        """The key that effects are kept under: intervention, and variant of the model."""
        return f"{self.session.how} {self.session.variant}".strip()

    def use(self, scores: Mapping[str, Scores]) -> None:
        """Add scores; one with a known key replaces the earlier one.

        Raises
        ------
        ValueError
            If scores are over examples, or a key belongs to a score of every unit map.
        """
        for key, given in scores.items():
            if given.units is None:
                raise ValueError(
                    f"{given.name!r} is over examples; the unit map shows scores over units."
                )
            if choices.is_taken(key):
                raise ValueError(f"{key!r} is a score of every unit map; name yours differently.")
        self.extra.update(scores)
        for key in self._audience.worn & set(scores):
            self.show(key)

    def picks(self) -> Choices:
        """The scores that can be picked."""
        return choices.scores(self.session.study, self.extra)

    def check(self, key: str) -> None:
        """Raise ValueError if there is no such score."""
        if key not in {score["key"] for score in self.picks()}:
            raise ValueError(f"there is no score {quoted(key)} to show.")

    def take(self, effects: Effects) -> None:
        """Use the effects of an earlier sweep, so that none is run again."""
        whole = list(effects.units) == self.units and torch.equal(
            effects.examples, self.session.replay.examples
        )
        if effects.study is not self.session.study or not whole or effects.engine == "estimate":
            raise ValueError(
                coded(
                    "E32",
                    "effects must come from a sweep over all units and examples of this study; "
                    "pass the result of mv.sweep(study), or leave effects out.",
                )
            )
        _keep(self.effects, effects.how, effects)

    def ranking(self, key: str) -> list[int]:
        """Rows of the units from the highest score down, as the views show them."""
        shown = self._latest.get(key)
        of_another = shown is not None and shown.content["note"] != self.key
        if shown is None or (of_another and key in _SWEPT):
            return []
        return ranking(shown)

    def shown(self, key: str) -> Scores:
        """The scores that the views show now; NaN where nothing is known yet.

        An estimate never stands in for an exact effect: in a scatter the two would seem to agree.
        """
        told = self._latest.get(key)
        if told is None or (key in _SWEPT and told.content["note"] != self.key):
            label = next(score["label"] for score in self.picks() if score["key"] == key)
            return Scores(label, "", np.full(len(self.units), np.nan), units=tuple(self.units))
        content, buffers = told
        value, state = np.frombuffer(buffers[0], np.float32), np.frombuffer(buffers[1], np.uint8)
        units, exact = tuple(self.units), state != 1
        value = np.where(state > (key == "effect"), value, np.nan)
        return Scores(content["label"], content["measure"], value, units=units, exact=exact)

    def show(self, key: str) -> None:
        """Send a score as far as it is known, and compute the rest.

        Choosing the exact effect resumes a sweep that was cancelled.
        """
        if key in _SWEPT:
            if self._cancelled and (key == "effect" or self.key not in self.estimates):
                self._sweep()
            if self._knows(self.key):
                self.tell_effects(self.key)
        elif key == "conductance":
            self._worker.work("score", self._conductance_steps(), rank=2)
        elif key.startswith(LOCALIZER):
            self._localizers.show(key)
        else:
            self._tell(extra_scores_message(key, self.extra[key], self.units), key)

    def state_changed(self) -> None:
        """Follow the session's intervention and variant."""
        self.sweep_if_new()
        self._localizers.state_changed()
        if self.key != self._told and self._audience.worn & _SWEPT and self._knows(self.key):
            self.tell_effects(self.key)

    def example_opened(self) -> None:
        """Compute conductance again, since it is that of the opened example."""
        if "conductance" in self._audience.worn:
            self.show("conductance")

    def cancel(self) -> None:
        """Stop computing, and keep the results so far."""
        if self._worker.drop("sweep"):
            self._cancelled = True
            # Sent by the thread itself, so that it includes the step now running.
            self._worker.work("left", self._left_steps(), rank=0)
        self._worker.drop("score")
        self._localizers.cancel()

    def _left_steps(self) -> Iterator[None]:
        self.tell_effects(self.key)
        yield

    def _knows(self, key: str) -> bool:
        return key in self.estimates or key in self.effects

    def sweep_if_new(self) -> None:
        """Sweep, unless the last sweep was for the same intervention and variant."""
        # A cancelled sweep stays cancelled until its score is chosen or another key is swept.
        if self.key != self._swept:
            self._sweep()

    def resume(self) -> None:
        """Go on with a sweep that an error has stopped."""
        if self._swept and not self._cancelled:
            self._sweep()

    def _sweep(self) -> None:
        self._swept, self._cancelled = self.key, False
        self._worker.work("sweep", self._sweep_steps(self.key), rank=3)

    def _sweep_steps(self, key: str) -> Iterator[None]:
        replay, kind = self.session.replay, intervention(self.session.how)
        if key not in self.estimates:
            if key in self.effects:  # those of an earlier sweep need not wait for the estimates
                if self.singles is not None:
                    self.singles.of(key, self.effects[key])
                self.tell_effects(key)
                yield
            estimate = new_effects(replay, self.units, kind)
            # A large model takes a second for a few examples, and a click must not wait for all.
            for part, _ in enumerate(estimate_steps(replay, estimate, kind), start=1):
                if part < replay.steps:
                    self._audience.tell_progress("sweep", "estimate, part", part, replay.steps)
                    yield
            _keep(self.estimates, key, estimate)
            self.tell_effects(key)
            yield
        if key not in self.effects:
            _keep(self.effects, key, new_effects(replay, self.units, kind))
        effects, total = self.effects[key], len(self.units)
        ranked = np.argsort(-group_effect(self.estimates[key]), kind="stable")
        order = ranked[~effects.done.numpy()[ranked]].tolist()  # what an earlier sweep left
        told = time.monotonic()
        table = None if self.singles is None else self.singles.of(key, effects)
        see = None if table is None else table.see
        before, fast = total - len(order), OneAtATime(replay, kind) if order else None
        for few in batches(replay, order):
            for done in sweep_steps(replay, effects, kind, few, fast, see):
                if time.monotonic() - told > 4 * TELL_EVERY:
                    self.tell_effects(key)
                    told = time.monotonic()
                self._audience.tell_progress("sweep", "exact for", before + int(done), total)
                yield
            before += len(few)
        self.tell_effects(key, swept=True)
        self._ended()
        self._audience.tell_progress("sweep", "", 0, 0)

    def tell_effects(self, key: str, *, swept: bool = False) -> None:
        """Send exact effects and estimates as they stand, if the session still shows this key."""
        if key != self.key:
            return
        if self.singles is not None:
            self.singles.tell(key, whole=swept)
        self._told = key
        names = list(self.session.study.groups)
        against = f" against {names[1]}" if len(names) > 1 else ""
        unit = lost(self.session.study.task, "margin")
        measure = f"{unit}, mean of {names[0]}" + (f" − mean of {names[1]}" if against else "")
        exact, estimate, units = self.effects.get(key), self.estimates.get(key), len(self.units)
        label = f"exact effect on {names[0]}{against}"
        message = effects_message("effect", label, exact, estimate, measure, key, units)
        content = {**message.content, "cancelled": self._cancelled}
        self._tell(Message(content, message.buffers), "effect")
        if estimate is None:
            return
        label = f"estimate: gradient × activation on {names[0]}{against}"
        message = effects_message("estimate", label, None, estimate, measure, key, units)
        self._tell(message, "estimate")

    def _conductance_steps(self) -> Iterator[None]:
        for step in conductance(self.session, self.units, self._first):
            if isinstance(step, Message):
                self._tell(step, "conductance")
            else:
                self._audience.tell_progress("score", "conductance of layer", *step)
            yield
        self._audience.tell_progress("score", "", 0, 0)

    def _tell(self, message: Message, key: str) -> None:
        self._latest[key] = message
        self._audience.tell_and_keep(message, f"scores:{key}")


def _keep(table: dict[str, Effects], key: str, effects: Effects) -> None:
    """Add effects, and forget the oldest where there are too many: a session may last for days."""
    table[key] = effects
    each = effects.margin_change.numel() * effects.margin_change.element_size()
    most = max(_LEAST, min(_MOST, _BYTES // max(1, each)))
    for oldest in list(table)[:-most]:
        del table[oldest]
