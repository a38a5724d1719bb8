"""Calls of a model's modules while units are ablated: each from outside the model is one pass."""

from __future__ import annotations

import copy
import threading
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from memviz.engine.record import leaves, swap
from memviz.study import PRIVATE
from memviz.units import Declarer, declared_units

from ._activations import Conflict
from ._block import Pass, batch_of
from ._mode import Ablating, ablating
from ._snapshot import Snapshot
from ._thread import no_hooks, no_modes, on_top, others_above
from ._weights import Running, is_layer

_MOST = 16  # runs of a pass until every activation's end is known
_COMPILED = (
    "the model is compiled inside an mv.ablate block, and compiled code cannot be ablated; call "
    "the model itself, not a compiled copy."
)
_COPIED = (
    "the model is copied inside an mv.ablate block, and the copy's units would not be ablated; "
    "copy it before the block, or ablate the copy in a block of its own."
)
_UNCLEAR = (
    "the place of the units cannot be told in this call: the model reads an activation both after "
    "the layer and elsewhere, and changes its own state, so the call could not be run again; "
    "ablate by 'filter', or wrap the model so that it changes nothing."
)
_UNKNOWN_CALL = (
    "layer {name!r} ({kind}) computed its output by something other than a torch function of its "
    "weight, which memviz cannot follow, so its units could not be ablated."
)
_NOT_FOUND = (
    "the units of {name!r} ({kind}) were not found in this call, so they could not be ablated; "
    "call the whole model, or ablate units of another layer."
)
_LOCK = threading.RLock()


class Forward:
    """Stands in for the ``forward`` of a module on the way to an ablated layer."""

    def __init__(self, module: nn.Module) -> None:
        self.module, self.original, self.blocks = module, module.forward, 0
        self.before = vars(module).get("forward")
        # inspect.signature follows it; Hugging Face's generate reads the names of the arguments.
        self.__wrapped__ = self.original

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        mode = ablating()
        if not self.blocks or (mode is not None and mode.asleep):
            return self.original(*args, **kwargs)
        if mode is None or not mode.covers(self.module):
            return self.original(*args, **kwargs)  # the block is another thread's
        if torch.compiler.is_compiling():
            raise RuntimeError(_COMPILED)
        below = others_above(mode)
        with nullcontext() if on_top(mode) and not mode.busy else mode.seeing():
            if mode.passes:
                return _inside(mode, self, args, kwargs)
            _learn(mode, self, args, kwargs)
            if below and _supposes(mode):
                _rehearse(mode, self, args, kwargs)
            return _outermost(mode, self, args, kwargs)

    @property
    def in_force(self) -> bool:
        """Whether calls from this thread are ablated."""
        mode = ablating()
        return mode is not None and not mode.asleep and mode.covers(self.module)

    def __deepcopy__(self, memo: Any) -> Any:
        if PRIVATE in memo:  # memviz's own passes run the model as it is
            return copy.deepcopy(self.original, memo)
        raise RuntimeError(_COPIED)

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise RuntimeError(_COPIED)


def patch(module: nn.Module) -> Forward:
    """Let a module's calls be seen; several blocks share what stands in."""
    with _LOCK:
        forward = vars(module).get("forward")
        if not isinstance(forward, Forward):
            forward = vars(module)["forward"] = Forward(module)
        forward.blocks += 1
        return forward


def release(forward: Forward) -> None:
    """Undo ``patch``; with the last block the module is as it was."""
    with _LOCK:
        forward.blocks -= 1
        attributes = vars(forward.module)
        # Whatever was put over it stays, and what stands in lets all calls pass from now on.
        if forward.blocks or attributes.get("forward") is not forward:
            return
        if forward.before is None:
            del attributes["forward"]
        else:
            attributes["forward"] = forward.before


