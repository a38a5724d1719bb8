"""A Session: what the user is looking at, with its history; no widget code."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from memviz.checks import coded, listed, quoted
from memviz.engine.record import Intervention, Replay, intervention
from memviz.engine.sets import Toggle
from memviz.study import Study, check_examples, check_study
from memviz.tensor_files import digest
from memviz.units import Layer, UnitSet, UnitsLike, UnknownLayerError
from memviz.variants import check_variant, variant, variants

from ._code import code_of
from ._file import Saved, is_of, read, write
from ._state import State

HISTORY = 500  # steps that undo goes back at most; a long session must not grow without end


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
        self._shown: tuple[str, _Engine] | None = None
        self.known = self._layers()
        if not self.known:
            raise ValueError(
                "no layer of this model has units to ablate (conv, linear or attention, the "
                "output layer excepted)."
            )
        self._start = State(tuple(layer.name for layer in self.known))
        self._state = self._start
        self._past: list[State] = []
        self._future: list[State] = []
        self.forgotten = self.version = 0
        self._watchers: list[Callable[[str], None]] = []
        self._lock = threading.RLock()
        self._making = threading.Lock()
        self.examples: tuple[int, ...] = ()
        self.opened: int | None = None

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
    def marks(self) -> dict[int, str]:
        """Examples that somebody has looked at: ``"confirmed"`` as memorized, or ``"rejected"``."""
        return self._state.marks

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

        def stop() -> None:
            with suppress(ValueError):  # stopped before
                self._watchers.remove(watcher)

        return stop

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
        check_variant(variant, self.variants)
        self._move(lambda state: replace(state, variant=variant))

    def show_layers(self, names: Iterable[str]) -> None:
        """Show only these layers; a single name is one of them.

        Raises
        ------
        TypeError
            If something other than names is given.
        KeyError
            If a layer is unknown.
        """
        if not isinstance(names, Iterable) or getattr(names, "ndim", 1) == 0:
            raise TypeError(f"names is {quoted(names)}; give a list of layer names.")
        wanted = [names] if isinstance(names, str) else list(names)
        known = [layer.name for layer in self.known]
        for name in wanted:
            if name not in known:
                raise UnknownLayerError(name, known)
        shown = tuple(name for name in known if name in wanted)
        self._move(lambda state: replace(state, layers=shown))

    def select(self, examples: Any) -> None:
        """Select examples of the study, by indices or a bool mask; an empty list selects none.

        Raises
        ------
        ValueError
            If they are no indices, or an example is not in the study.
        """
        given = list(examples) if isinstance(examples, Iterator) else examples
        is_empty = hasattr(given, "__len__") and getattr(given, "ndim", 1) != 0 and not len(given)
        chosen = [] if is_empty else check_examples(self.study, given).tolist()
        with self._lock:
            self.examples = tuple(chosen)
        self._tell("examples")

    def open(self, example: int | None) -> None:
        """Open one example; None closes it.

        Raises
        ------
        TypeError
            If it is no whole number.
        IndexError
            If the example is not in the study.
        """
        if example is not None:
            example = self._check_example(example)
        with self._lock:
            self.opened = example
        self._tell("examples")

    def mark(self, examples: Any, as_what: str) -> None:
        """Confirm examples as memorized, or reject them; an empty text takes a mark away.

        Marks are saved with the session, and a step that undo takes back.

        Parameters
        ----------
        examples : indices or bool mask
        as_what : {"confirmed", "rejected", ""}

        Raises
        ------
        ValueError
            If the mark is another one, or an example is not in the study.

        Examples
        --------
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 3)).eval()
        >>> session = Session(Study(model, torch.randn(6, 4), torch.zeros(6), {"test": range(6)}))
        >>> session.mark([4, 2], "confirmed")
        >>> session.marks
        {2: 'confirmed', 4: 'confirmed'}
        """
        chosen = frozenset(check_examples(self.study, examples).tolist())
        self._move(lambda state: state.marked(chosen, as_what))

    def reviewed(self) -> Study:
        """The study with the groups that the marks leave: see :meth:`memviz.Study.reviewed`."""
        return self.study.reviewed(sorted(self._state.confirmed), sorted(self._state.rejected))

    def undo(self) -> None:
        """Go back one step, if there is one; the last 500 are kept."""
        self._travel(self._past, self._future)

    def redo(self) -> None:
        """Go forward one step, if there is one."""
        self._travel(self._future, self._past)

    def reset(self) -> None:
        """Show every layer and ablate nothing; can be undone. Marks stay."""
        self._move(
            lambda state: replace(self._start, confirmed=state.confirmed, rejected=state.rejected)
        )

    def to_code(self) -> str:
        """A few lines of Python that rebuild this state."""
        return code_of(self.study, self._start, self._state, self.examples, self.opened)

    def save(self, path: str | Path) -> None:
        """Write the state as JSON, atomically, with hashes of the weights and of the file itself.

        Raises
        ------
        FileNotFoundError, ValueError, OSError
            If there is no such folder, the path is no file, or the file can't be written.
        """
        with self._lock:
            write(
                path,
                Saved(
                    weights=digest(self.study.model.state_dict()),
                    study=str(self.study.name),
                    layers=self.layers,
                    units=self.units,
                    how=self.how,
                    variant=self.variant,
                    examples=self.examples,
                    opened=self.opened,
                    confirmed=tuple(sorted(self._state.confirmed)),
                    rejected=tuple(sorted(self._state.rejected)),
                ),
            )

    def load(self, path: str | Path) -> None:
        """Restore a saved state.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is not a saved session, was altered after it was written, or belongs to
            other weights; the state is kept.
        KeyError, IndexError
            If the model has no such layer or unit, or the study no such example.
        """
        saved = read(path)
        if not is_of(saved, self.study.model):
            raise ValueError(
                f"{quoted(str(path))} was saved with weights other than those of this study's "
                "model; load the model it belongs to."
            )
        if saved.variant not in self.variants:
            raise ValueError(
                f"{quoted(str(path))} shows the variant {quoted(saved.variant)}, which this study "
                f"does not have; it has {listed(map(quoted, self.variants))}."
            )
        units, how = self._own.replay.check(saved.units), str(intervention(saved.how))
        opened = [] if saved.opened is None else [saved.opened]
        for example in [*saved.examples, *opened, *saved.confirmed, *saved.rejected]:
            self._check_example(example)
        marks = frozenset(saved.confirmed), frozenset(saved.rejected)
        shown = tuple(layer.name for layer in self.known if layer.name in saved.layers)
        self._move(lambda _: State(shown, units, how, saved.variant, *marks))
        with self._lock:
            self.examples, self.opened = saved.examples, saved.opened
        self._tell("examples")

    def _layers(self) -> list[Layer]:
        return [layer for layer in self._own.replay.layers if not layer.is_output]

    @cached_property
    def _own(self) -> _Engine:
        """That of the study's own model; a session that knows its layers may do without."""
        return _Engine(self.study)

    def _engine(self) -> _Engine:
        with self._making:
            key = self.variant
            if self._shown is None or self._shown[0] != key:
                self._shown = (key, _Engine(variant(self.study, key)) if key else self._own)
            return self._shown[1]

    def _check_example(self, example: Any) -> int:
        last = len(self.study) - 1
        value = example.tolist() if hasattr(example, "tolist") else example
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(
                f"example is {quoted(example)}; give its index, a whole number from 0 to {last}."
            )
        if not 0 <= value <= last:
            words = f"example {quoted(value)} is not in this study; its examples are 0 to {last}."
            raise IndexError(coded("E28", words))
        return value

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
        located = self._own.replay.located
        if not isinstance(name, str) or name not in located:
            raise UnknownLayerError(name, located)
        return located[name].layer
