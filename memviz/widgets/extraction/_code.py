"""Lines of Python that give the figures of the explorer without it, and open it again."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any, Protocol

import numpy as np

from memviz.session import Session

from ._opened import Asked, Asking
from ._passages import Passages


class Host(Protocol):
    """What is read of the controller."""

    session: Session
    passages: Passages
    asking: Asking
    ladder: Mapping[str, Any] | None
    score: str
    sort: str
    find: str

    @property
    def asked(self) -> Asked | None:
        """What is asked of the opened passage."""

    @property
    def own_scores(self) -> Mapping[str, Any]:
        """Scores that the user gave."""


def code(shown: Host) -> str:
    """Compute what is shown with the plain functions, and open the view in the same state."""
    session, asked, passages = shown.session, shown.asked, shown.passages
    given, arguments = _arguments(shown)
    lines = [*_figures(session, asked), "", *given, f"view = mv.extraction({arguments})"]
    if session.opened is not None:
        lines.append(f"session.open({session.opened})")
    if session.units or session.how != "zero":
        lines.append(f"session.ablate({str(session.units)!r}, how={session.how!r})")
    if asked is not None and (words := shown.asking.words(asked)):
        lines.append(f"view.controller.ask({words})")
    if (shown.sort, shown.find) != (next(iter(passages.sorts)), ""):
        lines.append(f"view.controller.list_by({shown.sort!r}, {shown.find!r})")
    if shown.score != "effect":
        lines.append(f"view.controller.choose_score({shown.score!r})")
    return "\n".join([*lines, "view", ""])


def _figures(session: Session, asked: Asked | None) -> list[str]:
    units, how = str(session.units), session.how
    study = session.study
    lines = ["import memviz as mv", "from memviz.probes.extraction import recite", ""]
    lines += [f"study = {study.origin or '...  # your Study'}", "session = mv.Session(study)"]
    if session.variant:
        lines.append(f"session.look_at({session.variant!r})")
    shown = "session.replay.study" if session.variant else "study"
    lines.append(f"print(mv.readout({shown}, {units!r}, {how!r}))")
    if asked is not None:
        sampling = ""
        if asked.sample is not None:
            seed = asked.sample * len(study) + asked.row
            sampling = f", temperature={asked.temperature!r}, top_k={asked.top_k!r}, seed={seed}"
        lines += ["", f"row, prompt = {asked.row}, {list(asked.prompt)!r}"]
        lines += [f"true = {shown}.labels[row]", f"with mv.ablate({shown}, {units!r}, {how!r}):"]
        lines += [f"    print(recite({shown}.model, prompt, true{sampling}))"]
    return lines


def _arguments(shown: Host) -> tuple[list[str], str]:
    """What the view was opened with: lines that define it, and the arguments."""
    passages, ladder = shown.passages, shown.ladder
    lines, given = [], ["session"]
    names = list(passages.study.groups)
    if passages.group != (names[-1] if len(names) > 1 else ""):
        given.append(f"held_out={passages.group!r}")
    if passages.copies is not None:
        lines.append(f"copies = {_runs(passages.copies)}")
        given.append("copies=copies")
    if shown.own_scores:
        keys = ", ".join(map(repr, shown.own_scores))
        lines.append(f"scores = ...  # your Scores: {keys}")
        given.append("scores=scores")
    if ladder:
        origin = getattr(ladder, "origin", "")
        lines.append(f"ladder = {origin or _names(ladder) + '  # your models'}")
        given.append("ladder=ladder")
    return lines, ", ".join(given)


def _runs(numbers: np.ndarray) -> str:
    """A list of whole numbers, shorter where many in a row are equal.

    Examples
    --------
    >>> _runs(np.array([4, 4, 4, 4, 0, 0, 0])), _runs(np.array([1, 2]))
    ('[4] * 4 + [0] * 3', '[1, 2]')
    """
    runs = [(number, len(list(same))) for number, same in groupby(numbers.tolist())]
    short = " + ".join(f"[{number}] * {count}" for number, count in runs)
    return short if 3 * len(runs) < len(numbers) else repr(numbers.tolist())


def _names(ladder: Mapping[str, Any]) -> str:
    """A ladder's names, without the models.

    Examples
    --------
    >>> _names({"small": None, "large": {"half": None, "end": None}})
    "{'small': ..., 'large': {'half': ..., 'end': ...}}"
    """
    rows = (
        f"{row!r}: {_names(given) if isinstance(given, Mapping) else '...'}"
        for row, given in ladder.items()
    )
    return "{" + ", ".join(rows) + "}"