def _outermost(mode: Ablating, forward: Forward, args: Any, kwargs: Any) -> Any:
    """One pass, run again where an activation turned out to end elsewhere than supposed."""
    roots = [block for block in mode.blocks if block.root is forward.module]
    for _ in range(_MOST):
        with no_modes():
            before = Snapshot(forward.module, (args, kwargs)) if _supposes(mode) else None
        outermost = Pass(forward.module, batch_of([*args, *kwargs.values()]))
        mode.passes.append(outermost)
        try:
            raw = mode.released(_inside(mode, forward, args, kwargs), ended=bool(roots))
            mode.activations.check_stops()
            _check_met(mode, outermost)
            for block in roots:
                block.called = True
            return raw
        except Conflict as conflict:
            key = conflict.key
        finally:
            mode.passes.pop()
            mode.activations.passed(outermost)
        mode.activations.stops ^= {key}
        with no_modes():
            if before is None or not before.restore():
                break
    raise RuntimeError(_UNCLEAR)


def _inside(mode: Ablating, forward: Forward, args: Any, kwargs: Any) -> Any:
    module = forward.module
    declared = declared_units(module)
    if declared is not None:
        output = mode.released(forward.original(*args, **kwargs), ended=False)
        declarer = Declarer(mode.name(module), module, declared)
        return mode.declared(declarer, output, args, kwargs) if mode.groups(module) else output
    if not is_layer(module):
        if mode.groups(module):
            mode.passes[-1].ran.add(id(module))
        return mode.released(forward.original(*args, **kwargs), ended=False)
    tensors, _ = leaves(args, kwargs)
    # What a layer is called with is an activation, even if it is a buffer.
    taken = mode.owners.take(tensors)
    mode.owners.learn(module)
    running = Running(module)
    mode.running.append(running)
    try:
        output = forward.original(*args, **kwargs)
    finally:
        mode.running.pop()
        mode.owners.give_back(taken)
    if not tensors or not mode.groups(module):
        return output
    if not running.met:
        name, kind = mode.name(module), type(module).__name__
        raise RuntimeError(_UNKNOWN_CALL.format(name=name, kind=kind))
    return mode.returned(running, output)


def _check_met(mode: Ablating, outermost: Pass) -> None:
    for block in mode.blocks:
        for name, module in block.others.items():
            if id(module) in outermost.ran and id(module) not in outermost.uses:
                raise RuntimeError(_NOT_FOUND.format(name=name, kind=type(module).__name__))


def _supposes(mode: Ablating) -> bool:
    """Whether some activation may end elsewhere than its first reader says."""
    return any(
        group.how.at == "unit" and block.plain
        for block in mode.blocks
        for group in block.groups.values()
    )


def _rehearse(mode: Ablating, forward: Forward, args: Any, kwargs: Any) -> None:
    """Learn where activations end, unseen by a mode that must not see a pass run again."""
    if any(id(forward.module) in block.rehearsed for block in mode.blocks):
        return
    with no_modes(), no_hooks(forward.module), torch.no_grad():
        args, kwargs = _copies(args, kwargs)
        before = Snapshot(forward.module, (args, kwargs))
        try:
            with mode.seeing():
                _outermost(mode, forward, args, kwargs)
        finally:
            before.restore()
    mode.blocks[-1].rehearsed.add(id(forward.module))


def _learn(mode: Ablating, forward: Forward, args: Any, kwargs: Any) -> None:
    """Find the places of units that no layer's own weight tells, such as attention heads."""
    for block in mode.blocks:
        names = mode.places.wanted(block, forward.module)
        if not names:
            continue
        with no_modes(), mode.sleeping():
            copied = _copies(args, kwargs)
            before = Snapshot(nn.Module(), copied)
            try:
                mode.places.learn(block, names, forward.module, *copied)
            finally:
                before.restore()


def _copies(args: Any, kwargs: Any) -> tuple[Any, Any]:
    tensors, _ = leaves(args, kwargs)
    new = {id(t): t.detach().clone() for t in tensors if not isinstance(t, nn.Parameter)}
    return swap(args, new), swap(kwargs, new)
