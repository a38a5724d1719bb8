"""A Session: what the user is looking at, with its history; no widget code."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from memviz.engine.record import Intervention, Replay, intervention
from memviz.engine.sets import Toggle
from memviz.study import Study, check_study
from memviz.tensor_files import atomic_write, digest
from memviz.units import Layer, UnitSet, UnitsLike, UnknownLayerError
from memviz.variants import variant, variants

_FORMAT = 1
HISTORY = 500  # steps that undo goes back at most; a long session must not grow without end


@dataclass(frozen=True)
class State:
    """One moment of a session; undo and redo move between these."""

    layers: tuple[str, ...]
    units: UnitSet = UnitSet()
    how: str = "zero"
    variant: str = ""


class _Engine:
    """The replay and the answers to clicks of one variant of the model."""

    def __init__(self, study: Study) -> None:
        self.replay = Replay(study)
        self.toggles = Toggle(self.replay)


class Session:
    """Chosen layers, units and examples, the active ablation, undo and redo.

    Undo goes back at most 500 steps; older ones are forgotten.

    Parameters
    ----------
    study : Study

    Attributes
    ----------
    forgotten : int
        Steps that undo can no longer reach.

    Raises
    ------
    ValueError
        If no layer of the model has units to ablate.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    >>> study = Study(model.eval(), torch.randn(6, 4), torch.zeros(6), {"test": range(6)})
    >>> session = Session(study)
    >>> session.toggle("0:1,2")
    >>> session.undo()
    >>> str(session.units), session.can_redo
    ('', True)
    """

    def __init__(self, study: Study) -> None:
        check_study(study)
        self.study = study
        self.variants = variants(study)
        self._own = _Engine(study)
        self._shown = ("", self._own)
        self.known = [layer for layer in self._own.replay.layers if not layer.is_output]
        if not self.known:
            raise ValueError(
                "no layer of this model has units to ablate (conv, linear or attention, the "
                "output layer excepted)."
            )
        self._start = State(tuple(layer.name for layer in self.known))
        self._state = self._start
        self._past: list[State] = []
        self._future: list[State] = []
        self.forgotten = 0
        self._watchers: list[Callable[[str], None]] = []
        self._lock = threading.RLock()
        self._making = threading.Lock()
        self.examples: tuple[int, ...] = ()
        self.opened: int | None = None
        self.version = 0

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers shown."""
        return self._state.layers

    @property
    def units(self) -> UnitSet:
        """The ablated units."""
        return self._state.units

    @property
    def how(self) -> str:
        """The intervention, by name."""
        return self._state.how

    @property
    def variant(self) -> str:
        """The variant of the model shown; ``""`` is the study's own model."""
        return self._state.variant

    @property
    def replay(self) -> Replay:
        """The engine of the variant shown, made on first use."""
        return self._engine().replay

    @property
    def toggles(self) -> Toggle:
        """The answers to clicks for the variant shown, made on first use."""
        return self._engine().toggles

    @property
    def state(self) -> State:
        """Layers, units, intervention and variant at once."""
        return self._state

    @property
    def can_undo(self) -> bool:
        """Whether there is a step to undo."""
        return bool(self._past)

    @property
    def can_redo(self) -> bool:
        """Whether there is a step to redo."""
        return bool(self._future)

    def watch(self, watcher: Callable[[str], None]) -> Callable[[], None]:
        """Call ``watcher(what)`` after each change; returns a function that stops this.

        ``what`` is ``"state"`` (layers, units, intervention, variant) or ``"examples"``.
        """
        self._watchers.append(watcher)
        return lambda: self._watchers.remove(watcher)

    def ablate(self, units: UnitsLike, how: str | Intervention | None = None) -> None:
        """Make exactly these the ablated units."""
        chosen = self._own.replay.check(units)
        kind = self.how if how is None else str(intervention(how))
        self._move(lambda state: replace(state, units=chosen, how=kind))

    def toggle(self, units: UnitsLike) -> None:
        """Ablate the units that are not ablated, restore those that are."""
        chosen = self._own.replay.check(units)
        self._move(lambda state: replace(state, units=state.units ^ chosen))

    def use(self, how: str | Intervention) -> None:
        """Change the intervention; the ablated units stay the same."""
        kind = str(intervention(how))
        self._move(lambda state: replace(state, how=kind))

    def look_at(self, variant: str) -> None:
        """Switch to another variant of the model; ``session.variants`` lists them.

        Raises
        ------
        ValueError
            If there is no such variant.
        """
        if variant not in self.variants:
            known = ", ".join(repr(name) for name in self.variants)
            raise ValueError(f"there is no variant {variant!r} of this model; choose from {known}.")
        self._move(lambda state: replace(state, variant=variant))

    def show_layers(self, names: Sequence[str]) -> None:
        """Show only these layers.

        Raises
        ------
        KeyError
            If a layer is unknown.
        """
        known = [layer.name for layer in self.known]
        for name in names:
            if name not in known:
                raise UnknownLayerError(name, known)
        shown = tuple(name for name in known if name in names)
        self._move(lambda state: replace(state, layers=shown))

    def select(self, examples: Iterable[int]) -> None:
        """Select examples by their index in the study.

        Raises
        ------
        IndexError
            If an example is not in the study.
        """
        chosen = tuple(int(example) for example in examples)
        for example in chosen:
            self._check_example(example)
        with self._lock:
            self.examples = chosen
        self._tell("examples")

    def open(self, example: int | None) -> None:
        """Open one example; None closes it.

        Raises
        ------
        IndexError
            If the example is not in the study.
        """
        if example is not None:
            self._check_example(example)
        with self._lock:
            self.opened = example
        self._tell("examples")

    def undo(self) -> None:
        """Go back one step, if there is one; the last 500 are kept."""
        self._travel(self._past, self._future)

    def redo(self) -> None:
        """Go forward one step, if there is one."""
        self._travel(self._future, self._past)

    def reset(self) -> None:
        """Show every layer and ablate nothing; can be undone."""
        self._move(lambda _: self._start)

    def to_code(self) -> str:
        """A few lines of Python that rebuild this state."""
        origin = self.study.origin or "...  # your Study"
        lines = ["import memviz as mv", "", f"study = {origin}", "session = mv.Session(study)"]
        if self.layers != self._start.layers:
            lines.append(f"session.show_layers({list(self.layers)!r})")
        if self.variant:
            lines.append(f"session.look_at({self.variant!r})")
        if self.units or self.how != self._start.how:
            lines.append(f"session.ablate({str(self.units)!r}, how={self.how!r})")
        if self.examples:
            lines.append(f"session.select({list(self.examples)!r})")
        if self.opened is not None:
            lines.append(f"session.open({self.opened})")
        shown = "session.replay.study" if self.variant else "study"
        lines.append(f"print(mv.readout({shown}, {str(self.units)!r}, {self.how!r}))")
        return "\n".join(lines) + "\n"

    def save(self, path: str | Path) -> None:
        """Write the state as JSON, atomically, with a hash of the weights."""
        with self._lock:
            content = {
                "format": _FORMAT,
                "study": self.study.name,
                "weights": digest(self.study.model.state_dict()),
                "layers": list(self.layers),
                "units": str(self.units),
                "how": self.how,
                "variant": self.variant,
                "examples": list(self.examples),
                "opened": self.opened,
            }
        with atomic_write(Path(path)) as part:
            part.write_text(json.dumps(content, indent=1))

    def load(self, path: str | Path) -> None:
        """Restore a saved state.

        Raises
        ------
        ValueError
            If the file is not a saved session, or belongs to other weights; the state is kept.
        """
        try:
            content = json.loads(Path(path).read_text())
            written, weights, how = (content[key] for key in ("format", "weights", "how"))
            units, names = UnitSet.parse(content["units"]), list(content["layers"])
            examples = [int(example) for example in content.get("examples", ())]
            opened, variant = content.get("opened"), str(content.get("variant", ""))
            opened = None if opened is None else int(opened)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{str(path)!r} is not a saved session; write one with session.save."
            ) from error
        if written != _FORMAT:
            raise ValueError(
                f"{str(path)!r} has format {written}, and this version of memviz reads format "
                f"{_FORMAT}; save the session again."
            )
        state = self.study.model.state_dict()
        if weights not in (digest(state), _former_digest(state)):
            raise ValueError(
                f"{str(path)!r} was saved with weights other than those of this study's model; "
                "load the model it belongs to."
            )
        if variant not in self.variants:
            known = ", ".join(repr(name) for name in self.variants)
            raise ValueError(
                f"{str(path)!r} shows the variant {variant!r}, which this study does not have; "
                f"it has {known}."
            )
        units, kind = self._own.replay.check(units), str(intervention(how))
        for example in [*examples, *([] if opened is None else [opened])]:
            self._check_example(example)
        shown = tuple(layer.name for layer in self.known if layer.name in names)
        self._move(lambda _: State(shown, units, kind, variant))
        self.select(examples)
        self.open(opened)

    def _engine(self) -> _Engine:
        with self._making:
            key, engine = self._shown
            if key != self.variant:
                key = self.variant
                engine = _Engine(variant(self.study, key)) if key else self._own
                self._shown = (key, engine)
            return engine

    def _check_example(self, example: int) -> None:
        if not 0 <= example < len(self.study):
            raise IndexError(
                f"example {example} is not in this study; its examples are 0 to "
                f"{len(self.study) - 1}."
            )

    def _move(self, change: Callable[[State], State]) -> None:
        with self._lock:
            after = change(self._state)
            if after == self._state:
                return
            self._past.append(self._state)
            if len(self._past) > HISTORY:
                del self._past[0]
                self.forgotten += 1
            self._future.clear()
            self._state = after
            self.version += 1
        self._tell("state")

    def _travel(self, source: list[State], target: list[State]) -> None:
        with self._lock:
            if not source:
                return
            target.append(self._state)
            self._state = source.pop()
            self.version += 1
        self._tell("state")

    def _tell(self, what: str) -> None:
        for watcher in list(self._watchers):
            watcher(what)

    def layer(self, name: str) -> Layer:
        """A layer by name; KeyError if there is none."""
        return self._own.replay.located[name].layer


def _former_digest(state: Mapping[str, torch.Tensor]) -> str:
    """The hash in sessions that version 0.1.0 saved: of names and bytes alone."""
    found = hashlib.sha256()
    for name, tensor in state.items():
        found.update(name.encode())
        found.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
