"""What results of a study depend on."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from enum import Enum
from functools import partial
from types import CodeType, FunctionType, MethodType
from typing import Any

import numpy as np
from torch import Tensor, nn

from memviz import tensor_files
from memviz.tensor_files import Pieces

from ._reader import DatasetInputs
from ._study import Study


def study_facts(study: Study) -> dict[str, str]:
    """What results depend on: hashes of the weights and of the data, and the task.

    The task's name is without its module, since saved files must survive a move of the code, and
    with all attributes that are not None, such as a tolerance.

    Examples
    --------
    >>> import torch
    >>> from memviz.tasks import Regression
    >>> groups, task = {"test": range(6)}, Regression(0.5)
    >>> study = Study(nn.Linear(4, 1).eval(), torch.randn(6, 4), torch.randn(6), groups, task=task)
    >>> study_facts(study)["task"]
    'Regression(tolerance=0.5)'
    """
    weights = [*study.model.named_parameters(), *study.model.named_buffers()]
    return {
        "weights": tensor_files.digest(weights),
        "data": tensor_files.digest([*_inputs(study), ("labels", study.labels)]),
        "task": _task(study.task),
    }


def _inputs(study: Study) -> Iterator[tuple[str, Tensor | Pieces]]:
    """The inputs by name; those in a dataset are read anew for each name, and never held."""
    if isinstance(study.inputs, DatasetInputs):
        yield from study.inputs.pieces()
    elif isinstance(study.inputs, Mapping):
        yield from study.inputs.items()
    else:
        yield "inputs", study.inputs


_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_DEEPEST = 4  # objects inside objects that still count


def _task(task: object, depth: int = 0) -> str:
    state = dict(getattr(task, "__dict__", {})) if depth < _DEEPEST else {}
    known = {key: value for key, value in state.items() if value is not None}
    given = [f"{key}={_told(value, depth + 1)}" for key, value in known.items()]
    name = type(task).__qualname__
    return f"{name}({', '.join(given)})" if given else name


def _told(value: Any, depth: int) -> str:
    """A value as text that is the same in another session."""
    if isinstance(value, Tensor):
        return tensor_files.digest([("value", value)])[:12]
    if isinstance(value, nn.Module):
        return f"{type(value).__qualname__} {tensor_files.digest(value.state_dict())[:12]}"
    if isinstance(value, Mapping):
        return str({key: _told(part, depth) for key, part in value.items()})
    if isinstance(value, list | tuple):
        return str([_told(part, depth) for part in value])
    if isinstance(value, FunctionType | MethodType):
        return f"{value.__qualname__} {_function(value, depth)}"
    if isinstance(value, str | int | float | Enum):
        return repr(value)
    if isinstance(value, partial):
        return _told([value.func, value.args, value.keywords], depth + 1)
    if isinstance(value, np.ndarray | np.generic):
        return f"{value.dtype} {hashlib.sha256(value.tobytes()).hexdigest()[:12]}"
    # No other session shares an address.
    return _task(value, depth) if hasattr(value, "__dict__") else _ADDRESS.sub("", repr(value))


def _function(function: FunctionType | MethodType, depth: int) -> str:
    """A hash of what a function does, with the values that it has brought along."""
    brought = [cell.cell_contents for cell in function.__closure__ or ()]
    brought += function.__defaults__ or ()
    text = _code(function.__code__) + str([_told(value, depth + 1) for value in brought])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _code(code: CodeType) -> str:
    parts = [_code(part) if isinstance(part, CodeType) else repr(part) for part in code.co_consts]
    return "\n".join([code.co_code.hex(), *code.co_names, *parts])
