"""A session of a network of gates, in which each gate may be set to something else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from memviz.checks import listed, quoted
from memviz.engine.circuits import CircuitStudy
from memviz.engine.record import Intervention
from memviz.models.logic_gates import SETTINGS, live_gates
from memviz.study import Study
from memviz.units import Layer, UnitSet, UnitsLike, UnknownLayerError, check_units, declarers

from ._session import Session
from ._state import State


@dataclass(frozen=True)
class GateState(State):
    """One moment: what each gate is set to that is not as it was trained, by row."""

    settings: tuple[tuple[int, str], ...] = ()


class GateSession(Session):
    """Gates that are set to 0, 1, an input or their negation, with undo and redo.

    Parameters
    ----------
    study : Study
        Of a hard network of logic gates.

    Attributes
    ----------
    circuits : CircuitStudy
        Answers for any settings.

    Raises
    ------
    TypeError, ValueError
        If the model is no hard network of gates.

    Examples
    --------
    >>> import torch
    >>> from memviz.models.logic_gates import logic_dense_net
    >>> model = logic_dense_net(4, [8, 6], 3).eval()
    >>> study = Study(model, torch.rand(9, 4), torch.arange(9) % 3, {"test": range(9)})
    >>> session = GateSession(study)
    >>> session.fix("3.gates:5", "constant 1")
    >>> session.fix("3.gates:4", "negation")
    >>> session.undo()
    >>> session.settings
    {13: 'constant 1'}
    """

    def __init__(self, study: Study) -> None:
        self.circuits = CircuitStudy(study)
        super().__init__(study)
        self._state = self._start = GateState(tuple(layer.name for layer in self.known))

    def _layers(self) -> list[Layer]:
        """Known from the wiring, so that no pass is recorded."""
        model = self.study.model
        gates, lives = {one.name: one for one in declarers(model)}, live_gates(model)
        return [gates[layer.name].layer(lives) for layer in self.circuits.circuit.layers]

    def layer(self, name: str) -> Layer:
        """A layer of gates by name; KeyError if there is none."""
        found = {layer.name: layer for layer in self.known}
        if not isinstance(name, str) or name not in found:
            raise UnknownLayerError(name, found)
        return found[name]

    @property
    def settings(self) -> dict[int, str]:
        """What gates are set to, by their row in the circuit; those not here are as trained."""
        assert isinstance(self._state, GateState)
        return dict(self._state.settings)

    def rows(self, units: UnitsLike) -> list[int]:
        """Rows of gates in the circuit, in ascending order.

        Raises
        ------
        KeyError, IndexError
            If there is no such layer or gate.
        """
        chosen = check_units(units, self.known).layers
        starts = {layer.name: layer.start for layer in self.circuits.circuit.layers}
        return sorted(starts[name] + unit for name, units in chosen.items() for unit in units)

    def fix(self, gates: UnitsLike, to: str | None) -> None:
        """Set gates to something else, or put them back.

        Parameters
        ----------
        gates : UnitSet or text
        to : str or None
            One of these: ``"zero"``, ``"constant 1"``, ``"input a"``, ``"input b"`` or
            ``"negation"``; None puts them back as they were trained.

        Raises
        ------
        ValueError
            If there is no such setting, or a gate is dead.
        KeyError, IndexError
            If there is no such layer or gate.
        """
        rows = self.rows(gates)
        settings = self.settings
        for row in rows:
            settings.pop(row, None)
            if to is not None:
                settings[row] = to
        self.set_all(settings)

    def set_all(self, settings: Mapping[int, str]) -> None:
        """Set exactly these gates, by row; all others are as trained.

        Raises
        ------
        ValueError
            If there is no such setting, or a gate is dead.
        IndexError
            If there is no such gate.
        """
        for row, setting in settings.items():
            if setting not in SETTINGS:
                raise ValueError(
                    f"a gate can't be set to {quoted(setting)}; choose from {listed(SETTINGS)}."
                )
            words = self.circuits.circuit.words_for(row)
            if not self.circuits.circuit.live[row]:
                raise ValueError(
                    f"{words} is dead: nothing reads it, so taking it out changes nothing."
                )
        kept = tuple(sorted(settings.items()))
        units = self.units_of(settings)
        self._move(lambda state: replace(_gate_state(state), units=units, settings=kept))

    def ablate(self, units: UnitsLike, how: str | Intervention | None = None) -> None:
        """Set exactly these gates, all to ``how``; to 0 unless given."""
        kind = "zero" if how is None else str(how)
        self.set_all(dict.fromkeys(self.rows(units), kind))

    def toggle(self, units: UnitsLike) -> None:
        """Set to 0 the gates that are as trained, and put back those that are not."""
        settings = self.settings
        for row in self.rows(units):
            if settings.pop(row, None) is None:
                settings[row] = "zero"
        self.set_all(settings)

    def use(self, how: str | Intervention) -> None:
        """Set the gates that are not as trained to something else, all to the same."""
        self.set_all(dict.fromkeys(self.settings, str(how)))

    def to_code(self) -> str:
        """Python lines that rebuild this state and print what each group says."""
        lines = ["import memviz as mv", "from memviz.session import GateSession", ""]
        lines += [f"study = {self.study.origin or '...  # your Study'}"]
        lines += ["session = GateSession(study)", *self.steps("session")]
        lines += ["print(session.circuits.read(session.settings).groups)"]
        return "\n".join(lines) + "\n"

    def steps(self, name: str) -> list[str]:
        """Python lines that set the gates and open the example, for a session of this name."""
        by_setting: dict[str, dict[int, str]] = {}
        for row, setting in self.settings.items():
            by_setting.setdefault(setting, {})[row] = setting
        lines = [
            f"{name}.fix({str(self.units_of(rows))!r}, {setting!r})"
            for setting, rows in by_setting.items()
        ]
        return lines + ([] if self.opened is None else [f"{name}.open({self.opened})"])

    def save(self, path: str | Path) -> NoReturn:
        """Refused: a file of a session has one intervention for all of its units."""
        raise ValueError(
            "a session of gates isn't saved, since each gate may be set to something else; keep "
            "the lines of session.to_code()."
        )

    def load(self, path: str | Path) -> NoReturn:
        """Refused, as :meth:`save` is."""
        raise ValueError(
            "a session of gates isn't loaded from a file; run the lines that its to_code() gave."
        )

    def units_of(self, settings: Mapping[int, str]) -> UnitSet:
        """The gates with these rows."""
        by_layer: dict[str, list[int]] = {}
        for row in settings:
            place, gate = self.circuits.circuit.place(row)
            by_layer.setdefault(self.known[place].name, []).append(gate)
        return UnitSet(by_layer)


def _gate_state(state: State) -> GateState:
    assert isinstance(state, GateState)
    return state
