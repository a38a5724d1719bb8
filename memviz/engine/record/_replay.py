"""Record one forward pass, rerun only what is downstream of a change; for any module.

The model's own Python really runs each time. A call whose tensors are the very objects of the
record returns its recorded result; the first call with a new tensor computes, and so does
everything that depends on it. Skips, branches, functional calls and shared modules stay right,
since nothing is assumed about the model's structure.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from memviz.restored import undisturbed

from ._trace import METADATA, Call, Trace
from ._values import leaves, positional, storage_bytes, swap, tensors_in
from .places import Site, inside

ANOTHER_PATH = (
    "the forward pass takes another path when these units are ablated, and more units come after "
    "the fork; ablate them one layer at a time."
)


def _whole_only(value: Tensor, features: Tensor, rows: Tensor | None) -> Tensor:
    raise TypeError("this edit changes a whole activation only; it has no part.")


@dataclass(frozen=True)
class Edit:
    """A change of the activation that passes a site.

    Edits with the same site and ``key`` make the same change; one without a key equals no other.
    ``part(value, features, rows)`` makes the same change, but of the ``chosen`` features alone.
    Inside the call that shows declared units, ``change`` is also given the module's arguments.
    """

    site: Site
    change: Callable[..., Tensor]
    key: tuple[Any, ...] = ()
    chosen: tuple[int, ...] = ()
    part: Callable[[Tensor, Tensor, Tensor | None], Tensor] = _whole_only

    def features(self, device: torch.device) -> Tensor:
        """The features that change, int64."""
        return torch.tensor(self.chosen, device=device)

    def same(self, other: Edit) -> bool:
        """Whether both make the same change, so that a recorded result still holds."""
        return self is other or (
            bool(self.key) and (self.site, self.key) == (other.site, other.key)
        )


class PathError(RuntimeError):
    """The forward pass takes another path, on which an edit can't be placed."""


class DivergedError(PathError):
    """The forward pass made calls other than those of the trace."""


class _Mode(TorchFunctionMode):
    """Shared by all modes: counts calls, and keeps in-place calls away from kept tensors."""

    def __init__(self, trace: Trace, edits: Sequence[Edit] = ()) -> None:
        self.trace = trace
        self.next = 0
        self.new: dict[int, Tensor] = {}
        self.kept: list[Tensor] = []
        self.produced: set[int] = set()
        self.diverged = False
        self.edits: dict[int, list[Edit]] = {}
        for edit in edits:
            self.edits.setdefault(edit.site.call, []).append(edit)
        self.last_edit = max(self.edits, default=-1)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = positional(func, args, kwargs or {})
        if self.new:
            args, kwargs = swap(args, self.new), swap(kwargs, self.new)
        if func in METADATA:
            return func(*args, **kwargs)
        index, self.next = self.next, self.next + 1
        return self.call(index, func, args, kwargs)

    def call(self, index: int, func: Any, args: Any, kwargs: Any) -> Any:
        raise AssertionError("a subclass must define call()")

    def aligned(self, index: int, func: Any, tensors: list[Tensor]) -> bool:
        calls = self.trace.calls
        return index < len(calls) and calls[index].is_call_of(func, tensors)

    def compute(
        self, index: int, func: Any, args: Any, kwargs: Any, tensors: list[Tensor]
    ) -> tuple[Any, dict[int, Tensor]]:
        """Make an aligned call; what it changes in place is copied first, unless we made it."""
        mutates = () if index in self.trace.volatile else self.trace.calls[index].mutates
        copies = {k: tensors[k].clone() for k in mutates if not self.owns(tensors[k])}
        if copies:
            exchanged = {id(tensors[k]): copy for k, copy in copies.items()}
            args, kwargs = swap(args, exchanged), swap(kwargs, exchanged)
            self.exchange({id(tensors[k]): (tensors[k], copy) for k, copy in copies.items()})
        edits = self.edits.get(index)
        if not edits:
            output = func(*args, **kwargs)
        else:
            output = _edited(func, args, kwargs, edits)
            if mutates and any(edit.site.at == "output" for edit in edits):
                # Later code may read the tensor that was changed in place: it must see the edit.
                changed = {k: tensors[k] for k in mutates if tensors[k] is not output}
                self.exchange({id(t): (t, output) for t in changed.values()})
                copies = dict.fromkeys(changed, output)
        self.produced.update(id(tensor) for tensor in tensors_in(output))
        return output, copies

    def owns(self, tensor: Tensor) -> bool:
        return id(tensor) in self.produced

    def exchange(self, pairs: dict[int, tuple[Tensor, Tensor]]) -> None:
        for key, (old, new) in pairs.items():
            self.kept.append(old)  # alive, or Python could give its id to another tensor
            self.new[key] = new


