"""What both controllers share: their views, what those were told, and how a request is answered."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

from memviz.session import Session
from memviz.units import UnitSet

from . import _messages as messages
from . import _page as export
from ._messages import Message, Sink
from ._requests import Action, fulfil
from ._worker import Worker

TELL_EVERY = 0.15  # s between two progress messages


class Telling(ABC):
    """Answers what views ask, keeps long work in the background, and keeps what was told.

    Parameters
    ----------
    session : Session
    part : str
        What an exported page shows.
    threaded : bool
        False computes only when ``worker.run_until_idle()`` is called.
    """

    score: str  # the one that the unit maps wear

    def __init__(self, session: Session, part: str, *, threaded: bool) -> None:
        self.session: Session = session
        self.sinks: list[Sink] = []
        self.worker = Worker(self._failed, threaded=threaded)
        self.top: int | None = None
        self._part = part
        self._ranked: tuple[UnitSet, str] | None = None  # units and key that `top` means
        self._latest: dict[str, Message] = {}
        self._told = 0.0
        self._unwatch = session.watch(self._changed)

    # What a controller says of itself -----------------------------------------------------------

    @property
    @abstractmethod
    def key(self) -> str:
        """What scores are kept by: intervention, and variant where there are some."""

    @property
    @abstractmethod
    def answered(self) -> bool:
        """Whether the first figures are there."""

    @property
    @abstractmethod
    def sentence(self) -> str:
        """The newest figures in words, without waiting for any."""

    @abstractmethod
    def study_message(self) -> Message:
        """What never changes."""

    @abstractmethod
    def picture_messages(self) -> Sequence[Message]:
        """Pictures that every view has."""

    @abstractmethod
    def _answer(self) -> None:
        """Compute the figures of the present state and tell them."""

    @abstractmethod
    def _changed(self, what: str) -> None:
        """The session moved."""

    # What views ask -----------------------------------------------------------------------------

    def receive(self, content: dict[str, Any], sink: Sink) -> None:
        """Take one message of a view; a bad one is answered by one clear line."""
        try:
            fulfil(self.actions, content, sink)
        except Exception as error:
            sink.tell(messages.error_message(error))
            sink.tell(self.state_message())

    @property
    def actions(self) -> dict[str, Action]:
        """What a view may ask, by the type of the request."""
        session = self.session
        return {
            "hello": Action(lambda _, sink: self.hello(sink)),
            "toggle": Action(lambda asked, _: session.toggle(asked["units"]), "units"),
            "set": Action(lambda asked, _: session.ablate(asked["units"]), "units"),
            "top": Action(
                lambda asked, _: self.ablate_top(asked["k"]), "k", (int,), "a whole number"
            ),
            "layers": Action(
                lambda asked, _: session.show_layers([str(name) for name in asked["names"]]),
                *("names", (list,), "a list of names"),
            ),
            "intervention": Action(lambda asked, _: session.use(asked["key"]), "key"),
            "variant": Action(lambda asked, _: session.look_at(asked["key"]), "key"),
            "score": Action(lambda asked, _: self.choose_score(asked["key"]), "key"),
            "open": Action(
                lambda asked, _: session.open(asked["example"]),
                *("example", (int, type(None)), "a whole number or nothing"),
            ),
            "undo": Action(lambda *_: session.undo()),
            "redo": Action(lambda *_: session.redo()),
            "reset": Action(lambda *_: session.reset()),
            "cancel": Action(lambda *_: self.cancel()),
            "code": Action(lambda _, sink: self._tell_code(sink)),
            "export": Action(lambda _, sink: self._export_beside(sink)),
        }

    @abstractmethod
    def ablate_top(self, k: int) -> None:
        """Ablate the k units that the chosen score ranks highest."""

    @abstractmethod
    def choose_score(self, key: str) -> None:
        """Show another score on the unit map."""

    @abstractmethod
    def cancel(self) -> None:
        """Give up the long work; what is done of it stays."""

    def code(self) -> str:
        """Lines that rebuild what is looked at with the plain functions."""
        return self.session.to_code()

    def _tell_code(self, sink: Sink) -> None:
        sink.tell(Message({"type": "code", "text": self.code()}, []))

    def _export_beside(self, sink: Sink) -> None:
        path = export.free_path(f"memviz-{self.session.study.name}.html")
        self.export(path)
        sink.tell(Message({"type": "exported", "text": f"Saved as {path.name}."}, []))

    def hello(self, sink: Sink) -> None:
        """Tell a new view everything."""
        for message in self._everything():
            sink.tell(message)
        if not self.answered:
            self.worker.answer(self._answer)

    def ready(self) -> None:
        """Wait for the first figures, so that there is something to draw without a browser."""
        if not self.answered:
            self.worker.run_first(self._answer)

    def close(self) -> None:
        """End the thread; the session goes on."""
        self._unwatch()
        self.worker.close()

    def export(self, path: Any) -> None:
        """Write a page that shows the present state without a kernel."""
        export.page(path, self.session.study.name, self._part, self.snapshot())

    def snapshot(self) -> list[Message]:
        """Everything a view was told, newest of each kind."""
        self.ready()
        return self._everything()

    def _everything(self) -> list[Message]:
        first = [self.study_message(), self.state_message(), *self.picture_messages()]
        return [*first, *(m for k, m in list(self._latest.items()) if k not in ("study", "state"))]

    def _ablate_ranked(self, units: UnitSet) -> None:
        """Ablate units that a score ranks highest."""
        self.top, self._ranked = len(units), (units, self.key)
        version = self.session.version
        self.session.ablate(units)
        if self.session.version == version:  # the same units as before: only k is new
            self.broadcast(self.state_message())

    def _wear(self, key: str) -> None:
        if key != self.score:
            self.top = self._ranked = None
        self.score = key
        self.broadcast(self.state_message())

    def _cancel(self, *names: str) -> None:
        for name in names:
            self.worker.drop(name)
        # Told by the thread itself, after whatever the step now running still has to say.
        self.worker.work("idle", self._idle_steps(), rank=0)

    def _idle_steps(self) -> Iterator[None]:
        self.broadcast(messages.progress_message("", 0, 0))
        yield

    # Telling -------------------------------------------------------------------------------------

    def state_message(self) -> Message:
        """What the user is looking at."""
        session = self.session
        content = {"type": "state", "version": session.version, "layers": list(session.layers)}
        content |= {"units": str(session.units), "intervention": session.how, "score": self.score}
        content |= {"opened": session.opened, "top": self.top, "variant": session.variant}
        content |= {"undo": session.can_undo, "redo": session.can_redo}
        return self._keep(Message({**content, **self._more_state()}, []))

    def _more_state(self) -> dict[str, Any]:
        return {}

    def _tell_state(self) -> None:
        """Tell every view the state; another ablation is no longer the top k."""
        if (self.session.units, self.key) != self._ranked:
            self.top = self._ranked = None
        self.broadcast(self.state_message())

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
        if not total or now - self._told > TELL_EVERY:
            self._told = now
            self.broadcast(messages.progress_message(job, done, total, words))

    def _failed(self, error: Exception) -> None:
        self.broadcast(messages.error_message(error))
        self.broadcast(messages.progress_message("", 0, 0))
