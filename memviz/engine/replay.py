"""Record one forward pass, re-run only what lies downstream of a change; any module.

The model's own Python runs for real each time. A call whose tensors are the very objects of the
record returns its recorded result; the first call that is handed something new computes, and so
does whatever depends on it. Skips, branches, functional calls and shared modules stay right since
nothing about the model's structure is assumed.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from memviz.engine.layers import Site
from memviz.engine.trace import (
    METADATA,
    Call,
    Trace,
    leaves,
    storage_bytes,
    swap,
    tensors_in,
    undisturbed,
)

_ATTENTION = inspect.signature(F.multi_head_attention_forward)


@dataclass(frozen=True)
class Edit:
    """A change of the activation that passes a site."""

    site: Site
    change: Callable[[Tensor], Tensor]


class DivergedError(RuntimeError):
    """The forward pass made other calls than in the trace."""


class _Mode(TorchFunctionMode):
    """Shared by recording and replaying: counts calls, keeps in-place changes off kept tensors."""

    def __init__(self, trace: Trace, edits: Sequence[Edit] = ()) -> None:
        self.trace = trace
        self.next = 0
        self.new: dict[int, Tensor] = {}
        self.kept: list[Tensor] = []
        self.produced: set[int] = set()
        self.edits: dict[int, list[Edit]] = {}
        for edit in edits:
            self.edits.setdefault(edit.site.call, []).append(edit)
        self.last_edit = max(self.edits, default=-1)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.new:
            args, kwargs = swap(args, self.new), swap(kwargs, self.new)
        if func in METADATA:
            return func(*args, **kwargs)
        index, self.next = self.next, self.next + 1
        return self.call(index, func, args, kwargs)

    def call(self, index: int, func: Any, args: Any, kwargs: Any) -> Any:
        raise AssertionError("each mode says what a call does")

    def aligned(self, index: int, func: Any) -> bool:
        return index < len(self.trace.calls) and self.trace.calls[index].function == func

    def compute(
        self, index: int, func: Any, args: Any, kwargs: Any, tensors: list[Tensor]
    ) -> tuple[Any, dict[int, Tensor]]:
        """Make the call; what it would change in place is copied first, unless it is ours."""
        aligned = self.aligned(index, func) and index not in self.trace.volatile
        mutates = self.trace.calls[index].mutates if aligned else ()
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
                # Code that reads the changed tensor itself must meet the edited one.
                self.exchange(
                    {
                        id(t): (t, output)
                        for t in map(tensors.__getitem__, mutates)
                        if t is not output
                    }
                )
        self.produced.update(id(tensor) for tensor in tensors_in(output))
        return output, copies

    def owns(self, tensor: Tensor) -> bool:
        return id(tensor) in self.produced

    def exchange(self, pairs: dict[int, tuple[Tensor, Tensor]]) -> None:
        for key, (old, new) in pairs.items():
            self.kept.append(old)  # an id may not be used again while it stands in the table
            self.new[key] = new


def _edited(func: Any, args: Any, kwargs: Any, edits: list[Edit]) -> Any:
    # One call may be the place of two layers: heads go into a projection, its features come out.
    heads = [edit for edit in edits if edit.site.at == "heads"]
    values = list(args)
    for edit in edits:
        if edit.site.at == "input":
            values[edit.site.argument] = edit.change(values[edit.site.argument])
    output = _attention(func, args, kwargs, heads) if heads else func(*values, **kwargs)
    for edit in edits:
        if edit.site.at == "output":
            output = edit.change(output)
    return output


def _attention(func: Any, args: Any, kwargs: Any, edits: list[Edit]) -> Any:
    # torch's attention projects its heads inside one call: project by the identity, edit, project.
    bound = _ATTENTION.bind(*args, **kwargs)
    weight, bias = bound.arguments["out_proj_weight"], bound.arguments["out_proj_bias"]
    features = weight.shape[1]
    bound.arguments["out_proj_weight"] = torch.eye(
        features, dtype=weight.dtype, device=weight.device
    )
    bound.arguments["out_proj_bias"] = None
    heads, weights = func(*bound.args, **bound.kwargs)
    for edit in edits:
        heads = edit.change(heads)
    return F.linear(heads, weight, bias), weights


class _Recording(_Mode):
    def __init__(self, trace: Trace) -> None:
        super().__init__(trace)
        self.calls: list[Call] = []

    def owns(self, tensor: Tensor) -> bool:
        return False  # everything is kept

    def call(self, index: int, func: Any, args: Any, kwargs: Any) -> Any:
        if not self.aligned(index, func):
            raise DivergedError
        tensors, constants = leaves(args, kwargs)
        output, replaced = self.compute(index, func, args, kwargs, tensors)
        self.calls.append(Call(func, tensors, constants, output, replaced))
        return output


class _Replaying(_Mode):
    def __init__(self, tape: Tape, edits: Sequence[Edit]) -> None:
        super().__init__(tape.trace, edits)
        self.recorded = tape.calls
        self.diverged = False

    def call(self, index: int, func: Any, args: Any, kwargs: Any) -> Any:
        tensors, constants = leaves(args, kwargs)
        if self.diverged or not self.aligned(index, func):
            self.diverged = True
            if index <= self.last_edit:
                raise DivergedError
            return func(*args, **kwargs)
        record = self.recorded[index]
        if (
            index not in self.edits
            and index not in self.trace.volatile
            and len(tensors) == len(record.inputs)
            and all(a is b for a, b in zip(tensors, record.inputs, strict=True))
            and _same(constants, record.constants)
        ):
            for k, copy in record.replaced.items():
                self.new[id(tensors[k])] = copy
            return record.output
        return self.compute(index, func, args, kwargs, tensors)[0]


class _Editing(_Mode):
    """The whole forward pass with edits and no record: what there is no memory to keep."""

    def call(self, index: int, func: Any, args: Any, kwargs: Any) -> Any:
        if not self.aligned(index, func):
            if index <= self.last_edit:
                raise DivergedError
            return func(*args, **kwargs)
        tensors, _ = leaves(args, kwargs)
        return self.compute(index, func, args, kwargs, tensors)[0]


def _same(mine: list[Any], theirs: list[Any]) -> bool:
    try:
        return bool(mine == theirs)
    except (RuntimeError, ValueError):  # arrays compare to arrays
        return False


@dataclass
class Tape:
    """One recorded forward pass."""

    trace: Trace
    calls: list[Call]
    forward: Callable[[], Any]
    raw: Any

    @property
    def bytes(self) -> int:
        """Memory the record holds."""
        return storage_bytes([call.output for call in self.calls])

    def replay(self, edits: Sequence[Edit]) -> Any:
        """What the model returns with these edits; bitwise what a hook would give."""
        return _run(_Replaying(self, edits), self.forward)


def record(trace: Trace, forward: Callable[[], Any]) -> Tape:
    """Run the forward pass and keep every result.

    Raises
    ------
    DivergedError
        If it makes other calls than the trace.
    """
    mode = _Recording(trace)
    raw = _run(mode, forward)
    return Tape(trace, mode.calls, forward, raw)


def run_edited(trace: Trace, edits: Sequence[Edit], forward: Callable[[], Any]) -> Any:
    """The whole forward pass with edits, in whatever gradient mode the caller is in."""
    mode = _Editing(trace, edits)
    with mode:
        raw = forward()
    return swap(raw, mode.new) if mode.new else raw


def _run(mode: _Mode, forward: Callable[[], Any]) -> Any:
    with undisturbed(random=mode.trace.random), mode:
        raw = forward()
    return swap(raw, mode.new) if mode.new else raw