def _edited(func: Any, args: Any, kwargs: Any, edits: list[Edit]) -> Any:
    # One call may belong to two layers: heads enter a projection, its features leave it.
    fused = [edit for edit in edits if edit.site.at == "inside"]
    for edit in edits:
        if edit.site.at == "input":
            value = leaves(args, kwargs)[0][edit.site.argument]
            changed = edit.change(value)
            if changed is not value:
                new = {id(value): changed}
                args, kwargs = swap(args, new), swap(kwargs, new)
    output = inside(func, args, kwargs, fused) if fused else func(*args, **kwargs)
    for edit in edits:
        if edit.site.at == "output":
            output = edit.change(output)
    return output


class _Recording(_Mode):
    def __init__(self, trace: Trace) -> None:
        super().__init__(trace)
        self.calls: list[Call] = []

    def owns(self, tensor: Tensor) -> bool:
        return False  # everything is kept

    def call(self, index: int, func: Any, args: Any, kwargs: Any) -> Any:
        tensors, constants = leaves(args, kwargs)
        if not self.aligned(index, func, tensors):
            raise DivergedError
        output, replaced = self.compute(index, func, args, kwargs, tensors)
        self.calls.append(Call(func, args, kwargs, tensors, constants, output, replaced))
        return output


class _Replaying(_Mode):
    """Returns what was recorded until something differs; makes a new record if ``keep``."""

    def __init__(self, tape: Tape, edits: Sequence[Edit], *, keep: bool = False) -> None:
        super().__init__(tape.trace, edits)
        self.recorded = tape.calls
        self.calls: list[Call] | None = [] if keep else None
        self.changed = {
            index
            for index in {*self.edits, *tape.edits}
            if not _alike(self.edits.get(index, []), tape.edits.get(index, []))
        }

    def owns(self, tensor: Tensor) -> bool:
        # A new record must keep every value as it was.
        return self.calls is None and super().owns(tensor)

    def call(self, index: int, func: Any, args: Any, kwargs: Any) -> Any:
        tensors, constants = leaves(args, kwargs)
        if self.diverged or not self.aligned(index, func, tensors):
            self.diverged = True
            # After the last edit the model may take any path; before, an edit would be lost.
            if index <= self.last_edit:
                raise DivergedError
            return func(*args, **kwargs)
        record = self.recorded[index]
        # Identity is enough: an unchanged call returns the recorded tensors themselves.
        if (
            index not in self.changed
            and index not in self.trace.volatile
            and len(tensors) == len(record.inputs)
            and all(a is b for a, b in zip(tensors, record.inputs, strict=True))
            and _same(constants, record.constants)
        ):
            for k, copy in record.replaced.items():
                self.new[id(tensors[k])] = copy
            if self.calls is not None:
                self.calls.append(record)
            return record.output
        output, replaced = self.compute(index, func, args, kwargs, tensors)
        if self.calls is not None:
            self.calls.append(Call(func, args, kwargs, tensors, constants, output, replaced))
        return output


