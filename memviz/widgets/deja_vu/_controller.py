"""Between a Retrieval and the déjà vu explorer: what to compute when, and what to send."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from memviz.checks import quoted
from memviz.engine.record import CancelledError, intervention
from memviz.probes.deja_vu.ablation import Retrieval, Retrieved, random_steps
from memviz.session import Session
from memviz.units import UnitSet
from memviz.widgets.core import (
    Action,
    Message,
    Pictures,
    Sink,
    Telling,
    interventions,
    ranking,
    study_message,
)

from . import _messages as messages
from ._album import album_entries, album_messages, bytes_of
from ._alone import Alone
from ._scores import DejaVuScores

RANDOM_DRAWS = 5
_LONGEST = 5000  # characters of a caption or a search


class DejaVuController(Telling):
    """The controller of one explorer: answers its views and works in the background.

    Parameters
    ----------
    retrieval : Retrieval
    session : Session
        A session of the retrieval's study.
    threaded : bool
        False computes only in ``worker.run_until_idle()``.
    """

    def __init__(self, retrieval: Retrieval, session: Session, *, threaded: bool = True) -> None:
        super().__init__(session, "deja_vu", threaded=threaded)
        self.retrieval = retrieval
        self.sort, self.find, self.most = "recall_gap", "", messages.LISTED
        self.score = "aucg"
        self.caption: str | None = None  # the edited caption
        self.shown: Retrieved | None = None
        self.scores = DejaVuScores(retrieval, session, self.worker, self)
        self._tiles = messages.Tiles(retrieval)
        self._alone = Alone(retrieval, self.scores, session.known)
        self._exporting: list[Sink] = []  # views that wait for a page
        self._draws: list[Retrieved] | None = None  # of random units, to compare with
        # State and row of the newest answer: a click may have changed the session since.
        self._version = 0
        self._row: int | None = None
        self._private = messages.PrivateWords(retrieval.training.captions)

    @property
    def key(self) -> str:
        """The intervention."""
        return self.session.how

    @property
    def answered(self) -> bool:
        """Whether the first figures have been computed."""
        return self.shown is not None

    @property
    def sentence(self) -> str:
        """The newest figures in words; does not wait for the first."""
        gaps = self._latest.get("gaps")
        return "starting" if gaps is None else str(gaps.content["sentence"])

    @property
    def pair(self) -> int | None:
        """The opened training pair; the session's other examples are held-out pairs."""
        row = self.session.opened
        return row if row is not None and row < len(self.retrieval.training) else None

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
            "caption": Action(lambda request, _: self.ask(request["text"]), "text"),
            "export": Action(lambda _, sink: self._export_later(sink)),
        }

    def list_by(self, sort: str, find: str, more: bool = False) -> None:
        """Sort the list and keep captions with the words of ``find``; ``more`` lengthens it."""
        if sort not in messages.SORTS:
            known = ", ".join(messages.SORTS)
            raise ValueError(f"pairs can't be sorted by {quoted(sort)}; choose from {known}.")
        self.most = self.most + messages.LISTED if more else messages.LISTED
        self.sort, self.find = sort, find
        if self.shown is not None:
            self.worker.work("list", self._list_steps(), rank=0)

    def ask(self, caption: str) -> None:
        """Look up an edited caption in place of the pair's own; an empty one restores its own."""
        row, caption = self.pair, _short(caption)
        own = None if row is None else self.retrieval.training.captions[row]
        self.caption = caption.strip() if caption.strip() not in ("", own) else None
        self.worker.answer(self._answer)

    def choose_score(self, key: str) -> None:
        """Show another score on the unit maps."""
        known = [score["key"] for score in self.scores.choices()]
        if key not in known:
            raise ValueError(f"there is no score {quoted(key)}; choose from {', '.join(known)}.")
        self._wear(key)
        self.scores.show(key)

    def ablate_top(self, k: int) -> None:
        """Ablate the k units that the chosen score ranks highest."""
        shown = self._latest.get("scores:" + self.score)
        ranked = [] if shown is None else ranking(shown)
        unranked = () if shown is None else shown.content.get("unranked", ())
        ranked = [row for row in ranked if self.scores.units[row].layer not in unranked]
        ranked = self._of_layers_shown(ranked, self.scores.units)
        if not 0 <= k <= len(ranked):
            raise ValueError(f"{k} units were asked for; {len(ranked)} have a score to rank by.")
        self._ablate_ranked(UnitSet([self.scores.units[row] for row in ranked[:k]]))

    def cancel(self) -> None:
        """Stop the background work and keep its results so far."""
        self._exporting.clear()
        self._cancel("sweep", "score", "export")

    def thumbnail(self, number: int) -> np.ndarray:
        """A picture by its number, uint8 ``[side, side, 3]``: training pairs, then public ones."""
        return np.asarray(self._tiles.picture(number))

    def code(self) -> str:
        """Python lines that compute these figures with the plain functions, and open this view."""
        session, row = self.session, self.pair
        units, how = str(session.units), session.how
        lines = [
            "import memviz as mv",
            "",
            f"retrieval = {self.retrieval.origin or '...  # your Retrieval'}",
            f"ablated = retrieval.retrieve({units!r}, {how!r})",
            "print(ablated)",
        ]
        if row is not None and self.caption is not None:
            objects = f"retrieval.training.objects[{row}]"
            lines += [
                f"sides = retrieval.ask({self.caption!r}, {objects}, {units!r}, {how!r})",
                "print(*(float(side.recall[0]) for side in sides))",
            ]
        elif row is not None:
            lines += [
                f"row = {row}  # {self.retrieval.training.captions[row]!r}",
                "print(float(retrieval.clean.found.target.recall[row]), "
                "float(ablated.found.target.recall[row]))",
            ]
        lines += ["", "view = mv.deja_vu(retrieval)"]
        lines += [f"view.session.use({how!r})"] if how != "zero" else []
        opened = session.opened
        lines += [f"view.session.open({opened})"] if opened is not None else []
        lines += [f"view.session.ablate({units!r})"] if units else []
        return "\n".join([*lines, "view", ""])

    # What changes ------------------------------------------------------------------------------

    def _changed(self, what: str) -> None:
        self._tell_state()
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
        fresh, self.shown, self._version = now is not self.shown, now, version
        clean = self.retrieval.clean
        self.tell_and_keep(messages.gaps_message(clean, now, version, self.session.known, pair))
        if fresh:
            self._draws = None
            self._latest.pop("chance", None)
            self.worker.drop("random")
        if fresh and units:
            self.worker.work("random", self._random_steps(units, how), rank=1)
        elif self._draws is not None:
            self._tell_chance(self._draws)
        if first:
            self.scores.show(self.score)

    def _retrieved(self, units: UnitSet, how: str) -> Retrieved:
        shown = self.shown
        if shown is not None and (shown.units, shown.how) == (units, how):
            return shown
        retrieved = self.retrieval.retrieve(units, how, stop=lambda: self.worker.answer_waits)
        # Without units the clean result comes back, whatever the intervention.
        return replace(retrieved, how=how)

    def _open_first(self) -> None:
        listed = self._latest["pairs"].content["pairs"]
        if self.session.opened is None and listed:
            self.session.open(listed[0]["row"])

    def _tell_pair(self, now: Retrieved, version: int) -> str:
        pairs, row = self.retrieval.training, self.pair
        self._row = None
        if row is None:
            return ""
        caption, place, clean = pairs.captions[row], row, self.retrieval.clean.found
        sides = [clean.target, now.found.target, clean.reference]
        if self.caption is not None:
            caption, place = self.caption, 0
            sides = self.retrieval.ask(caption, pairs.objects[row], now.units, now.how)
        edited = self.caption is not None
        self._row = None if edited else row
        message = messages.pair_message(
            self.retrieval,
            row,
            caption,
            sides,
            place,
            self._private.of(caption, unseen=edited),
            len(now.units),
            version,
            edited and self._is_cut(caption),
        )
        drawn = (number for side in message.content["sides"] for number in side["pictures"])
        self._tell_tiles([row, *drawn])
        self.tell_and_keep(message)
        return messages.pair_words(sides, place, edited)

    def _tell_pairs(self) -> None:
        message = messages.pairs_message(
            self.retrieval, self.retrieval.clean.found, self.sort, self.find, self.most
        )
        self._tell_tiles(entry["row"] for entry in message.content["pairs"])
        self.tell_and_keep(message)

    def _list_steps(self) -> Iterator[None]:
        self._tell_pairs()
        yield

    def _tell_tiles(self, wanted: Iterable[int]) -> None:
        for sheet in self._tiles.new(wanted):
            self.broadcast(sheet)

    def _random_steps(self, units: UnitSet, how: str) -> Iterator[None]:
        steps = random_steps(
            self.retrieval, units, intervention(how), RANDOM_DRAWS, lambda: self.worker.answer_waits
        )
        draws: list[Retrieved] = []
        try:
            for draw in steps:
                draws.append(draw)
                self._tell_chance(draws)
                yield
        except CancelledError:
            return  # a newer answer waits, and starts its own draws
        if not draws:
            self._tell_chance(draws)

    def _tell_chance(self, draws: list[Retrieved]) -> None:
        assert self.shown is not None
        self._draws, units = draws, len(self.shown.units)
        self.tell_and_keep(messages.chance_message(draws, self._version, units, self._row))

    def _is_cut(self, caption: str) -> bool:
        """Whether the model's context ends before the caption does."""
        words, tokens = caption.split(), self.retrieval.target.tokenizer
        without = " ".join(words[:-1])
        return len(words) > 1 and torch.equal(tokens([caption]), tokens([without]))

    # Messages ------------------------------------------------------------------------------------

    def study_message(self) -> Message:
        """Everything that never changes."""
        pictures = Pictures(self.session.study, 0, 255, (1, 1, 3), False)
        hows = interventions(self.session.how)
        message = study_message(self.session, pictures, self.scores.choices(), hows, [])
        objects = list(self.retrieval.training.class_names)
        content = {**message.content, "towers": messages.layer_towers(self.retrieval)}
        return self._keep(Message({**content, "objects": objects}, message.buffers))

    def snapshot(self) -> list[Message]:
        """All that a new view needs, and what a page without a kernel opens and switches itself."""
        told, entries = super().snapshot(), self._entries()
        rows, known = _rows(entries), self.session.known
        alone = self._alone.message(self.session.how, rows)
        assert self.shown is not None
        pair = self.pair
        first = self._alone.pictures(rows.index(pair)) if pair in rows else []
        more = (bytes_of([alone]), first)
        album = album_messages(self.retrieval, self.shown, entries, self._tiles, known, *more)
        return [*told, *album, alone]

    def find_alone(self, *, progress: bool) -> None:
        """Compute the single units of a saved page now, with a bar; what is done stays known."""
        self.ready()
        steps = self._alone.steps(self.session.how, _rows(self._entries()))
        with tqdm(desc="single units", unit="unit", leave=False, disable=not progress) as bar:
            for done, total in steps:
                bar.total = total
                bar.update(done - bar.n)

    def _entries(self) -> list[dict[str, Any]]:
        assert self.shown is not None
        return album_entries(self.retrieval, self.shown, self._private, self.pair)

    def _export_later(self, sink: Sink) -> None:
        """Save beside the notebook once the single units are known; clicks go first."""
        if sink not in self._exporting:
            self._exporting.append(sink)
        # Begun anew for a second view, with all that is known by now; both get their answer.
        self.worker.work("export", self._export_steps(), rank=0)

    def _export_steps(self) -> Iterator[None]:
        self.ready()
        known: tuple[str, list[int]] | None = None
        # What is asked for may change on the way.
        while known != (asked := (self.session.how, _rows(self._entries()))):
            for done, total in self._alone.steps(*asked, lambda: self.worker.answer_waits):
                self.tell_progress("export", "units for the page", done, total)
                yield
            known = asked
        self.tell_progress("export", "", 0, 0)
        while self._exporting:  # popped, so that a page that fails is not tried again
            sink = self._exporting.pop(0)
            if sink in self.sinks:  # its view may have been closed meanwhile
                self._export_beside(sink)

    def picture_messages(self) -> Sequence[Message]:
        """The thumbnails sent so far."""
        return self._tiles.all()


def _rows(entries: Sequence[dict[str, Any]]) -> list[int]:
    return [entry["row"] for entry in entries]


def _text(request: dict[str, Any], field: str) -> str:
    value = request.get(field)
    if not isinstance(value, str):
        raise ValueError(f"{request['type']!r} needs {field!r}, a string; got {quoted(value)}.")
    return _short(value)


def _short(text: str) -> str:
    """The text, unless no caption could be as long."""
    if len(text) > _LONGEST:
        raise ValueError(
            f"the text has {len(text):,} characters; give at most {_LONGEST:,}, far more than a "
            "model reads of a caption."
        )
    return text
