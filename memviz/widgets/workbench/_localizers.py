"""Localizers for the score picker: each runs in its own thread, on a copy of the model."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Protocol

import numpy as np

from memviz.probes.contest import LOCALIZERS
from memviz.scores import Scores
from memviz.session import Session
from memviz.study import Study, private
from memviz.units import Unit
from memviz.widgets.core import Message, Worker, extra_scores_message, unit_scores_message
from memviz.widgets.core import start as start_thread

LOCALIZER = "localizer: "  # what their keys begin with
_POLL = 0.02  # s between two looks at a thread; a click waits no longer


class Onlookers(Protocol):
    """Which scores the views show, and where progress is sent."""

    @property
    def worn(self) -> set[str]:
        """Keys of the scores that views show."""

    def tell_progress(self, job: str, words: str, done: int, total: int) -> None:
        """Send the progress of a job; a total of 0 ends it."""


class LocalizerScores:
    """Scores of localizers, computed when chosen, once for each variant of the model.

    A localizer is a single call that nothing can interrupt. In its own thread, on a copy of the
    model, it disturbs no other call, and clicks are answered meanwhile. One runs at a time, and one
    that was cancelled runs to its end unseen. Of a model that cannot be copied it gets modules of
    its own around the same weights.

    Parameters
    ----------
    session : Session
    worker : Worker
    audience : Onlookers
    units : sequence of Unit
        The order of values in every message.
    tell : callable
        Sends the message of a key to all views.
    """

    def __init__(
        self,
        session: Session,
        worker: Worker,
        audience: Onlookers,
        units: Sequence[Unit],
        tell: Callable[[Message, str], None],
    ) -> None:
        self._session, self._worker, self._audience = session, worker, audience
        self._units, self._tell = units, tell
        self._runs: dict[tuple[str, str], _Run] = {}  # by localizer and variant
        self._turn = threading.Lock()
        self._wanted: list[str] = []  # keys still to be computed
        self._shown: set[str] = set()  # keys that were ever sent
        self._variant = session.variant  # of the scores that were sent

    def show(self, key: str) -> None:
        """Send the scores of a localizer; compute them first if they are not known."""
        if self._send(key):
            return
        self._wanted = [*(other for other in self._wanted if other != key), key]
        self._begin_none_that_waits()  # what is still wanted begins again, in its turn
        self._worker.work("localizer", self._steps(), rank=2)

    def state_changed(self) -> None:
        """If the model's variant has changed, show its scores in place of the earlier ones."""
        if self._session.variant == self._variant:
            return
        self._variant = self._session.variant
        unknown = np.full(len(self._units), np.nan)
        for key in sorted(self._shown):
            if not self._send(key):
                name = key.removeprefix(LOCALIZER)
                self._tell(unit_scores_message(key, name, "", unknown), key)
        for key in sorted(self._audience.worn):
            if key.startswith(LOCALIZER):
                self.show(key)

    def cancel(self) -> None:
        """Wait for no localizer any longer; the one that is running keeps its result, unseen."""
        self._worker.drop("localizer")
        self._wanted = []
        self._begin_none_that_waits()

    def _send(self, key: str) -> bool:
        """Send a localizer's scores for this variant, if they are known."""
        name = key.removeprefix(LOCALIZER)
        run = self._runs.get((name, self._session.variant))
        if run is None or run.scores is None:
            return False
        self._shown.add(key)
        self._tell(extra_scores_message(key, replace(run.scores, name=name), self._units), key)
        return True

    def _steps(self) -> Iterator[None]:
        while (key := next(iter(self._wanted), None)) is not None:
            try:
                yield from self._steps_of(key)
            except ValueError:
                self._wanted = [other for other in self._wanted if other != key]
                if self._wanted:  # one that fails must not take the others along
                    self._worker.work("localizer", self._steps(), rank=2)
                raise
            # If the variant has changed meanwhile, the scores of the new one are still to come.
            if self._send(key) or key not in self._audience.worn:
                self._wanted = [other for other in self._wanted if other != key]
        self._audience.tell_progress("score", "", 0, 0)

    def _steps_of(self, key: str) -> Iterator[None]:
        """Compute one, unless the views go on to another score or variant."""
        name, variant = key.removeprefix(LOCALIZER), self._session.variant
        for words in self._words(name, variant, self._session.replay.study):
            if key not in self._audience.worn or variant != self._session.variant:
                return
            self._audience.tell_progress("score", words, 0, 1)
            yield

    def _words(self, name: str, variant: str, study: Study) -> Iterator[str]:
        """Progress in words, until the scores are known."""
        start = time.monotonic()
        # A click may withdraw a run that waits at any moment: it is looked up once.
        run = self._runs.get((name, variant))
        if run is None:
            yield f"computing {name}, 0 s"
            run = self._runs[name, variant] = _Run(LOCALIZERS[name], self._turn)
            if self._worker.threaded:
                start_thread(partial(run, _copy(study)), f"memviz {name}", lambda: None)
            else:
                run(_copy(study))
        while not run.done.wait(_POLL):
            doing = "computing" if run.begun else "waiting to compute"
            yield f"{doing} {name}, {time.monotonic() - start:.0f} s"
        if run.error is not None:
            self._runs.pop((name, variant), None)
            raise ValueError(f"{name} cannot be computed: {run.error}") from run.error

    def _begin_none_that_waits(self) -> None:
        for key, run in list(self._runs.items()):
            if not run.begun:
                run.wanted = False
                self._runs.pop(key, None)


class _Run:
    """One call of a localizer, and its result."""

    def __init__(self, localizer: Callable[[Study], Scores], turn: threading.Lock) -> None:
        self._localizer, self._turn = localizer, turn
        self.scores: Scores | None = None
        self.error: BaseException | None = None
        self.wanted, self.begun, self.done = True, False, threading.Event()

    def __call__(self, study: Study) -> None:
        try:
            with self._turn:
                self.begun = self.wanted
                if self.begun:
                    self.scores = _checked(self._localizer(study))
        except (Exception, SystemExit) as error:
            self.error = error
        finally:
            self.done.set()


def _copy(study: Study) -> Study:
    """The study with a model of its own, with weights of its own where it can be copied."""
    try:
        return replace(study, model=deepcopy(study.model))
    except Exception:  # whatever it holds, it does not let itself be copied
        return private(study)


def _checked(scores: Scores) -> Scores:
    if not isinstance(scores, Scores) or scores.units is None:
        what = "scores of examples" if isinstance(scores, Scores) else type(scores).__name__
        raise TypeError(f"it returned {what}, not scores over units.")
    return scores