def _alike(edits: list[Edit], others: list[Edit]) -> bool:
    return len(edits) == len(others) and all(map(Edit.same, edits, others))


class _Editing(_Mode):
    """The whole forward pass with edits and no record, where memory does not allow one."""

    def owns(self, tensor: Tensor) -> bool:
        return True  # nothing is kept, so the model may change anything in place

    def call(self, index: int, func: Any, args: Any, kwargs: Any) -> Any:
        tensors, _ = leaves(args, kwargs)
        if self.diverged or not self.aligned(index, func, tensors):
            self.diverged = True
            if index <= self.last_edit:
                raise DivergedError
            return func(*args, **kwargs)
        return self.compute(index, func, args, kwargs, tensors)[0]


def _same(constants: list[Any], recorded: list[Any]) -> bool:
    try:
        return bool(constants == recorded)
    except (RuntimeError, ValueError):  # the truth of an array comparison is ambiguous
        return False


@dataclass
class Tape:
    """One recorded forward pass; ``prepare`` returns the call that makes it again."""

    trace: Trace
    calls: list[Call]
    prepare: Callable[[], Callable[[], Any]]
    raw: Any
    edits: dict[int, list[Edit]] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Memory of the recorded results."""
        return storage_bytes([call.output for call in self.calls])

    def first_change(self, edits: Sequence[Edit]) -> int:
        """The first call at which these edits differ from those of this record."""
        mode = _Replaying(self, edits)
        return min(mode.changed, default=len(self.calls))

    def fork(self, edits: Sequence[Edit]) -> Tape:
        """A record of the pass with these edits; it shares everything before the first of them."""
        mode = _Replaying(self, edits, keep=True)
        raw = _run(mode, self.prepare())
        if mode.calls is None or len(mode.calls) != len(self.trace.calls):
            raise DivergedError
        return Tape(self.trace, mode.calls, self.prepare, raw, mode.edits)

    def replay(self, edits: Sequence[Edit]) -> Any:
        """What the model returns with these edits; bitwise identical to a hook."""
        return _run(_Replaying(self, edits), self.prepare())


def record(trace: Trace, prepare: Callable[[], Callable[[], Any]]) -> Tape:
    """Run the forward pass and keep every result.

    Raises
    ------
    DivergedError
        If its calls differ from those of the trace.
    """
    mode = _Recording(trace)
    raw = _run(mode, prepare())
    if len(mode.calls) != len(trace.calls):
        raise DivergedError
    return Tape(trace, mode.calls, prepare, raw)


def run_edited(
    trace: Trace, edits: Sequence[Edit], forward: Callable[[], Any], *, exactly: bool = False
) -> Any:
    """The whole forward pass with edits, in the caller's gradient mode.

    With ``exactly``, every call must be that of the trace, also after the last edit.
    """
    mode = _Editing(trace, edits)
    raw = _called(mode, forward)
    if exactly and (mode.diverged or mode.next != len(trace.calls)):
        raise DivergedError
    return raw


def _run(mode: _Mode, forward: Callable[[], Any]) -> Any:
    calm = undisturbed(random=mode.trace.random, counting=mode.trace.counting)
    with calm, calm:
        return _called(mode, forward)


def _called(mode: _Mode, forward: Callable[[], Any]) -> Any:
    marked = mode.trace.marked
    with marked, marked, mode:
        raw = forward()
    if mode.next <= mode.last_edit:
        raise DivergedError  # it ended before the last edit's call
    return returned(raw, mode.new) if mode.new else raw


def returned(raw: Any, new: dict[int, Tensor]) -> Any:
    """What the model returned, with some tensors (by id) exchanged, also inside plain objects."""
    if isinstance(raw, Tensor | tuple | list | dict) or not hasattr(raw, "__dict__"):
        return swap(raw, new)
    raw = copy.copy(raw)
    for name, value in list(vars(raw).items()):
        vars(raw)[name] = swap(value, new)
    return raw
