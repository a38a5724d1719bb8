"""Between a session and the extraction explorer: what to compute when, and what to send."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from memviz.checks import quoted
from memviz.engine.record import CancelledError, Intervention, intervention
from memviz.engine.sets import others_left, random_units
from memviz.probes.extraction import Recital
from memviz.scores import Scores
from memviz.session import Session
from memviz.units import UnitSet
from memviz.widgets.core import NO_RANDOM, Action, Message, Telling, ablated_words
from memviz.widgets.workbench import ShownScores

from . import _messages as messages
from ._code import code
from ._curves import Curves
from ._figures import Reading, figures, null_figures
from ._held import KEY, HeldBy
from ._ladder import Ladder, Rungs
from ._opened import Answered, Asked, Asking, Reader, candidates
from ._passages import LISTED, Passages, heads_and_neurons

RANDOM_DRAWS = 20
_LONG = 0.3  # s; an answer that takes longer is told in two parts
_LONGEST = 5000  # characters of a prompt or a search


class ExtractionController(Telling):
    """The controller of one explorer: answers its views and works in the background.

    Parameters
    ----------
    session : Session
    passages : Passages
        Of the session's study.
    ladder : mapping of name to model, optional
        Smaller models and earlier checkpoints.
    threaded : bool
        False computes only in ``worker.run_until_idle()``.
    """

    def __init__(
        self,
        session: Session,
        passages: Passages,
        ladder: Ladder | None = None,
        *,
        threaded: bool = True,
    ) -> None:
        super().__init__(session, "extraction", threaded=threaded)
        self.passages = passages
        self.layers = heads_and_neurons(session.known)
        self.scores = ShownScores(session, self.worker, self, lambda: None, self.layers)
        self.score = "effect"
        self.sort = next(iter(passages.sorts))
        self.find, self.most = "", LISTED
        self.asking = Asking(passages)
        self.curves = Curves(self)
        self.rungs, self.ladder = Rungs(ladder, passages), ladder
        self.held = HeldBy(self)
        self.before: Answered | None = None
        self.after: Answered | None = None
        self.clean: Reading | None = None
        self.now: Reading | None = None
        self._clean_of = ""  # the variant of the model that was read
        self._shown: tuple[UnitSet, str] | None = None  # units and key of the newest answer
        self._reader: Reader | None = None
        self._draws: list[Reading] = []
        self._longest, self._version = 0.0, 0
        self._opening = self._climbed = False

    @property
    def asked(self) -> Asked | None:
        """What is asked of the opened passage; None if none is open."""
        return self.asking.of(self.session.opened)

    @property
    def reader(self) -> Reader:
        """Lets the variant shown speak; one variant's modules are kept at a time."""
        study = self.session.replay.study
        if self._reader is None or self._reader.study is not study:
            self._reader = Reader(study)
        return self._reader

    @property
    def key(self) -> str:
        """The intervention, and the variant of the model."""
        return self.scores.key

    @property
    def answered(self) -> bool:
        """Whether the first figures have been computed."""
        return self.now is not None

    @property
    def worn(self) -> set[str]:
        """Keys of the scores that views show."""
        return {self.score}

    @property
    def sentence(self) -> str:
        """The newest figures in words; does not wait for the first."""
        told = self._latest.get("recited")
        return "starting" if told is None else str(told.content["sentence"])

    # Requests from views ------------------------------------------------------------------------

    @property
    def actions(self) -> dict[str, Action]:
        """The common requests, and those of the explorer alone."""
        return super().actions | {
            "list": Action(
                lambda request, _: self.list_by(
                    request["sort"], _text(request, "find"), bool(request.get("more"))
                ),
                "sort",
            ),
            "prompt_length": Action(
                lambda request, _: self._ask(self.asking.shorten, request["length"]),
                *("length", (int,), "a whole number"),
            ),
            "prompt_text": Action(
                lambda request, _: self._ask(self.asking.edit, _text(request, "text")), "text"
            ),
            "decode": Action(
                lambda request, _: self._ask(self.asking.decode, request, check=False), "key"
            ),
        }

    def _ask(self, change: Callable[..., None], given: Any, *, check: bool = True) -> None:
        """Ask something else of the opened passage."""
        if check and self.session.opened is None:
            raise ValueError("no passage is open; choose one first.")
        change(self.session.opened, given)
        self.worker.answer(self._answer)

    def hello(self, sink: Any) -> None:
        """Send a new view everything, and sweep what has not been swept yet."""
        super().hello(sink)
        self.scores.sweep_if_new()

    def list_by(self, sort: str, find: str, more: bool = False) -> None:
        """Sort the list and keep passages with the words of ``find``; ``more`` lengthens it."""
        if sort not in self.passages.sorts:
            known = ", ".join(self.passages.sorts)
            raise ValueError(f"passages can't be sorted by {quoted(sort)}; choose from {known}.")
        self.most = self.most + LISTED if more else LISTED
        self.sort, self.find = sort, find
        if self.now is not None:
            self.worker.work("list", self._list_steps(), rank=0)

    def choose_score(self, key: str) -> None:
        """Show another score on the unit maps."""
        self.scores.check(key)
        self._wear(key)
        if key == KEY:
            self.held.show()
        else:
            self.scores.show(key)

    def ablate_top(self, k: int) -> None:
        """Ablate the k units that the chosen score ranks highest."""
        ranked = self.held.ranking() if self.score == KEY else self.scores.ranking(self.score)
        ranked = self._of_layers_shown(ranked, self.scores.units)
        if not 0 <= k <= len(ranked):
            raise ValueError(f"{k} units were asked for; {len(ranked)} have a score to rank by.")
        self._ablate_ranked(UnitSet([self.scores.units[row] for row in ranked[:k]]))

    def cancel(self) -> None:
        """Stop the background work and keep its results so far."""
        self.scores.cancel()
        self.held.cancel()
        self._cancel("null", "curve", "curve null", "ladder")

    def ask(
        self,
        prompt: int | str = "",
        *,
        sample: int | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
    ) -> None:
        """Ask something else of the opened passage.

        Parameters
        ----------
        prompt : int or str
            So many of the last tokens of its own prompt, or another text; its own by default.
        sample : int, optional
            The number of a sample; greedy without one.
        temperature, top_k
            Of samples.

        Raises
        ------
        ValueError
            If no passage is open, or the prompt can't be read.
        """
        self._ask(self.asking.shorten if isinstance(prompt, int) else self.asking.edit, prompt)
        self.asking.draw(sample, temperature, top_k)
        self.worker.answer(self._answer)

    @property
    def own_scores(self) -> dict[str, Scores]:
        """Scores that the user gave, over units and over passages."""
        over_units = {key: given for key, given in self.scores.extra.items() if key != KEY}
        return over_units | self.passages.scores

    def code(self) -> str:
        """Python lines that compute these figures with the plain functions, and open this view."""
        return code(self)

    # What changes ------------------------------------------------------------------------------

    def _changed(self, what: str) -> None:
        self._tell_state()
        if self._opening:
            return  # the answer that opens a passage goes on with it
        if what == "state":
            self.scores.state_changed()
        self.held.follow()
        self.worker.answer(self._answer)

    def _answer(self) -> None:
        session = self.session
        version, units, key = session.version, session.units, self.key
        self._version = version
        how, start = intervention(session.how), time.monotonic()
        try:
            self._read_clean()
            fresh = self._shown != (units, key)
            self._tell_passage(units, how, version, ahead=fresh and self._longest > _LONG)
            if fresh:
                self.now = self._read(units, how)
                self._draws, self._shown = [], (units, key)
                self._longest = max(self._longest, time.monotonic() - start)
        except CancelledError:
            return  # a newer answer waits
        except Exception:
            self.asking.forget()  # the next click must not fail by the same prompt
            raise
        self.tell_figures()
        self._compare(units, how, version)
        self.curves.follow(units, how, version)
        if self.rungs.rungs:
            self._tell_ladder()
            if not self._climbed:
                self._climbed = True
                self.worker.work("ladder", self._ladder_steps(), rank=2)

    def _read_clean(self) -> None:
        """Read the passages with every unit on, once for each variant; then open the first."""
        variant = self.session.variant
        if self.clean is None or self._clean_of != variant:
            self.clean, self._clean_of = self._read(UnitSet(), intervention("zero")), variant
            self.now = self.now or self.clean
            self._tell_list()
        listed = self._latest["passages"].content["passages"]
        if self.session.opened is None and listed:
            self._opening = True
            try:
                self.session.open(listed[0]["row"])
            finally:
                self._opening = False

    def _read(self, units: UnitSet, how: Intervention) -> Reading:
        task, labels = self.passages.task, self.session.study.labels
        stop = (lambda: self.worker.answer_waits) if units else None

        def read(outputs: Tensor, rows: Tensor) -> Reading:
            return Reading.of(task, outputs, labels[rows])

        return Reading.joined(self.session.toggles.read(units, how, read, stop=stop))

    def _tell_passage(
        self, units: UnitSet, how: Intervention, version: int, *, ahead: bool
    ) -> None:
        reader, asked = self.reader, self.asked
        if asked is None:
            self.before = self.after = None
            return
        self.before = reader.ask(asked, UnitSet(), how)
        self.after = reader.ask(asked, units, how) if units else self.before
        words = ""
        if units and ahead:
            words = f"{self._off(units)}: {self._passage_words()}; all passages are on their way."
        given = (asked, self.before, self.after, len(units), version, words)
        self.tell_and_keep(messages.passage_message(self.passages, *given))

    def _off(self, units: UnitSet) -> str:
        return ablated_words(units, len(self.scores.units), self.session.known)

    def _passage_words(self) -> str:
        if self.before is None or self.after is None:
            return ""
        return messages.passage_words(self.before.recital, self.after.recital)

    def tell_figures(self) -> None:
        """Send the figures of all passages, and the sentence."""
        assert self.clean is not None and self.now is not None and self._shown is not None
        passages, asked, about = self.passages, self.asked, ""
        units = self._shown[0]
        found = figures(self.clean, self.now, passages.trained, passages.held_out)
        if asked is not None and self.before is not None:
            starts = self.curves.starts(asked.row)
            about = messages.about_passage(passages, asked, self.before.recital, starts)
        words = messages.sentence(found, self._passage_words(), self._off(units), about)
        given = (found, self.clean, self.now, len(units), self._version, words)
        self.tell_and_keep(messages.figures_message(*given))

    # Random units -------------------------------------------------------------------------------

    def _compare(self, units: UnitSet, how: Intervention, version: int) -> None:
        self._latest.pop("recited_null", None)
        self.worker.drop("null")
        if others_left(self.session.replay.layers, units):
            self.worker.work("null", self._null_steps(units, how, version), rank=1)
        elif units:
            self.tell_and_keep(messages.no_null_message(len(units), version, NO_RANDOM))

    def _null_steps(self, units: UnitSet, how: Intervention, version: int) -> Iterator[None]:
        asked, passages, recitals = self.asked, self.passages, list[Recital]()
        if asked is None or self.before is None or self.after is None:
            return
        shown = candidates(self.before.recital, self.after.recital)
        for draw in range(RANDOM_DRAWS):
            drawn = random_units(self.session.replay.layers, units, seed=draw)
            try:
                if draw >= len(self._draws):
                    self._draws.append(self._read(drawn, how))
            except CancelledError:
                return  # a newer answer waits, and starts its own draws
            recitals.append(self.reader.recital(asked, drawn, how))
            if draw + 1 in (1, 5, RANDOM_DRAWS):
                found = null_figures(self._draws[: draw + 1], passages.trained, passages.held_out)
                given = (recitals, shown, asked.row, len(units), version, RANDOM_DRAWS)
                self.tell_and_keep(messages.null_message(found, *given))
            yield

    # The ladder ---------------------------------------------------------------------------------

    def _ladder_steps(self) -> Iterator[None]:
        every = len(self.passages.study)
        for done in self.rungs.steps():
            self.tell_progress("ladder", "ladder: passage", done, self.rungs.total)
            if done % every == 0:
                self._tell_ladder()
            yield
        self.tell_progress("ladder", "", 0, 0)

    def _tell_ladder(self) -> None:
        assert self.clean is not None
        message = self.rungs.message(self.session.opened, self.clean.margin > 0)
        if message is not None:
            self.tell_and_keep(message)

    # The list -----------------------------------------------------------------------------------

    def _list_steps(self) -> Iterator[None]:
        self._tell_list()
        yield

    def _tell_list(self) -> None:
        rows, values = self.passages.listed(self.sort, self.find, self._keys())
        given = (rows, values, self.sort, self.find, self.most)
        self.tell_and_keep(messages.list_message(self.passages, *given))

    def _keys(self) -> dict[str, np.ndarray]:
        clean, now = self.clean, self.now
        assert clean is not None and now is not None
        tokens = self.passages.task.continuation
        return {
            "recited": clean.margin,
            "longest": clean.matched,
            "change": clean.matched - now.matched,
            "chance": -tokens * clean.loss,
        }

    # Messages ------------------------------------------------------------------------------------

    def study_message(self) -> Message:
        """Everything that never changes."""
        given = (self.session, self.passages, self.layers, self.scores.picks())
        return self._keep(messages.study_message(*given))

    def picture_messages(self) -> Sequence[Message]:
        """None: passages are text."""
        return []


def _text(request: dict[str, Any], field: str) -> str:
    value = request.get(field)
    if not isinstance(value, str):
        raise ValueError(f"{request['type']!r} needs {field!r}, a string; got {quoted(value)}.")
    if len(value) > _LONGEST:
        raise ValueError(f"the text has {len(value):,} characters; give at most {_LONGEST:,}.")
    return value
