"""Between a session of gates and the gate map: what to compute when, and what to send."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from memviz.checks import quoted
from memviz.engine.circuits import CircuitReading, GroupVotes, has_random, random_settings, trace
from memviz.session import GateSession
from memviz.study import check_examples
from memviz.widgets.core import Action, Message, Pictures, Sink, Telling, study_message
from memviz.widgets.workbench import Thumbnails

from . import _messages as messages
from ._curves import NONE, charts
from ._scores import GateScores

RANDOM_DRAWS = 200
_TELL_AFTER = (1, 10, 50, RANDOM_DRAWS)  # draws


class GateController(Telling):
    """The controller of one gate map: answers its views and works in the background.

    Parameters
    ----------
    session : GateSession
    curves : list of dict, optional
        Lines of the charts over training.
    threaded : bool
        False computes only in ``worker.run_until_idle()``.

    Attributes
    ----------
    chosen : int or None
        Row of the gate whose wires, truth table and trace are shown.
    random : dict of group to float64 ``[draws, 2]``
        Accuracy and median vote margin with random live gates, as far as they are drawn.
    """

    session: GateSession

    def __init__(
        self,
        session: GateSession,
        curves: list[dict[str, Any]] | None = None,
        *,
        threaded: bool = True,
    ) -> None:
        super().__init__(session, "gates", threaded=threaded)
        self.circuits = session.circuits
        self.score = "better"
        self.chosen: int | None = None
        self.shown: CircuitReading | None = None
        self.random: dict[str, np.ndarray] = {}
        self.scores = GateScores(session, self.worker, self)
        self._pictures = Pictures.of(session.study)
        self._thumbnails = Thumbnails(self._pictures)
        self._first = True
        self._curves = bool(curves)
        drawn = charts(curves, self.circuits.circuit.classes) if curves else []
        told = {"type": "gate_curves", "charts": drawn, "words": "" if curves else NONE}
        self._keep(Message(told, []))
        self._keep(messages.circuit_message(self.circuits))

    @property
    def key(self) -> str:
        """What the gates are set to, as text."""
        return _key(self.session.settings)

    @property
    def answered(self) -> bool:
        """Whether the first figures have been computed."""
        return self.shown is not None

    @property
    def sentence(self) -> str:
        """The newest figures in words; does not wait for the first."""
        told = self._latest.get("readout")
        return "starting" if told is None else str(told.content["sentence"])

    # Requests from views ------------------------------------------------------------------------

    @property
    def actions(self) -> dict[str, Action]:
        """The common requests, and those of the gate map alone."""
        return super().actions | {
            "fix": Action(
                lambda request, _: self.fix(request["gates"], request.get("to")), "gates"
            ),
            "pictures": Action(
                lambda request, sink: self._show_pictures(request["examples"], sink),
                *("examples", (list,), "a list of whole numbers"),
            ),
            "choose": Action(
                lambda request, _: self.choose(request["row"]), "row", (int,), "a whole number"
            ),
        }

    def hello(self, sink: Sink) -> None:
        """Send a new view everything, and measure each gate alone if that has not been done."""
        super().hello(sink)
        self.scores.begin()

    def fix(self, gates: str, to: Any) -> None:
        """Set gates to something; None or ``""`` puts them back, "better" is the constant."""
        if to == "better":
            settings = self.session.settings
            for row in self.session.rows(gates):
                settings[row] = self.scores.setting(row, "better")
            self.session.set_all(settings)
        else:
            self.session.fix(gates, to or None)

    def choose(self, row: int) -> None:
        """Show the wires, truth table and trace of a gate.

        Raises
        ------
        IndexError
            If there is no such gate.
        """
        self.circuits.circuit.place(row)
        self.chosen = row
        self.broadcast(self.state_message())
        self._start_gate()

    def ablate_top(self, k: int) -> None:
        """Set the k gates that the chosen score ranks highest, each as that score does."""
        shown = set(self.session.layers)
        rows = {
            row
            for layer in self.circuits.circuit.layers
            if layer.name in shown
            for row in range(layer.start, layer.start + layer.gates)
        }
        ranked = [row for row in self.scores.ranked(self.score) if row in rows]
        if not 0 <= k <= len(ranked):
            raise ValueError(f"{k} gates were asked for; {len(ranked)} have a score to rank by.")
        settings = {row: self.scores.setting(row, self.score) for row in ranked[:k]}
        self.top = k
        self._ranked = (self.session.units_of(settings), _key(settings))
        version = self.session.version
        self.session.set_all(settings)
        if self.session.version == version:
            self.broadcast(self.state_message())

    def choose_score(self, key: str) -> None:
        """Rank the gates by what setting them to 0, to 1 or to the better of the two takes."""
        if key not in self.scores.known:
            known = ", ".join(self.scores.known)
            raise ValueError(f"there is no score {quoted(key)}; choose from {known}.")
        self._wear(key)

    def cancel(self) -> None:
        """Stop the background work and keep its results so far."""
        self._cancel("alone", "random")

    # What changes -------------------------------------------------------------------------------

    def _changed(self, what: str) -> None:
        self._tell_state()
        if what == "examples":
            self._start_gate()
        else:
            self.worker.answer(self._answer)

    def _answer(self) -> None:
        session = self.session
        version, settings = session.version, session.settings
        self.shown = now = self.circuits.read(settings)
        self._latest.pop("random", None)
        self.random = {}
        self.worker.drop("random")
        self.tell_and_keep(messages.reading_message(self.circuits, now, version))
        if self._first:
            self._first = False
            self._open_first()
        self._start_gate()
        if settings:
            self.worker.work("random", self._random_steps(settings, version), rank=2)

    def _open_first(self) -> None:
        """Trace an example that is right, through a gate that votes for what it says."""
        study, session = self.session.study, self.session
        if session.opened is None:
            rows = next((m for m in study.groups.values() if m.any()), torch.ones(len(study))) > 0
            right = rows & self.circuits.before.right
            session.open(int((right if right.any() else rows).nonzero()[0, 0]))
        if self.chosen is None and session.opened is not None:
            last, classes = self.circuits.circuit.layers[-1], self.circuits.circuit.classes
            said = int(self.circuits.before.predictions[session.opened])
            bits = trace(self.circuits, session.opened, {}).layers[-1].reshape(classes, -1)
            votes = last.gates // classes
            self.choose(last.start + said * votes + int(bits[said].argmax()))

    def _start_gate(self) -> None:
        self.worker.work("gate", self._gate_steps(), rank=0)

    def _gate_steps(self) -> Iterator[None]:
        now, example, row = self.shown, self.session.opened, self.chosen
        if now is None:
            return  # the answer on its way starts this again
        version, settings = self.session.version, now.settings
        if example is not None:
            found = trace(self.circuits, example, settings)
            parts = (self.circuits, found, now, example, row, version)
            self.tell_and_keep(messages.trace_message(*parts))
            yield
        if row is not None:
            better = self.scores.setting(row, "better")
            self.tell_and_keep(messages.gate_message(self.circuits, row, settings, better, version))
            yield

    def _random_steps(self, settings: Mapping[int, str], version: int) -> Iterator[None]:
        circuits, draws = self.circuits, list[Mapping[str, GroupVotes]]()
        units, better = len(settings), self.scores.are_better(settings)
        of = RANDOM_DRAWS if has_random(circuits.circuit, settings) else 0
        for draw in range(of):
            drawn = random_settings(circuits.circuit, settings, draw, better)
            draws.append(circuits.read(drawn).groups)
            if len(draws) in _TELL_AFTER:
                self._tell_random(draws, version, units, of, better is not None)
            yield
        if not of:
            self._tell_random(draws, version, units, of, better is not None)

    def _tell_random(self, draws: list[Mapping[str, GroupVotes]], *facts: Any) -> None:
        self.tell_and_keep(messages.random_message(self.circuits.circuit, draws, *facts))
        self.random = {
            name: np.array([[draw[name].accuracy, draw[name].margin] for draw in draws])
            for name in (draws[0] if draws else ())
        }

    # Messages -----------------------------------------------------------------------------------

    def study_message(self) -> Message:
        """Everything that never changes."""
        votes = self.circuits.before.votes.float()
        message = study_message(self.session, self._pictures, self.scores.picks(), [], [], votes)
        return self._keep(message)

    def picture_messages(self) -> Sequence[Message]:
        """The sprite sheets for a page that shows this without a kernel."""
        return self._thumbnails.for_page()

    def first_pictures(self) -> Sequence[Message]:
        """The sprite sheets that a new view is sent; it asks for those of a large study."""
        return self._thumbnails.at_once()

    def _show_pictures(self, examples: list[Any], sink: Sink) -> None:
        self._thumbnails.ask(sink, check_examples(self.session.study, examples))
        self.worker.work("pictures", self._thumbnails.steps(self._send), rank=0)

    def code(self) -> str:
        """Python lines that rebuild the current state and open this view."""
        lines = ["import memviz as mv", ""]
        lines += [f"study = {self.session.study.origin or '...  # your Study'}"]
        given = self._curves and getattr(self.session.study, "curves", None) is None
        lines += ["curves = ...  # your table"] if given else []
        lines += [f"view = mv.gates(study{', curves' if given else ''})"]
        lines += self.session.steps("view.session")
        if self.chosen is not None:
            lines.append(f"view.choose({str(self.session.units_of({self.chosen: ''}))!r})")
        return "\n".join([*lines, "view", ""])

    def _more_state(self) -> dict[str, Any]:
        rows: dict[str, list[int]] = {}
        for row, setting in self.session.settings.items():
            rows.setdefault(setting, []).append(row)
        return {"chosen": self.chosen, "settings": rows}


def _key(settings: Mapping[int, str]) -> str:
    return repr(sorted(settings.items()))
