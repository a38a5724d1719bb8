"""Between a Session and its views: what to compute when, and what to send to the browser."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar, cast

import numpy as np
import torch

from memviz.checks import quoted
from memviz.engine.record import CancelledError, intervention
from memviz.engine.sets import (
    Readout,
    SetOutputs,
    others_left,
    random_reading,
    random_units,
    read,
)
from memviz.scores import Scores
from memviz.session import Session
from memviz.study import check_examples
from memviz.units import UnitSet
from memviz.widgets.core import (
    Action,
    Labels,
    Message,
    Part,
    Pictures,
    Sink,
    Telling,
    interventions,
    study_message,
)

from . import _choices as choices
from ._answers import Answers
from ._messages import (
    Thumbnails,
    ahead_message,
    no_random_message,
    pictured_words,
    random_message,
    readout_message,
)
from ._opened import opened_example
from ._scores import ShownScores
from ._singles import SingleTables

RANDOM_DRAWS = 20
P = TypeVar("P", bound=Part)


class Controller(Telling):
    """One for each session: answers the requests of its views, and works in the background.

    Parameters
    ----------
    session : Session
    scores : dict of key to Scores, optional
        Further scores for the unit map.
    threaded : bool
        False computes only in ``worker.run_until_idle()``.
    """

    def __init__(
        self, session: Session, scores: dict[str, Scores] | None = None, *, threaded: bool = True
    ) -> None:
        super().__init__(session, "workbench", threaded=threaded)
        self.pictures = Pictures.of(session.study)
        self._thumbnails = Thumbnails(self.pictures)
        self._answers = Answers(session)
        self.labels = Labels.of(session.study, session.replay.clean)
        singles = SingleTables(session, self.labels, self.tell_and_keep)
        self._singles = singles
        self.scores = ShownScores(session, self.worker, self, self._swept, singles=singles)
        self.effects, self.estimates = self.scores.effects, self.scores.estimates
        self.parts: dict[str, Part] = {}
        methods = choices.methods(session.study)
        self.score, self.method = "effect", methods[0]["key"] if methods else ""
        self.readout: Readout | None = None
        self._outputs: torch.Tensor | None = None  # of the readout
        self._ranked_in = session.layers  # the layers whose top units were asked for
        self._read_key = ""  # the key whose readout the views show
        self.scores.use(scores or {})

    @property
    def key(self) -> str:
        """The key that effects are kept under: intervention, and variant of the model."""
        return self.scores.key

    @property
    def answered(self) -> bool:
        """Whether there is a readout."""
        return self.readout is not None

    @property
    def sentence(self) -> str:
        """The sentence of the latest readout."""
        return self.readout.sentence if self.readout else "starting"

    @property
    def worn(self) -> set[str]:
        """Keys of the scores that views show."""
        return {self.score}.union(*(part.worn for part in self.parts.values()))

    def ready(self) -> None:
        """Wait for the first figures, also those of the parts."""
        super().ready()
        for part in list(self.parts.values()):
            part.ready()

    # Requests from views ------------------------------------------------------------------------

    def hello(self, sink: Sink) -> None:
        """Send a new view everything, and sweep what has not been swept yet."""
        super().hello(sink)
        self.scores.sweep_if_new()

    def use(self, scores: Mapping[str, Scores]) -> None:
        """Add scores over units, which every view then offers."""
        if scores:
            self.scores.use(scores)
            self.broadcast(Message({"type": "picks", "scores": self.scores.picks()}, []))

    def ablate_top(self, k: int) -> None:
        """Ablate the k units of the layers shown that the chosen score ranks highest."""
        self._ranked_in, units = self.session.layers, self.scores.units
        ranked = self._of_layers_shown(self.scores.ranking(self.score), units)
        if not 0 <= k <= len(ranked):
            raise ValueError(f"{k} units were asked for; {len(ranked)} have a score to rank by.")
        self._ablate_ranked(UnitSet([units[row] for row in ranked[:k]]))

    def choose_score(self, key: str) -> None:
        """Show another score on the unit map."""
        self.scores.check(key)
        self._wear(key)
        self.scores.show(key)

    @property
    def actions(self) -> dict[str, Action]:
        """What is done for each type of request: the common actions and those of every part."""
        actions = super().actions
        actions["pictures"] = Action(
            lambda request, sink: self._show_pictures(request["examples"], sink),
            *("examples", (list,), "a list of whole numbers"),
        )
        actions["mark"] = Action(
            lambda request, _: self.session.mark(request["examples"], request.get("key", "")),
            *("examples", (list,), "a list of whole numbers"),
        )
        actions["method"] = Action(lambda request, _: self.choose_method(request["key"]), "key")
        for part in self.parts.values():
            actions |= part.actions
        return actions

    def part(self, kind: type[P]) -> P:
        """The part that one kind of view needs, made when first used."""
        if kind.name not in self.parts:
            self.parts[kind.name] = kind(self)
        return cast(P, self.parts[kind.name])

    def choose_method(self, key: str) -> None:
        """Explain the opened example with another attribution method."""
        if key not in {method["key"] for method in choices.methods(self.session.study)}:
            raise ValueError(f"there is no attribution method {quoted(key)} to show.")
        self.method = key
        self.broadcast(self.state_message())
        self._start_example()

    def resume(self) -> None:
        """Compute what an error has stopped, the sweep too."""
        super().resume()
        self.scores.resume()

    def code(self) -> str:
        """Python lines that rebuild the current state, and open the workbench on it."""
        return f"{super().code()}mv.workbench(session)\n"

    def cancel(self) -> None:
        """Stop the background work and keep its results so far."""
        self.scores.cancel()
        self._cancel("firing")

    # Changes of the session ---------------------------------------------------------------------

    def _changed(self, what: str) -> None:
        if self._ranked_in != self.session.layers:
            self._ranked = None  # other layers have another top
        self._tell_state()
        if what == "examples":
            self._start_example()
            self.scores.example_opened()
            for part in self.parts.values():
                part.example_opened()
            return
        shown = self.readout
        if shown is None or (shown.units, self._read_key) != (self.session.units, self.key):
            self.worker.answer(self._answer)
        else:
            self._restate(shown)
        self.scores.state_changed()
        for part in self.parts.values():
            part.state_changed()

    def _swept(self) -> None:
        for part in self.parts.values():
            part.swept()

    def _restate(self, shown: Readout) -> None:
        # The ablation is again the one whose readout is shown: only the version is new.
        self.worker.answer(lambda: self._tell_readout(shown, self.session.version))

    def _answer(self) -> None:
        session = self.session
        version, units, key = session.version, session.units, self.key
        how = intervention(session.how)

        def tell(part: Readout) -> None:
            self.broadcast(ahead_message(part, version, key))

        def stop() -> bool:
            return self.worker.answer_waits

        is_shown = self._singles.answers(key, units)
        try:
            outputs = self._answers.outputs(units, how, stop, None if is_shown else tell)
        except CancelledError:
            return  # a newer answer waits
        self._outputs, self._read_key = outputs, key
        self._tell_readout(read(session.replay, units, outputs, how), version)

    def _tell_readout(self, readout: Readout, version: int) -> None:
        self.readout = readout
        self._latest.pop("random", None)
        self.worker.drop("random")
        message = readout_message(readout, version, self.labels, self._read_key)
        self._singles.check(readout, self._read_key)
        self.broadcast(self._keep(message))
        if others_left(self.session.replay.layers, readout.units):
            self.worker.work("random", self._random_steps(readout, version), rank=1)
        elif readout.units:
            self.tell_and_keep(no_random_message(version, len(readout.units)))
        self._start_example()

    def _random_steps(self, readout: Readout, version: int) -> Iterator[None]:
        replay, how = self.session.replay, intervention(readout.how)
        yield from self._answers.settle(readout.units, how)
        sets = SetOutputs(replay, how, self.session.toggles.graph)
        draws: list[dict[str, tuple[float, float]]] = []
        for draw in range(RANDOM_DRAWS):
            units = random_units(replay.layers, readout.units, seed=draw)
            try:
                reading = random_reading(sets, units, lambda: self.worker.answer_waits)
            except CancelledError:
                return
            draws.append(reading)
            if len(draws) in (1, 5, RANDOM_DRAWS):
                readout.random = {n: np.array([d[n] for d in draws]) for n in readout.groups}
                count = len(readout.units)
                message = random_message(draws, version, count, RANDOM_DRAWS)
                self.broadcast(self._keep(message))
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
        steps = opened_example(self.session, self.pictures, self.labels, *given)
        for message in steps:
            if message is not None and self.session.opened == index:
                self.broadcast(self._keep(message))
            yield

    # Messages ------------------------------------------------------------------------------------

    def snapshot(self) -> list[Message]:
        """All messages of a new view, and how far off a page is that adds single effects up."""
        messages, added = super().snapshot(), []

        def measure() -> None:
            added.append(self._singles.adding_message(self.key))

        self.worker.run_first(measure)
        thinned = pictured_words(messages, len(self.session.study))
        if thinned:
            first = messages[0].content
            summary = " · ".join(filter(None, (first["summary"], thinned)))
            messages[0] = messages[0]._replace(content={**first, "summary": summary})
        return [*messages, *(message for message in added if message is not None)]

    def study_message(self) -> Message:
        """Everything that never changes."""
        picks = (
            self.scores.picks(),
            interventions(self.session.how),
            choices.methods(self.session.study),
        )
        return self._keep(study_message(self.session, self.pictures, *picks))

    def picture_messages(self) -> Sequence[Message]:
        """The sprite sheets for a page that shows this without a kernel."""
        return self._thumbnails.for_page()

    def first_pictures(self) -> Sequence[Message]:
        """The sprite sheets that a new view is sent; it asks for those of a large study."""
        return self._thumbnails.at_once()

    def _show_pictures(self, examples: list[Any], sink: Sink) -> None:
        self._thumbnails.ask(sink, check_examples(self.session.study, examples))
        self.worker.work("pictures", self._thumbnails.steps(self._send), rank=0)

    def _more_state(self) -> dict[str, Any]:
        words: dict[str, list[int]] = {"confirmed": [], "rejected": []}
        for example, mark in self.session.marks.items():
            words[mark].append(example)
        return {"method": self.method, **words}
