"""The scatter of two scores over units: which two, and the pictures that fire the opened unit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from memviz.checks import quoted
from memviz.engine.activations import TopExamples, UnitActivations, top_example_steps
from memviz.scores import Scores
from memviz.study import Study
from memviz.units import Unit, UnitSet, check_units
from memviz.widgets.core import Action, Message, Part, pack
from memviz.widgets.workbench import Controller

PICTURES = 12
# By the kind of a layer whose units no picture fires most.
_UNPICTURED = {
    "heads": "An attention head is many features together: no picture fires it most.",
    "experts": "Only positions routed to an expert fire its neurons: no picture fires one most.",
}
_CONSTANT = "This unit has the same activation on every example."


class Scatter(Part):
    """What every scatter of a session shows; pictures are looked up in the background.

    Parameters
    ----------
    controller : Controller

    Attributes
    ----------
    axes : tuple of str
        Keys of the scores on x and y.
    unit : Unit or None
        The opened one.
    """

    name = "scatter"

    def __init__(self, controller: Controller) -> None:
        super().__init__(controller)
        self._scores, self._audience = controller.scores, controller
        self.axes = ("estimate", "effect")
        self.unit: Unit | None = None
        self._looked_for: tuple[Unit | None, str] = (None, self.session.variant)
        self._found: tuple[Study, list[TopExamples]] | None = None

    @property
    def actions(self) -> Mapping[str, Action]:
        """Choose the scores on the axes, and open a unit."""
        return {
            "axes": Action(
                lambda request, _: self.choose(request["keys"]),
                *("keys", (dict,), "a score for x or y"),
            ),
            "unit": Action(lambda request, _: self.open(request["unit"]), "unit"),
        }

    @property
    def worn(self) -> frozenset[str]:
        """The scores on x and y."""
        return frozenset(self.axes)

    def begin(self, scores: Mapping[str, Scores]) -> None:
        """Show the first two of these scores, or the only one against the exact effect."""
        keys = [*scores, *(["effect"] if scores else self.axes)]
        self.choose({"x": keys[0], "y": keys[1]})

    def choose(self, axes: Mapping[str, Any]) -> None:
        """Put other scores on the axes; choosing the exact effect resumes a cancelled sweep.

        Raises
        ------
        ValueError
            If there is no such score.
        """
        wanted = (str(axes.get("x", self.axes[0])), str(axes.get("y", self.axes[1])))
        for key in wanted:
            self._scores.check(key)
        self.axes = wanted
        self._tell_axes()
        changed = [key for name, key in zip("xy", wanted, strict=True) if name in axes]
        for key in dict.fromkeys(changed):
            self._scores.show(key)

    def open(self, unit: str) -> None:
        """Open a unit and look up the pictures that fire it most; an empty string closes it.

        Raises
        ------
        ValueError
            If it is not one unit.
        """
        chosen = check_units(UnitSet.parse(unit), self.session.known)
        if len(chosen) > 1:
            raise ValueError(f"{quoted(unit)} is {len(chosen)} units; open one at a time.")
        self.unit = next(iter(chosen), None)
        self._tell_axes()
        self._start()

    def state_changed(self) -> None:
        """Look up the pictures again if the model's variant has changed."""
        if self._looked_for != (self.unit, self.session.variant):
            self._start()

    def _start(self) -> None:
        self._looked_for = (self.unit, self.session.variant)
        if self.unit is None:
            self._worker.drop("firing")
        else:
            self._worker.work("firing", self._steps(self.unit), rank=1)

    def _steps(self, unit: Unit) -> Iterator[None]:
        kind = self.session.layer(unit.layer).kind
        if kind in _UNPICTURED:
            self._tell_pictures(unit, np.empty(0), np.empty(0), _UNPICTURED[kind])
            return
        study = self.session.replay.study
        if self._found is None or self._found[0] is not study:
            self._found = (study, [])
        kept = self._found[1]
        if not any(unit in found.units for found in kept):
            stream = self._stream(study, unit.layer)
            yield
            for done, found in top_example_steps(stream, PICTURES):
                self._audience.tell_progress("firing", "activations", done, len(study))
                if found is not None:
                    kept.append(found)
                yield
            self._audience.tell_progress("firing", "", 0, 0)
        of_unit = next(found for found in kept if unit in found.units)
        examples, values = (part.numpy() for part in of_unit.of(unit))
        self._tell_pictures(unit, examples, values, "" if len(examples) else _CONSTANT)
        yield

    def _stream(self, study: Study, layer: str) -> UnitActivations:
        """Activations of all layers, or of one alone if some layer cannot be read."""
        try:
            return UnitActivations(study)
        except ValueError:
            return UnitActivations(study, [layer])

    def _tell_pictures(
        self, unit: Unit, examples: np.ndarray, values: np.ndarray, words: str
    ) -> None:
        if unit != self.unit:
            return
        content = {"type": "firing", "unit": str(unit), "words": words}
        arrays = {"examples": examples.astype(np.uint32), "values": values.astype(np.float32)}
        self._audience.tell_and_keep(pack(content, **arrays))

    def _tell_axes(self) -> None:
        x, y = self.axes
        content = {
            "type": "scatter",
            "x": x,
            "y": y,
            "unit": "" if self.unit is None else str(self.unit),
        }
        self._audience.tell_and_keep(Message(content, []))
