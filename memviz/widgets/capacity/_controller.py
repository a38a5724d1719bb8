"""Between the playground's views and its network: what to build when, and what to send."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from memviz.session import Session
from memviz.units import UnitSet
from memviz.widgets.core import Action, Message, Telling

from . import _messages as messages
from ._beside import DRAWN, TRAINED_ON, Beside, all_beside, trained_units
from ._code import code
from ._network import Network, network
from ._points import Own, points
from ._reading import Reading, read, sentence
from ._settings import METHODS, Settings

_STEPS_BACK = 200
Moment = tuple[Settings, UnitSet]


class CapacityController(Telling):
    """The controller of one playground; its session is that of the network now shown.

    Parameters
    ----------
    settings : Settings
    own : Own, optional
        The user's points.
    threaded : bool
        False computes only in ``worker.run_until_idle()``.
    """

    def __init__(
        self, settings: Settings, own: Own | None = None, *, threaded: bool = True
    ) -> None:
        self.own, self.settings = own, settings
        self.network: Network = self._made(settings)
        super().__init__(Session(self.network.study), "capacity", threaded=threaded)
        self.score = messages.SHADE
        self.reading: Reading | None = None
        self.compared: dict[str, Beside] = {}
        self._built = 0
        self._past: list[Moment] = []
        self._future: list[Moment] = []
        self._now: Moment = (settings, UnitSet())
        self._moving = False
        self._begin()

    @property
    def key(self) -> str:
        """The intervention: owners are always set to zero."""
        return self.session.how

    @property
    def answered(self) -> bool:
        """Whether the first figures have been computed."""
        return self.reading is not None

    @property
    def sentence(self) -> str:
        """The newest figures in words; does not wait for the first."""
        return "starting" if self.reading is None else sentence(self.network, self.reading)

    # Requests from views ------------------------------------------------------------------------

    @property
    def actions(self) -> dict[str, Action]:
        """The common requests, and those of the playground alone."""
        return super().actions | {
            "capacity_set": Action(
                lambda request, _: self.set(request["key"], request.get("value")), "key"
            ),
            "undo": Action(lambda *_: self.undo()),
            "redo": Action(lambda *_: self.redo()),
            "reset": Action(lambda *_: self.session.ablate(UnitSet())),
        }

    def set(self, key: str, value: Any) -> None:
        """Change one setting, and build the network that follows.

        Raises
        ------
        ValueError
            If there is no such setting or value, or the points don't fit the method.
        """
        wanted = self.settings.changed(key, value, self.own)
        if wanted != self.settings:
            self._show(wanted, UnitSet())
            self._remember()

    def undo(self) -> None:
        """Go back one step: a setting, or units."""
        if self._past:
            self._future.append(self._now)
            self._restore(self._past.pop())

    def redo(self) -> None:
        """Take back an undo."""
        if self._future:
            self._past.append(self._now)
            self._restore(self._future.pop())

    def ablate_top(self, k: int) -> None:
        """Refused: units are chosen by their points here.

        Raises
        ------
        ValueError
            Always.
        """
        raise ValueError("the playground ranks no units; take out owners by their points.")

    def choose_score(self, key: str) -> None:
        """Refused: there is one shade.

        Raises
        ------
        ValueError
            If it is another.
        """
        if key != self.score:
            raise ValueError(f"the playground shows {self.score!r} alone.")

    def cancel(self) -> None:
        """Stop the background work and keep its results so far."""
        self._cancel("beside", "needed")

    def code(self) -> str:
        """Python lines that compute these figures with the plain functions."""
        return code(self.settings, self.session.units, self.own is not None)

    # What changes -------------------------------------------------------------------------------

    def _made(self, settings: Settings) -> Network:
        drawn = points(settings.kind, settings.n, settings.features, settings.seed, self.own)
        return network(drawn, settings)

    def _show(self, settings: Settings, units: UnitSet) -> None:
        """Build, and put the new network's session in place of the old one."""
        if settings != self.settings:
            built = self._made(settings)
            session = Session(built.study)
            self._unwatch()
            self.network, self.settings, self.session = built, settings, session
            self._unwatch = session.watch(self._changed)
            for view in self.sinks:
                view.session = session  # type: ignore[attr-defined]
            self._begin()
        self._moving = True
        try:
            self.session.ablate(units)
        finally:
            self._moving = False
        self._tell_state()
        self.worker.answer(self._answer)

    def _restore(self, moment: Moment) -> None:
        self._show(*moment)
        self._now = moment
        self._tell_state()

    def _remember(self) -> None:
        moment = (self.settings, self.session.units)
        if moment != self._now:
            self._past = [*self._past, self._now][-_STEPS_BACK:]
            self._future, self._now = [], moment
        self._tell_state()

    def _begin(self) -> None:
        """What a new network needs told, and compared."""
        self._built += 1
        self.reading, self.compared = None, {}
        for key in [k for k in self._latest if k.startswith(("capacity", "state", "scores"))]:
            del self._latest[key]
        self.broadcast(self.study_message())
        self.tell_and_keep(messages.shade_message(self.session, self.network), "scores")
        self.worker.work("beside", self._beside_steps(self.network), rank=1)
        self.worker.work("needed", self._needed_steps(self.network), rank=2)

    def _changed(self, what: str) -> None:
        if not self._moving and what == "state":
            self._remember()
            self.worker.answer(self._answer)

    def _answer(self) -> None:
        shown, session = self.network, self.session
        if session.study is not shown.study:
            return  # another network is on its way, and answered next
        units, version = session.units, session.version
        reading = read(shown, units, list(session.replay.layers))
        if shown is self.network:
            self.reading = reading
            words = sentence(shown, reading)
            given = (shown, reading, self._built, version, words)
            self.tell_and_keep(messages.function_message(*given))

    def _beside_steps(self, shown: Network) -> Iterator[None]:
        total, done = len(METHODS) + 1, 0
        for found in all_beside(shown.points, shown.settings):
            if shown is not self.network:
                return
            if found is not None:
                done += 1
                self.compared[found.method] = found
                message = messages.beside_message(shown, found)
                self.tell_and_keep(message, f"capacity_beside {found.method}")
                self.tell_progress(
                    "beside", "methods", done % total and done, total if done < total else 0
                )
            yield

    def _needed_steps(self, shown: Network) -> Iterator[None]:
        known: dict[int, tuple[int, bool]] = {}
        for n in (0, *TRAINED_ON):
            if n:
                known[n] = yield from trained_units(n, shown.settings.features)
            if shown is not self.network:
                return
            self.tell_and_keep(messages.needed_message(shown.settings, known))
            yield

    # Messages -----------------------------------------------------------------------------------

    def ready(self) -> None:
        """Wait for the figures, and for the methods that are drawn side by side."""
        super().ready()
        if any(method not in self.compared for method in DRAWN):
            self.worker.drop("beside")
            self.worker.run_first(self._compare)

    def _compare(self) -> None:
        for _ in self._beside_steps(self.network):
            pass

    def study_message(self) -> Message:
        """The network's layers."""
        return self._keep(messages.study_message(self.session, self.network, self._built))

    def picture_messages(self) -> Sequence[Message]:
        """None: points have no pictures."""
        return []

    def _more_state(self) -> dict[str, Any]:
        up = int((self.network.points.signs > 0).sum())
        balance = (up, self.settings.n - up)
        content = messages.settings_content(self.settings, self.own, balance)
        return {
            "capacity": content,
            "undo": bool(self._past),
            "redo": bool(self._future),
            "history": "",
        }
