"""Putting a block in force, and leaving everything as it was."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

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
    mode = Ablating() if outer is None else outer
    for module in block.modules.values():
        Group.merged(mode.groups(module), block.groups[id(module)])
    met = dict(mode.met)
    with ExitStack() as undo:
        if outer is None:
            _begin(mode, undo)
        undo.callback(mode.blocks.remove, block)
        mode.blocks.append(block)
        mode.owners.add(block.root)
        sharing = [
            other for module in block.modules.values() for other in mode.owners.sharing(module)
        ]
        block.covered |= {id(module) for module in sharing}
        for module in [*block.path, *sharing]:
            undo.callback(release, patch(module))
        yield
        _check_reached(mode, block, met)


@contextmanager
def plain() -> Iterator[None]:
    """Run models as they are, whatever blocks are in force on this thread."""
    mode = ablating()
    with no_modes(), nullcontext() if mode is None else mode.sleeping():
        yield


def _begin(mode: Ablating, undo: ExitStack) -> None:
    """See this thread's calls until the outermost block ends."""
    # A compiled copy of the model runs as it is written, where its calls can be seen.
    if "torch._dynamo" in sys.modules:
        undo.enter_context(torch.compiler.set_stance("force_eager"))
    undo.callback(register_module_forward_pre_hook(_refuse_scripted).remove)
    undo.callback(set_ablating, None)
    set_ablating(mode)
    undo.callback(mode.activations.write_back)
    push(mode)
    undo.callback(remove, mode)


def _check_reached(mode: Ablating, block: Block, before: dict[int, int]) -> None:
    """Refuse units that no call of the model came to."""
    for name, module in block.modules.items() if block.called else ():
        if mode.met.get(id(module), 0) > before.get(id(module), 0):
            continue
        if len(block.modules) > 1:
            raise RuntimeError(_UNMET.format(name=name, kind=type(module).__name__))
        raise ValueError(never_reached(name, module))


def _refuse_scripted(module: nn.Module, _: object) -> None:
    mode = ablating()
    if mode is None or mode.asleep or not isinstance(module, torch.jit.ScriptModule):
        return
    ablated = {
        weight.data_ptr()
        for block in mode.blocks
        for layer in block.modules.values()
        for weight in layer.parameters()
    }
    if any(parameter.data_ptr() in ablated for parameter in module.parameters()):
        raise RuntimeError(_SCRIPTED)
