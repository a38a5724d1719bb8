"""What each gate does alone: mean vote margin lost, memorized minus clean, set to 0 and to 1."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from memviz.session import GateSession
from memviz.widgets.core import (
    Choices,
    Message,
    Worker,
    progress_message,
    ranking,
    unit_scores_message,
)

if TYPE_CHECKING:
    from memviz.widgets.core import Telling

CONSTANTS = ("zero", "constant 1")
_AT_ONCE = 64  # gates
_WORDS = {"better": "to the better constant", "zero": "to 0", "constant 1": "to 1"}


class GateScores:
    """Scores of the gates, measured in the background and kept."""

    known = ("better", *CONSTANTS)

    def __init__(self, session: GateSession, worker: Worker, telling: Telling) -> None:
        self._session, self._worker, self._telling = session, worker, telling
        n = session.circuits.circuit.gates
        self.lost = {constant: np.full(n, np.nan) for constant in CONSTANTS}
        self._told: dict[str, Message] = {}
        self._begun = False

    @property
    def done(self) -> bool:
        """Whether every live gate has been measured."""
        return bool(self._told)

    def begin(self) -> None:
        """Measure every live gate, once."""
        if not self._begun:
            self._begun = True
            self._worker.work("alone", self._steps(), rank=1)

    def picks(self) -> Choices:
        """The scores that can be chosen."""
        first, rest = self._sides()
        label = f"votes lost: {first}" + (f" − {rest}" if rest else "")
        return [
            {"key": key, "label": label, "kind": "exact", "measure": f"votes of margin, {words}"}
            for key, words in _WORDS.items()
        ]

    def values(self, key: str) -> np.ndarray:
        """The score of every gate, float64 ``[gates]``; NaN where dead or not known yet."""
        if key != "better":
            return self.lost[key]
        return np.asarray(np.fmax(self.lost["zero"], self.lost["constant 1"]))

    def setting(self, row: int, key: str) -> str:
        """What a score sets a gate to; the better constant is the one that takes more."""
        if key != "better":
            return key
        return CONSTANTS[int(self.lost["constant 1"][row] > self.lost["zero"][row])]

    def ranked(self, key: str) -> list[int]:
        """Rows by falling score; none before they are measured."""
        return ranking(self._told[key]) if key in self._told else []

    def are_better(self, settings: Mapping[int, str]) -> dict[int, str] | None:
        """The better constant of every gate, if these are set to theirs; else None."""
        if not self.done or any(s != self.setting(row, "better") for row, s in settings.items()):
            return None
        rows = np.flatnonzero(self._session.circuits.circuit.live).tolist()
        return {row: self.setting(row, "better") for row in rows}

    def _sides(self) -> tuple[str, str]:
        first, *others = self._session.circuits.before.groups
        return first, others[0] if others else ""

    def _steps(self) -> Iterator[None]:
        circuits = self._session.circuits
        first, rest = self._sides()
        masks = [circuits.study.groups[name] for name in (first, rest) if name]
        done, total = 0, int(circuits.circuit.live.sum())
        for place, layer in enumerate(circuits.circuit.layers):
            live = np.flatnonzero(circuits.circuit.live[layer.start : layer.start + layer.gates])
            for few in (live[k : k + _AT_ONCE] for k in range(0, len(live), _AT_ONCE)):
                for constant in CONSTANTS:
                    lost = circuits.lost_alone(place, few.tolist(), constant).double()
                    means = [lost[:, mask].mean(1) for mask in masks]
                    value = means[0] - means[1] if len(means) > 1 else means[0]
                    self.lost[constant][layer.start + few] = value.numpy()
                done += len(few)
                self._telling.tell_progress("alone", "each gate alone", done, total)
                yield
        self._tell()
        self._telling.broadcast(progress_message("", 0, 0))

    def _tell(self) -> None:
        for pick in self.picks():
            key = pick["key"]
            message = unit_scores_message(key, pick["label"], pick["measure"], self.values(key))
            content = {**message.content, "kind": "exact", "floor": 0}
            self._told[key] = Message(content, message.buffers)
            self._telling.tell_and_keep(self._told[key], f"scores:{key}")
