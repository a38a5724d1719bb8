"""Putting a block in force, and leaving everything as it was."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from hashlib import sha256
from typing import Any

import torch
from torch import nn

from ._block import Block, Group, never_reached
from ._calls import patch, release
from ._mode import Ablating, ablating, set_ablating
from ._thread import no_modes, push, remove

_SCRIPTED = (
    "a scripted copy of the model was called inside an mv.ablate block, whose units memviz cannot "
    "ablate; call the model itself."
)
_UNMET = (
    "layer {name!r} ({kind}) was never reached: the forward pass does without it, or takes another "
    "path when these units are ablated; ablate units of one layer at a time."
)


@contextmanager
def in_force(block: Block) -> Iterator[None]:
    """Ablate a block's units in this thread's calls.

    Raises
    ------
    ValueError
        If a block around this one does something else to one of the units, or, at the end, if the
        model's forward pass never came to the layer.
    RuntimeError
        At the end, if it came to some of the layers, but not to all.
    """
    outer = ablating()
    if outer is not None and not outer.blocks:  # its last block ended in another thread
        outer.end.close()
        outer = None
    mode = Ablating() if outer is None else outer
    for module in block.modules.values():
        Group.merged(mode.groups(module), block.groups[id(module)])
    met = dict(mode.met)
    with ExitStack() as undo:
        if outer is None:
            undo.push(mode.end)  # until the block is among the mode's
            _begin(mode)
        mode.blocks.append(block)
        undo.pop_all()
        undo.callback(_leave, mode, block)
        mode.owners.add(block.root)
        sharing = [
            other for module in block.modules.values() for other in mode.owners.sharing(module)
        ]
        block.covered |= {id(module) for module in sharing}
        for module in [*block.path, *sharing]:
            undo.callback(release, patch(module))
        for module in block.modules.values():
            undo.callback(_unmark, module, _mark(module, block.groups[id(module)].words))
        yield
        _check_reached(mode, block, met)


def _leave(mode: Ablating, block: Block) -> None:
    mode.blocks.remove(block)
    # Blocks may end in any order; the mode is on the stack of the thread that began it.
    if not mode.blocks and mode is ablating():
        mode.end.close()


@contextmanager
def plain() -> Iterator[None]:
    """Run models as they are, whatever blocks are in force on this thread."""
    mode = ablating()
    with no_modes(), nullcontext() if mode is None else mode.sleeping():
        yield


def _mark(module: nn.Module, what: str) -> str:
    """Let a layer's buffers say that it is ablated; the marker's name.

    Records and files know a model by its weights and buffers: what was computed of the whole
    model must not be taken for an answer of the ablated one, nor the other way round.
    """
    taken = module._buffers
    marker = next(m for m in map("ablation_{}".format, range(len(taken) + 1)) if m not in taken)
    digest = sha256(what.encode()).digest()
    taken[marker] = torch.tensor(list(digest), dtype=torch.uint8)
    module._non_persistent_buffers_set.add(marker)
    return marker


def _unmark(module: nn.Module, marker: str) -> None:
    module._buffers.pop(marker, None)
    module._non_persistent_buffers_set.discard(marker)


def _begin(mode: Ablating) -> None:
    """See this thread's calls until the last block ends."""
    # A compiled copy of the model runs as it is written, where its calls can be seen.
    if "torch._dynamo" in sys.modules:
        mode.end.enter_context(torch.compiler.set_stance("force_eager"))
    mode.end.enter_context(_scripted_refused())
    mode.end.callback(set_ablating, None)
    set_ablating(mode)
    mode.end.callback(mode.activations.write_back)
    push(mode)
    mode.end.callback(remove, mode)


def _check_reached(mode: Ablating, block: Block, before: dict[int, int]) -> None:
    """Refuse units that no call of the model came to."""
    for name, module in block.modules.items() if block.called else ():
        if mode.met.get(id(module), 0) > before.get(id(module), 0):
            continue
        if len(block.modules) > 1:
            raise RuntimeError(_UNMET.format(name=name, kind=type(module).__name__))
        raise ValueError(never_reached(name, module))


_LOCK = threading.RLock()
_WATCHED: list[object] = []  # one for each thread


@contextmanager
def _scripted_refused() -> Iterator[None]:
    """Look at calls of scripted modules; a hook for all modules would make compiled ones warn."""
    with _LOCK:
        _WATCHED.append(None)
        torch.jit.ScriptModule.__call__ = _call_scripted  # type: ignore[method-assign]
    try:
        yield
    finally:
        with _LOCK:
            _WATCHED.pop()
            if not _WATCHED:
                del torch.jit.ScriptModule.__call__


def _call_scripted(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    mode = ablating()
    if mode is not None and not mode.asleep:
        ablated = {
            weight.data_ptr()
            for block in mode.blocks
            for layer in block.modules.values()
            for weight in layer.parameters()
        }
        if any(parameter.data_ptr() in ablated for parameter in module.parameters()):
            raise RuntimeError(_SCRIPTED)
    return nn.Module.__call__(module, *args, **kwargs)
