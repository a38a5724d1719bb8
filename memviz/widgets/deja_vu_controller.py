"""Between a Retrieval and the déjà vu explorer: what to compute when, and what to tell."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, cast

import numpy as np

from memviz import export
from memviz.engine.interventions import intervention
from memviz.engine.runner import CancelledError
from memviz.probes.deja_vu_retrieval import Retrieval, Retrieved
from memviz.probes.deja_vu_units import random_steps
from memviz.session import Session
from memviz.units import UnitSet
from memviz.widgets import choices, messages, requests
from memviz.widgets import deja_vu_messages as told
from memviz.widgets.deja_vu_scores import TELL_EVERY, DejaVuScores
from memviz.widgets.messages import Message, Sink
from memviz.widgets.pictures import Pictures
from memviz.widgets.worker import Worker

RANDOM_DRAWS = 5


class DejaVuController:
    """One for each explorer: answers what its views ask, keeps long work in the background.

    Parameters
    ----------
    retrieval : Retrieval
    session : Session
        Of the retrieval's study.
    threaded : bool
        False computes only when ``worker.run_until_idle()`` is called.
    """

    def __init__(self, retrieval: Retrieval, session: Session, *, threaded: bool = True) -> None:
        self.retrieval, self.session = retrieval, session
        self.sinks: list[Sink] = []
        self.worker = Worker(self._failed, threaded=threaded)
        self.sort, self.find, self.score = "recall_gap", "", "aucg"
        self.caption: str | None = None  # an edited one
        self.top: int | None = None
        self.shown: Retrieved | None = None
        self.scores = DejaVuScores(retrieval, session, self.worker, self._tell, self._tell_progress)
        self._tiles = told.Tiles(retrieval)
        self._private = told.PrivateWords(retrieval.training.captions)
        self._latest: dict[str, Message] = {}
        self._ranked: tuple[UnitSet, str] | None = None  # units and intervention `top` means
        self._told = 0.0
        self._unwatch = session.watch(self._changed)

    # What views ask -----------------------------------------------------------------------------

    def receive(self, content: dict[str, Any], sink: Sink) -> None:
        """Take one message of a view; a bad one is answered by one clear line."""
        kind = content.get("type") if isinstance(content, dict) else None
        try:
            if kind == "list":
                self.list_by(_text(content, "sort"), _text(content, "find"))
            elif kind == "caption":
                self.ask(_text(content, "text"))
            elif kind == "code":
                sink.tell(Message({"type": "code", "text": self.code()}, []))
            else:
                requests.fulfil(cast(Any, self), content, sink)
        except Exception as error:
            sink.tell(messages.error_message(error))
            sink.tell(self.state_message())

    def hello(self, sink: Sink) -> None:
        """Tell a new view everything."""
        sink.tell(self.study_message())
        sink.tell(self.state_message())
        sheet = self._tiles.all()
        if sheet is not None:
            sink.tell(sheet)
        for key, message in list(self._latest.items()):
            if key not in ("study", "state"):
                sink.tell(message)
        if self.shown is None:
            self.worker.answer(self._answer)

    def ready(self) -> None:
        """Wait for the first figures, so that there is something to draw without a browser."""
        if self.shown is None:
            self.worker.run_first(self._answer)

    def close(self) -> None:
        """End the thread; the session goes on."""
        self._unwatch()
        self.worker.close()

    def list_by(self, sort: str, find: str) -> None:
        """Sort the list, and keep the captions that have these words."""
        if sort not in told.SORTS:
            raise ValueError(f"pairs can't be sorted by {sort!r}; use {', '.join(told.SORTS)}.")
        self.sort, self.find = sort, find
        if self.shown is not None:
            self.worker.work("list", self._list_steps(), rank=0)

    def ask(self, caption: str) -> None:
        """Look up an edited caption in place of the pair's own; its own again if empty."""
        row = self.session.opened
        own = None if row is None else self.retrieval.training.captions[row]
        self.caption = caption.strip() if caption.strip() not in ("", own) else None
        self.worker.answer(self._answer)

    def choose_score(self, key: str) -> None:
        """Let the unit maps wear another score."""
        if key not in {score["key"] for score in self.scores.choices()}:
            raise ValueError(f"there is no score {key!r} to show.")
        if key != self.score:
            self.top = self._ranked = None
        self.score = key
        self.broadcast(self.state_message())
        self.scores.show(self.score)

    def ablate_top(self, k: int) -> None:
        """Ablate the k units that the chosen score ranks highest."""
        shown = self._latest.get("scores:" + self.score)
        ranked = [] if shown is None else messages.ranking(shown)
        unranked = () if shown is None else shown.content.get("unranked", ())
        ranked = [row for row in ranked if self.scores.units[row].layer not in unranked]
        if not 0 <= k <= len(ranked):
            raise ValueError(f"{k} units were asked for; {len(ranked)} have a score to rank by.")
        units = UnitSet([self.scores.units[row] for row in ranked[:k]])
        self.top, self._ranked = k, (units, self.session.how)
        version = self.session.version
        self.session.ablate(units)
        if self.session.version == version:
            self.broadcast(self.state_message())

    def cancel(self) -> None:
        """Give up the long work; what is done of it stays."""
        for name in ("sweep", "score"):
            self.worker.drop(name)
        self.worker.work("idle", self._idle_steps(), rank=0)

    def export(self, path: Any) -> None:
        """Write a page that shows the present state without a kernel."""
        export.page(path, self.session.study.name, "deja_vu", self.snapshot())

    def snapshot(self) -> list[Message]:
        """Everything a view was told, newest of each kind."""
        self.ready()
        sheet = self._tiles.all()
        first = [self.study_message(), self.state_message(), *([sheet] if sheet else [])]
        return [*first, *(m for k, m in list(self._latest.items()) if k not in ("study", "state"))]

    @property
    def snapshot_sentence(self) -> str:
        """The newest sentence, without waiting for one."""
        gaps = self._latest.get("gaps")
        return "starting" if gaps is None else str(gaps.content["sentence"])

    def thumbnail(self, number: int) -> np.ndarray:
        """A picture by its number, uint8 ``[side, side, 3]``: training pairs, then public ones."""
        return np.asarray(self._tiles.picture(number))

    def code(self) -> str:
        """Lines that make these figures again with the plain functions."""
        origin = self.retrieval.origin or "...  # your Retrieval"
        units, how = str(self.session.units), self.session.how
        return (
            f"import memviz as mv\n\nfound = {origin}\nprint(found.retrieve({units!r}, {how!r}))\n"
        )

    # What changes ------------------------------------------------------------------------------

    def _changed(self, what: str) -> None:
        if (self.session.units, self.session.how) != self._ranked:
            self.top = self._ranked = None
        self.broadcast(self.state_message())
        if what == "examples":
            self.caption = None
        if self.session.how != self.scores.how or (what == "examples" and self.score == "pair"):
            self.scores.show(self.score)
        self.worker.answer(self._answer)

    def _answer(self) -> None:
        session, first = self.session, self.shown is None
        version, units, how = session.version, session.units, session.how
        try:
            now = self._retrieved(units, how)
            if first:
                self._tell_pairs()
                self._open_first()
            pair = self._tell_pair(now, version)
        except CancelledError:
            return  # a newer answer waits
        fresh, self.shown = now is not self.shown, now
        clean = self.retrieval.clean
        self._tell(told.gaps_message(clean, now, version, len(self.scores.units), pair))
        if fresh:
            self._latest.pop("chance", None)
            self.worker.drop("random")
        if fresh and units:
            self.worker.work("random", self._random_steps(units, how, version), rank=1)
        if first:
            self.scores.show(self.score)

    def _retrieved(self, units: UnitSet, how: str) -> Retrieved:
        shown = self.shown
        if shown is not None and (shown.units, shown.how) == (units, how):
            return shown
        found = self.retrieval.retrieve(units, how, stop=lambda: self.worker.answer_waits)
        return replace(found, how=how)  # nothing ablated is the same under any intervention

    def _open_first(self) -> None:
        listed = self._latest["pairs"].content["pairs"]
        if self.session.opened is None and listed:
            self.session.open(listed[0]["row"])

    def _tell_pair(self, now: Retrieved, version: int) -> str:
        pairs, row = self.retrieval.training, self.session.opened
        if row is None or row >= len(pairs):
            return ""
        caption, place, clean = pairs.captions[row], row, self.retrieval.clean.found
        sides = [clean.target, now.found.target, clean.reference]
        if self.caption is not None:
            caption, place = self.caption, 0
            sides = self.retrieval.ask(caption, pairs.objects[row], now.units, now.how)
        private = self._private.of(caption)
        message = told.pair_message(
            self.retrieval, row, caption, sides, place, private, len(now.units), version
        )
        drawn = (number for side in message.content["sides"] for number in side["pictures"])
        self._tell_tiles([row, *drawn])
        self._tell(message)
        return told.pair_words(sides, place)

    def _tell_pairs(self) -> None:
        message = told.pairs_message(
            self.retrieval, self.retrieval.clean.found, self.sort, self.find
        )
        self._tell_tiles(entry["row"] for entry in message.content["pairs"])
        self._tell(message)

    def _list_steps(self) -> Iterator[None]:
        self._tell_pairs()
        yield

    def _tell_tiles(self, wanted: Iterable[int]) -> None:
        sheet = self._tiles.message(wanted)
        if sheet is not None:
            self.broadcast(sheet)

    def _random_steps(self, units: UnitSet, how: str, version: int) -> Iterator[None]:
        draws: list[list[float]] = []
        steps = random_steps(
            self.retrieval, units, intervention(how), RANDOM_DRAWS, lambda: self.worker.answer_waits
        )
        try:
            for draw in steps:
                draws.append(draw)
                self._tell(told.chance_message(draws, version, len(units), RANDOM_DRAWS))
                yield
        except CancelledError:
            return  # an answer waits, and its own draws follow it

    def _idle_steps(self) -> Iterator[None]:
        self.broadcast(messages.progress_message("", 0, 0))
        yield

    # Telling -------------------------------------------------------------------------------------

    def study_message(self) -> Message:
        """What never changes."""
        pictures = Pictures(self.session.study, 0, 255, (1, 1, 3), False)
        hows = choices.interventions(self.session.how)
        message = messages.study_message(self.session, pictures, self.scores.choices(), hows, [])
        objects = list(self.retrieval.training.class_names)
        content = {**message.content, "towers": told.layer_towers(self.retrieval)}
        return self._keep(Message({**content, "objects": objects}, message.buffers))

    def state_message(self) -> Message:
        """What the user is looking at."""
        session = self.session
        content = {"type": "state", "version": session.version, "layers": list(session.layers)}
        content |= {"units": str(session.units), "intervention": session.how, "score": self.score}
        content |= {"method": "", "opened": session.opened, "top": self.top, "variant": ""}
        content |= {"undo": session.can_undo, "redo": session.can_redo}
        return self._keep(Message(content, []))

    def broadcast(self, message: Message) -> None:
        """Tell every view."""
        for sink in list(self.sinks):
            sink.tell(message)

    def _tell(self, message: Message, key: str | None = None) -> None:
        self.broadcast(self._keep(message, key))

    def _keep(self, message: Message, key: str | None = None) -> Message:
        self._latest[key or message.content["type"]] = message
        return message

    def _tell_progress(self, job: str, words: str, done: int, total: int) -> None:
        now = time.monotonic()
        if not total or now - self._told > TELL_EVERY:
            self._told = now
            self.broadcast(messages.progress_message(job, done, total, words))

    def _failed(self, error: Exception) -> None:
        self.broadcast(messages.error_message(error))
        self.broadcast(messages.progress_message("", 0, 0))


def _text(content: dict[str, Any], field: str) -> str:
    value = content.get(field)
    if not isinstance(value, str):
        raise ValueError(f"{content['type']!r} needs {field!r}, a text; {value!r} was given.")
    return value
