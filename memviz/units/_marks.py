"""Declared units in a forward pass: each module's output passes through a call that is seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function

from memviz.restored import Restored

from ._declared import Declarer, declarers


def units_of(value: Tensor, name: str, axis: int, names: Sequence[str], *given: Tensor) -> Tensor:
    """The units of a module that declares them, along one axis: a call that torch's modes see.

    ``names`` are those of the arguments ``given`` that an intervention may pass on.

    Examples
    --------
    >>> units_of(torch.ones(2), "cell", 0, ())
    tensor([1., 1.])
    """
    tensors = (value, *given)
    if has_torch_function(tensors):
        seen: Tensor = handle_torch_function(units_of, tensors, value, name, axis, names, *given)
        return seen
    # A tensor of its own: what the module itself may still hold is not what others read.
    return value.clone()


class Marked(Restored):
    """While it lasts, what declaring modules return passes through ``units_of``.

    Parameters
    ----------
    model : nn.Module

    Examples
    --------
    >>> model = nn.Linear(2, 2)
    >>> with Marked(model):
    ...     "forward" in vars(model)
    False
    """

    def __init__(self, model: nn.Module) -> None:
        self._found = [
            declarer
            for declarer in declarers(model)
            if not isinstance(declarer.module, torch.jit.ScriptModule)
        ]

    def begin(self) -> None:
        """Let a marking stand in for each forward, where none does."""
        for declarer in self._found:
            held = vars(declarer.module)
            before = held.get("forward")
            if not isinstance(before, _Marking):
                held["forward"] = _Marking(self, declarer, before)

    def put_back(self) -> None:
        """Put back what stood there, where the marking is one of these."""
        for declarer in self._found:
            held = vars(declarer.module)
            marking = held.get("forward")
            if not isinstance(marking, _Marking) or marking.owner is not self:
                continue
            if marking.before is None:
                del held["forward"]
            else:
                held["forward"] = marking.before


class _Marking:
    """Stands in for the forward of a module that declares units."""

    def __init__(
        self, owner: Marked, declarer: Declarer, before: Callable[..., Any] | None
    ) -> None:
        self.owner, self.declarer, self.before = owner, declarer, before
        self._forward = declarer.module.forward
        # inspect.signature follows it.
        self.__wrapped__ = self._forward

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        output = self._forward(*args, **kwargs)
        flat, axis = self.declarer.flattened(output)
        given = self.declarer.inputs(args, kwargs, output)
        units = units_of(flat, self.declarer.name, axis, tuple(given), *given.values())
        return self.declarer.restored(units, output)
