"""What a recipe is: its name, settings and tensors, and what its code does; not where it stands.

Code may move to another module, and its comments and docstrings may change, and a folder of its
trainings is still its own. Compiled code differs between versions of Python.
"""

from __future__ import annotations

import dataclasses
import dis
import hashlib
import inspect
import types
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

_PLAIN = (bool, int, float, complex, str, bytes, np.generic, types.NoneType, types.EllipsisType)
# Read by their place: a local may be renamed.
_LOCALS = frozenset((*dis.haslocal, *dis.hasfree))


def fingerprint(what: object) -> str:
    """A hash that changes with a recipe: with its settings, its functions' code, its tensors.

    An object that has a method ``identity()`` is known by what that returns; any other dataclass by
    its name, its methods and its fields. What a function reads from its module or from files is not
    seen.

    Raises
    ------
    ValueError
        If the recipe is of a kind that can't be told apart from another one.

    Examples
    --------
    >>> fingerprint(partial(max, 1)) == fingerprint(partial(max, 1)) != fingerprint(partial(max, 2))
    True
    """
    return hashlib.sha256(_described(what).encode()).hexdigest()


def _described(what: Any) -> str:
    if isinstance(what, _PLAIN):
        return f"{type(what).__name__} {what!r}"
    if isinstance(what, Tensor | np.ndarray):
        table = np.ascontiguousarray(torch.as_tensor(what).detach().cpu().numpy())
        return f"{table.dtype} {table.shape} {hashlib.sha256(table.tobytes()).hexdigest()}"
    if isinstance(what, Mapping):
        return f"{{{', '.join(f'{_described(k)}: {_described(v)}' for k, v in what.items())}}}"
    if isinstance(what, list | tuple | range):
        return f"[{', '.join(_described(item) for item in what)}]"
    if isinstance(what, set | frozenset):
        return f"set {sorted(_described(item) for item in what)}"
    if isinstance(what, partial):
        return _described(["partial", what.func, what.args, dict(sorted(what.keywords.items()))])
    if isinstance(what, types.MethodType):
        return _described([what.__func__, what.__self__])
    if isinstance(what, type):
        return _described(_of_class(what))
    if isinstance(what, types.FunctionType):
        return _described(_of_function(what))
    if isinstance(what, types.BuiltinFunctionType):
        return what.__qualname__
    if isinstance(what, types.CodeType):
        return _described(_of_code(what))
    if hasattr(what, "identity"):
        return _described(what.identity())
    if dataclasses.is_dataclass(what):
        settings = {field.name: getattr(what, field.name) for field in dataclasses.fields(what)}
        return _described([type(what), settings])
    if isinstance(what, torch.dtype | torch.device | slice):
        return repr(what)
    raise ValueError(
        f"a {type(what).__name__} can't be told apart from another one, so a folder could mix "
        "their trainings; give a function, a functools.partial or a dataclass of numbers, texts "
        "and tensors."
    )


def _of_function(function: types.FunctionType) -> list[object]:
    held = inspect.getclosurevars(function).nonlocals
    # A function that holds itself would be described for ever.
    rest = {key: value for key, value in held.items() if value is not function}
    defaults = [function.__defaults__, function.__kwdefaults__, rest]
    return [function.__qualname__, function.__code__, defaults]


def _of_class(kind: type) -> list[object]:
    """Its name, and what its own body says: methods, and constants that are plain values."""
    members: dict[str, object] = {}
    for name, member in vars(kind).items():
        hidden = name.startswith("__") and name not in ("__init__", "__call__")
        # A dataclass writes its own, which says no more than its fields.
        if hidden or (name == "__init__" and dataclasses.is_dataclass(kind)):
            continue
        if isinstance(member, _PLAIN):
            members[name] = member
            continue
        function = getattr(member, "fget", None) or getattr(member, "__func__", member)
        if isinstance(function, types.FunctionType):
            given = [value for value in function.__defaults__ or () if isinstance(value, _PLAIN)]
            members[name] = [function.__code__, given]
    return [kind.__qualname__, members]


def _of_code(code: types.CodeType) -> list[object]:
    """The instructions: a docstring is never loaded, and lines and files are not in them."""
    found: list[object] = []
    for step in dis.get_instructions(code):
        if step.opcode in dis.hasconst:
            # Python 3.11's dis does not say the names of keywords.
            found.append([step.opname, code.co_consts[step.arg or 0]])
        else:
            found.append([step.opname, step.arg if step.opcode in _LOCALS else step.argval])
    return found
