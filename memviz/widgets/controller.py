"""Between a Session and its views: what to compute when, and what to tell the browser."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from memviz import export
from memviz.engine.interventions import intervention
from memviz.engine.readout import Readout, random_reading, random_units, read
from memviz.engine.runner import CancelledError
from memviz.scores import Scores
from memviz.session import Session
from memviz.units import UnitSet
from memviz.widgets import choices, messages, requests, shown_scores
from memviz.widgets.answers import Answers
from memviz.widgets.epochs import Timeline
from memviz.widgets.inspected import Inspector
from memviz.widgets.messages import Message, Sink
from memviz.widgets.opened import opened_example
from memviz.widgets.pictures import Pictures
from memviz.widgets.scattered import Scatter
from memviz.widgets.shown_scores import ShownScores
from memviz.widgets.worker import Worker

RANDOM_DRAWS = 20


class Controller:
    """One for each session: answers what views ask, keeps long work in the background.

    Parameters
    ----------
    session : Session
    scores : dict of key to Scores, optional
        Further unit scores that the unit map can wear.
    threaded : bool
        False computes only when ``worker.run_until_idle()`` is called.
    """

    def __init__(
        self, session: Session, scores: dict[str, Scores] | None = None, *, threaded: bool = True
    ) -> None:
        self.session: Session = session
        self.pictures = Pictures.of(session.study)
        self.sinks: list[Sink] = []
        self.worker = Worker(self._failed, threaded=threaded)
        self._answers = Answers(session)
        self.scores = ShownScores(session, self.worker, self, lambda: self.inspector.start())
        self.effects, self.estimates = self.scores.effects, self.scores.estimates
        self.inspector = Inspector(
            session,
            self.worker,
            self.tell_and_keep,
            lambda: (self.effects.get(self.key), self.estimates.get(self.key)),
        )
        self._timeline: Timeline | None = None
        self._scatter: Scatter | None = None
        methods = choices.methods(session.study)
        self.score, self.method = "effect", methods[0]["key"] if methods else ""
        self.top: int | None = None
        self.readout: Readout | None = None
        self._outputs: torch.Tensor | None = None  # what the readout was read from
        self._latest: dict[str, Message] = {}
        self._ranked: tuple[UnitSet, str] | None = None  # units and key that `top` means
        self._told = 0.0
        self._read_key = ""  # whose readout the views show
        self.scores.use(scores or {})
        self._unwatch = session.watch(self._changed)

    @property
    def key(self) -> str:
        """Intervention and variant of the model: what effects are kept by."""
        return self.scores.key

    @property
    def worn(self) -> set[str]:
        """Keys of the scores that views show."""
        return {self.score, *(self._scatter.axes if self._scatter else ())}

    # What views ask -----------------------------------------------------------------------------

    def receive(self, content: dict[str, Any], sink: Sink) -> None:
        """Take one message of a view; a bad one is answered by one clear line."""
        try:
            requests.fulfil(self, content, sink)
        except Exception as error:
            sink.tell(messages.error_message(error))
            sink.tell(self.state_message())

    def hello(self, sink: Sink) -> None:
        """Tell a new view everything."""
        sink.tell(self.study_message())
        sink.tell(self.state_message())
        for message in messages.sprite_messages(self.pictures):
            sink.tell(message)
        for key, message in list(self._latest.items()):
            if key not in ("study", "state"):
                sink.tell(message)
        if self.readout is None:
            self._answer_state()
        self.scores.sweep_if_new()

    def use(self, scores: Mapping[str, Scores]) -> None:
        """Take further unit scores, and let every view offer them."""
        if scores:
            self.scores.use(scores)
            self.broadcast(Message({"type": "picks", "scores": self.scores.picks()}, []))

    def ready(self) -> None:
        """Wait for the first readout, so that there is something to draw without a browser."""
        if self.readout is None:
            self.worker.run_first(self._compute_readout)

    def close(self) -> None:
        """End the thread; the session goes on."""
        self._unwatch()
        self.worker.close()

    def ablate_top(self, k: int) -> None:
        """Ablate the k units that the chosen score ranks highest."""
        ranked = self.scores.ranking(self.score)
        if not 0 <= k <= len(ranked):
            raise ValueError(f"{k} units were asked for; {len(ranked)} have a score to rank by.")
        units = UnitSet([self.scores.units[row] for row in ranked[:k]])
        self.top, self._ranked = k, (units, self.key)
        version = self.session.version
        self.session.ablate(units)
        if self.session.version == version:  # the same units as before: only k is new
            self.broadcast(self.state_message())

    def choose_score(self, key: str) -> None:
        """Let the unit map wear another score."""
        self.scores.check(key)
        if key != self.score:
            self.top = self._ranked = None
        self.score = key
        self.broadcast(self.state_message())
        self.scores.show(key)

    @property
    def timeline(self) -> Timeline:
        """The session's timeline, made when it is first asked for."""
        if self._timeline is None:
            self._timeline = Timeline(self.session, self.worker, self.tell_and_keep)
        return self._timeline

    @property
    def scatter(self) -> Scatter:
        """The session's scatter, made when it is first asked for."""
        if self._scatter is None:
            self._scatter = Scatter(self.session, self.worker, self.scores, self)
        return self._scatter

    def choose_method(self, key: str) -> None:
        """Explain the opened example by another attribution."""
        if key not in {method["key"] for method in choices.methods(self.session.study)}:
            raise ValueError(f"there is no attribution method {key!r} to show.")
        self.method = key
        self.broadcast(self.state_message())
        self._start_example()

    def cancel(self) -> None:
        """Give up the long work; what is done of it stays."""
        self.scores.cancel()
        self.worker.drop("firing")
        # Told by the thread itself, after whatever the step now running still has to say.
        self.worker.work("idle", self._idle_steps(), rank=0)

    def export(self, path: Any) -> None:
        """Write a page that shows the present state without a kernel."""
        export.page(path, self.session.study.name, "workbench", self.snapshot())

    def snapshot(self) -> list[Message]:
        """Everything a view was told, newest of each kind."""
        self.ready()
        first = [self.study_message(), self.state_message()]
        rest = [m for key, m in list(self._latest.items()) if key not in ("study", "state")]
        return [*first, *messages.sprite_messages(self.pictures), *rest]

    # What changes ------------------------------------------------------------------------------

    def _changed(self, what: str) -> None:
        if (self.session.units, self.key) != self._ranked:
            self.top = self._ranked = None
        self.broadcast(self.state_message())
        if what == "examples":
            self._start_example()
            self.inspector.start()
            self.scores.example_opened()
            return
        shown = self.readout
        if shown is None or (shown.units, self._read_key) != (self.session.units, self.key):
            self._answer_state()
        else:
            self._restate(shown)
        self.scores.state_changed()
        if self._scatter is not None:
            self._scatter.state_changed()

    def _restate(self, shown: Readout) -> None:
        # The ablation came back to what stands there: only its version is new.
        self.worker.answer(lambda: self._tell_readout(shown, self.session.version))

    def _answer_state(self) -> None:
        self.worker.answer(self._compute_readout)

    def _compute_readout(self) -> None:
        session = self.session
        version, units, key = session.version, session.units, self.key
        kind = intervention(session.how)
        try:
            outputs = self._answers.outputs(
                units,
                kind,
                lambda: self.worker.answer_waits,
                lambda part: self.broadcast(messages.ahead_message(part, version)),
            )
        except CancelledError:
            return  # a newer answer waits
        self._outputs, self._read_key = outputs, key
        self._tell_readout(read(session.replay, units, outputs, kind), version)

    def _tell_readout(self, readout: Readout, version: int) -> None:
        self.readout = readout
        self._latest.pop("random", None)
        self.worker.drop("random")
        self.broadcast(self._keep(messages.readout_message(readout, version)))
        if readout.units:
            self.worker.work("random", self._random_steps(readout, version), rank=1)
        self._start_example()

    def _random_steps(self, readout: Readout, version: int) -> Iterator[None]:
        replay, kind = self.session.replay, intervention(readout.how)
        yield from self._answers.settle(readout.units, kind)
        draws: list[dict[str, tuple[float, float]]] = []
        for draw in range(RANDOM_DRAWS):
            units = random_units(replay.layers, readout.units, seed=draw)
            try:
                reading = random_reading(replay, units, kind, lambda: self.worker.answer_waits)
            except CancelledError:
                return
            draws.append(reading)
            if len(draws) in (1, 5, RANDOM_DRAWS):
                readout.random = {n: np.array([d[n] for d in draws]) for n in readout.groups}
                count = len(readout.units)
                message = messages.random_message(draws, version, count, RANDOM_DRAWS)
                self.broadcast(self._keep(message))
            yield

    def _idle_steps(self) -> Iterator[None]:
        self.broadcast(messages.progress_message("", 0, 0))
        yield

    # The opened example --------------------------------------------------------------------------

    def _start_example(self) -> None:
        if self.session.opened is None:
            self.worker.drop("example")
        else:
            self.worker.work("example", self._example_steps(), rank=0)

    def _example_steps(self) -> Iterator[None]:
        readout, outputs, index = self.readout, self._outputs, self.session.opened
        if readout is None or outputs is None or index is None:
            return  # the readout on its way starts this again
        given = (readout, outputs[index], index, self.method)
        steps = opened_example(self.session, self.pictures, *given)
        for message in steps:
            if message is not None and self.session.opened == index:
                self.broadcast(self._keep(message))
            yield

    # Telling -------------------------------------------------------------------------------------

    def study_message(self) -> Message:
        """What never changes."""
        picks = (
            self.scores.picks(),
            choices.interventions(self.session.how),
            choices.methods(self.session.study),
        )
        return self._keep(messages.study_message(self.session, self.pictures, *picks))

    def state_message(self) -> Message:
        """What the user is looking at."""
        session = self.session
        content = {"type": "state", "version": session.version, "layers": list(session.layers)}
        content |= {"units": str(session.units), "intervention": session.how, "score": self.score}
        content |= {"method": self.method, "opened": session.opened, "top": self.top}
        content |= {"variant": session.variant}
        content |= {"undo": session.can_undo, "redo": session.can_redo}
        return self._keep(Message(content, []))

    def broadcast(self, message: Message) -> None:
        """Tell every view."""
        for sink in list(self.sinks):
            sink.tell(message)

    def tell_and_keep(self, message: Message, key: str | None = None) -> None:
        """Tell every view, and every later one."""
        self.broadcast(self._keep(message, key))

    def _keep(self, message: Message, key: str | None = None) -> Message:
        self._latest[key or message.content["type"]] = message
        return message

    def tell_progress(self, job: str, words: str, done: int, total: int) -> None:
        """Tell how far a job is, not too often; a total of 0 ends it."""
        now = time.monotonic()
        if not total or now - self._told > shown_scores.TELL_EVERY:
            self._told = now
            self.broadcast(messages.progress_message(job, done, total, words))

    def _failed(self, error: Exception) -> None:
        self.broadcast(messages.error_message(error))
        self.broadcast(messages.progress_message("", 0, 0))
