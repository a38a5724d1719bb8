"""What both controllers share: their views, the latest messages, and the answers to requests."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import suppress
from traceback import clear_frames
from typing import Any

from memviz.session import HISTORY, Session
from memviz.units import Unit, UnitSet

from . import _messages as messages
from . import _page as export
from ._messages import Message, Sink
from ._requests import Action, fulfil
from ._worker import Worker

TELL_EVERY = 0.15  # s between two progress messages
_LOOK = 0.2  # s between two looks whether a model in train mode is back in eval mode


class Telling(ABC):
    """Answers the requests of views, works in the background, and keeps the latest messages.

    Parameters
    ----------
    session : Session
    part : str
        The view that an exported page shows.
    threaded : bool
        False computes only in ``worker.run_until_idle()``.
    """

    score: str  # key of the score that the unit maps show

    def __init__(self, session: Session, part: str, *, threaded: bool) -> None:
        self.session: Session = session
        self.sinks: list[Sink] = []
        self.worker = Worker(self._failed, threaded=threaded)
        self.top: int | None = None
        self.failure: BaseException | None = None  # the newest, of which the views have one line
        self._part = part
        self._ranked: tuple[UnitSet, str] | None = None  # the top units, and their key
        self._latest: dict[str, Message] = {}
        self._told = 0.0
        self._unwatch = session.watch(self._changed)

    # What each controller defines ---------------------------------------------------------------

    @property
    @abstractmethod
    def key(self) -> str:
        """The key of the current scores: the intervention, and the variant if there is one."""

    @property
    @abstractmethod
    def answered(self) -> bool:
        """Whether the first figures have been computed."""

    @property
    @abstractmethod
    def sentence(self) -> str:
        """The newest figures in words; does not wait for the first."""

    @abstractmethod
    def study_message(self) -> Message:
        """Everything that never changes."""

    @abstractmethod
    def picture_messages(self) -> Sequence[Message]:
        """The pictures that every view needs."""

    def first_pictures(self) -> Sequence[Message]:
        """The pictures that a new view is sent unasked; usually all."""
        return self.picture_messages()

    @abstractmethod
    def _answer(self) -> None:
        """Compute the figures of the current state and send them."""

    @abstractmethod
    def _changed(self, what: str) -> None:
        """React to a change of the session: ``"state"`` or ``"examples"``."""

    # Requests from views ------------------------------------------------------------------------

    def receive(self, content: dict[str, Any], sink: Sink) -> None:
        """Answer one request of a view; whatever is wrong with it is told in one line."""
        try:
            fulfil(self.actions, content, sink)
        except Exception as error:
            self._keep_failure(error)
            self._send(sink, messages.error_message(error))
            self._send(sink, self.state_message())

    @property
    def actions(self) -> dict[str, Action]:
        """What is done for each type of request."""
        session = self.session
        return {
            "hello": Action(lambda _, sink: self.hello(sink)),
            "toggle": Action(lambda request, _: session.toggle(request["units"]), "units"),
            "set": Action(lambda request, _: session.ablate(request["units"]), "units"),
            "top": Action(
                lambda request, _: self.ablate_top(request["k"]), "k", (int,), "a whole number"
            ),
            "layers": Action(
                lambda request, _: session.show_layers([str(name) for name in request["names"]]),
                *("names", (list,), "a list of names"),
            ),
            "intervention": Action(lambda request, _: session.use(request["key"]), "key"),
            "variant": Action(lambda request, _: session.look_at(request["key"]), "key"),
            "score": Action(lambda request, _: self.choose_score(request["key"]), "key"),
            "open": Action(
                lambda request, _: session.open(request["example"]),
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
        """Stop the background work and keep its results so far."""

    def code(self) -> str:
        """Python lines that rebuild the current state with the plain functions."""
        return self.session.to_code()

    def _tell_code(self, sink: Sink) -> None:
        code = getattr(sink, "code", self.code)  # a view may open itself in code of its own
        self._send(sink, Message({"type": "code", "text": code()}, []))

    def _export_beside(self, sink: Sink) -> None:
        path = export.free_path(f"memviz-{self.session.study.name}.html")
        self.export(path, getattr(sink, "page", ""))
        self._send(sink, messages.saved_message(path.name))

    def hello(self, sink: Sink) -> None:
        """Send a new view everything."""
        for message in self._everything(self.first_pictures()):
            self._send(sink, message)
        if not self.answered:
            self.worker.answer(self._answer)

    def ready(self) -> None:
        """Wait for the first figures, so that a still picture can be drawn."""
        if not self.answered:
            self.worker.run_first(self._answer)

    def close(self) -> None:
        """Stop the thread and leave the session, which stays as it is."""
        if not self.worker.closed:
            self._unwatch()
            self.worker.close()

    def export(self, path: Any, part: str = "") -> None:
        """Write a page that shows the current state without a kernel, in a view other than usual.

        Parameters
        ----------
        path : str or Path
        part : str, optional
            The view; the controller's own by default.
        """
        export.page(path, self.session.study.name, part or self._part, self.snapshot())

    def snapshot(self) -> list[Message]:
        """All messages that a new view needs: the latest of each kind."""
        self.ready()
        return self._everything(self.picture_messages())

    def _everything(self, pictures: Sequence[Message]) -> list[Message]:
        first = [self.study_message(), self.state_message(), *pictures]
        return [*first, *(m for k, m in list(self._latest.items()) if k not in ("study", "state"))]

    def _of_layers_shown(self, rows: Sequence[int], units: Sequence[Unit]) -> list[int]:
        """Those of these rows whose units are in the layers that the views show."""
        layers = set(self.session.layers)
        return [row for row in rows if units[row].layer in layers]

    def _ablate_ranked(self, units: UnitSet) -> None:
        """Ablate units taken from the top of a ranking."""
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
        # Sent by the thread itself, so that it follows any message of the step now running.
        self.worker.work("idle", self._idle_steps(), rank=0)

    def _idle_steps(self) -> Iterator[None]:
        self.broadcast(messages.progress_message("", 0, 0))
        yield

    # Messages ------------------------------------------------------------------------------------

    def state_message(self) -> Message:
        """What the session shows now."""
        session = self.session
        content = {"type": "state", "version": session.version, "layers": list(session.layers)}
        content |= {"units": str(session.units), "intervention": session.how, "score": self.score}
        content |= {"opened": session.opened, "top": self.top, "variant": session.variant}
        content |= {"undo": session.can_undo, "redo": session.can_redo}
        content |= {"history": _history(session)}
        return self._keep(Message({**content, **self._more_state()}, []))

    def _more_state(self) -> dict[str, Any]:
        return {}

    def _tell_state(self) -> None:
        """Send the state to every view; another ablation is no longer the top k."""
        if (self.session.units, self.key) != self._ranked:
            self.top = self._ranked = None
        self.broadcast(self.state_message())

    def broadcast(self, message: Message) -> None:
        """Send a message to every view."""
        for sink in list(self.sinks):
            self._send(sink, message)

    def _send(self, sink: Sink, message: Message) -> None:
        """Send a message to one view; a view whose channel fails is dropped, the others go on."""
        try:
            sink.tell(message)
        except Exception:
            with suppress(ValueError):  # two threads may send to it at once
                self.sinks.remove(sink)

    def tell_and_keep(self, message: Message, key: str | None = None) -> None:
        """Send a message to every view, and to those opened later."""
        self.broadcast(self._keep(message, key))

    def _keep(self, message: Message, key: str | None = None) -> Message:
        self._latest[key or message.content["type"]] = message
        return message

    def tell_progress(self, job: str, words: str, done: int, total: int) -> None:
        """Report progress, at most once per ``TELL_EVERY``; a total of 0 ends the bar."""
        now = time.monotonic()
        if not total or now - self._told > TELL_EVERY:
            self._told = now
            self.broadcast(messages.progress_message(job, done, total, words))

    def _keep_failure(self, error: BaseException) -> None:
        self.failure = error
        seen = set[int]()
        causes: list[BaseException | None] = [error]
        while causes:  # what the failed frames hold may be all memory of a device
            cause = causes.pop()
            if cause is not None and id(cause) not in seen:
                seen.add(id(cause))
                clear_frames(cause.__traceback__)
                causes += [cause.__cause__, cause.__context__]

    def _failed(self, error: BaseException) -> None:
        self._keep_failure(error)
        self.broadcast(messages.error_message(error))
        self.broadcast(messages.progress_message("", 0, 0))
        if self.worker.threaded and self._trains():
            self.worker.work("eval mode", self._until_eval_mode(), rank=9)

    def _trains(self) -> bool:
        return any(module.training for module in self.session.study.model.modules())

    def _until_eval_mode(self) -> Iterator[None]:
        while self._trains():
            time.sleep(_LOOK)
            yield
        self.resume()

    def resume(self) -> None:
        """Compute what an error has stopped."""
        self.worker.answer(self._answer)


def _history(session: Session) -> str:
    """What the Undo button says where steps have been forgotten."""
    words = f"Undo goes back {HISTORY} steps; older ones are forgotten."
    return words if session.forgotten else ""
