"""A model of one's own that shares the weights: what memviz runs, hooks and ablates."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any
from weakref import WeakSet

import torch
from torch import nn

from ._study import Study

# In the memo of a copy: whoever stands in for a method gives what it stands in for.
PRIVATE = "memviz.private"
_ATOMS = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device)
# Lightning's trainer holds the data and the whole run; a forward pass only asks it.
_SHARED = frozenset(["_trainer", "_fabric"])
_STUDIES: WeakSet[Study] = WeakSet()


def private(study: Study) -> Study:
    """The same study with a model of its own, which shares the parameters.

    Others call the study's model at the same time, from cells and other threads: hooks, flags,
    buffers and attributes that a pass of memviz changes must not be theirs. While this thread
    ablates the model's units, it is the study itself.

    Examples
    --------
    >>> study = Study(nn.Linear(4, 3).eval(), torch.randn(6, 4), torch.zeros(6), {"test": range(6)})
    >>> own = private(study)
    >>> own.model is study.model, own.model.weight is study.model.weight
    (False, True)
    """
    if study in _STUDIES:
        return study
    model = twin(study.model)
    if model is study.model:
        return study
    own = copy.copy(study)
    own.model = model
    _STUDIES.add(own)
    return own


def twin(model: nn.Module) -> nn.Module:
    """Modules of one's own, with the model's very parameters and copies of all else it holds.

    What can't be copied, such as a lock or a scripted module, is shared. While this thread ablates
    the model's units, it is the model itself: what is computed is of the ablated model.

    Examples
    --------
    >>> norm = nn.BatchNorm1d(4).eval()
    >>> twin(norm).weight is norm.weight, twin(norm).running_mean is norm.running_mean
    (True, False)
    """
    if any(map(_is_ablated, model.modules())):
        return model
    memo: dict[Any, Any] = {PRIVATE: True}
    memo.update((id(parameter), parameter) for parameter in model.parameters())
    own = []
    for module in model.modules():
        if isinstance(module, torch.jit.ScriptModule):
            memo[id(module)] = module
        else:
            # Empty first: modules may hold each other, in lists and in bound methods too.
            memo[id(module)] = object.__new__(type(module))
            own.append(module)
    for module in own:
        held = {
            key: value if key in _SHARED else _copied(value, memo)
            for key, value in list(vars(module).items())
        }
        vars(memo[id(module)]).update(held)
    whole: nn.Module = memo[id(model)]
    return whole


def _is_ablated(module: nn.Module) -> bool:
    """Whether what stands in for a module's forward ablates in this thread."""
    return bool(getattr(vars(module).get("forward"), "in_force", False))


def _copied(value: Any, memo: dict[Any, Any]) -> Any:
    if isinstance(value, _ATOMS):
        return value
    if type(value) in (dict, OrderedDict) and not value:
        return type(value)()
    try:
        return copy.deepcopy(value, memo)
    except Exception:  # whatever it is, it does not let itself be copied
        return value
