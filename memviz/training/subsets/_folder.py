"""A folder of finished trainings: each in a file of its own, found again by the same recipe."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import types
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from memviz.tensor_files import read_hashed, write_hashed

_KIND = "a training on a subset"
_WORDS = {
    "data": "other inputs or labels",
    "recipe": "another recipe",
    "draw": "another choice of examples, fraction or seed",
}


class SubsetFolder:
    """The finished trainings of one recipe on one set of data.

    Parameters
    ----------
    folder : str or Path
        Made if it is not there.
    facts : mapping
        Hashes ``data``, ``recipe`` and ``draw``: what the trainings depend on.
    width : int
        Examples of the study.

    Raises
    ------
    ValueError
        If the folder holds trainings of something else. Nothing is changed.
    """

    def __init__(self, folder: str | Path, facts: Mapping[str, str], width: int) -> None:
        self.folder, self.facts, self.width = Path(folder), dict(facts), width
        self.folder.mkdir(parents=True, exist_ok=True)

    def find(self, trainings: int) -> dict[int, tuple[Tensor, Tensor]]:
        """Inside and correct, bool ``[width]`` each, of the finished ones below a number."""
        found = {}
        for number in range(trainings):
            path = self._path(number)
            if not path.is_file():
                continue
            try:
                tensors, facts = read_hashed(path, _KIND)
            except ValueError as error:
                warnings.warn(f"{error} It is trained again.", stacklevel=4)
                continue
            self._check(facts)
            found[number] = (
                unpacked(tensors["inside"], self.width),
                unpacked(tensors["correct"], self.width),
            )
        return found

    def keep(self, number: int, inside: Tensor, correct: Tensor) -> None:
        """Write a finished training, whole or not at all."""
        tables = {"inside": packed(inside), "correct": packed(correct)}
        write_hashed(self._path(number), tables, {"kind": _KIND, **self.facts})

    def _path(self, number: int) -> Path:
        return self.folder / f"training-{number:06d}.safetensors"

    def _check(self, facts: Mapping[str, str]) -> None:
        for key, words in _WORDS.items():
            if facts.get(key) != self.facts[key]:
                raise ValueError(
                    f"the folder {str(self.folder)!r} holds trainings of {words}; name another "
                    "folder, or delete this one."
                )


def packed(flags: Tensor) -> Tensor:
    """Bool ``[..., n]`` as bits, uint8 ``[..., n / 8 rounded up]``."""
    return torch.from_numpy(np.packbits(flags.numpy(), axis=-1))


def unpacked(bits: Tensor, n: int) -> Tensor:
    """The first n bits of each row, bool ``[..., n]``.

    Examples
    --------
    >>> unpacked(packed(torch.tensor([True, False, True])), 3)
    tensor([ True, False,  True])
    """
    return torch.from_numpy(np.unpackbits(bits.numpy(), axis=-1, count=n).astype(bool))


def fingerprint(what: object) -> str:
    """A hash that changes with a recipe: with its settings, its functions' text, its tensors.

    What a function reads from its module or from files is not seen.

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


def _described(what: object) -> str:
    if what is None or isinstance(what, bool | int | float | complex | str | bytes | np.generic):
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
    if dataclasses.is_dataclass(what) and not isinstance(what, type):
        settings = {field.name: getattr(what, field.name) for field in dataclasses.fields(what)}
        return _described([type(what), settings])
    if isinstance(what, types.MethodType):
        return _described([what.__func__, what.__self__])
    if isinstance(what, type | types.FunctionType | types.BuiltinFunctionType):
        return _of_code(what)
    if isinstance(what, torch.dtype | torch.device):
        return repr(what)
    raise ValueError(
        f"a {type(what).__name__} can't be told apart from another one, so a folder could mix "
        "their trainings; give a function, a functools.partial or a dataclass of numbers, texts "
        "and tensors."
    )


def _of_code(what: type | types.FunctionType | types.BuiltinFunctionType) -> str:
    name = f"{what.__module__}.{what.__qualname__}"
    if isinstance(what, types.BuiltinFunctionType):
        return name
    try:
        text = inspect.getsource(what)
    except (OSError, TypeError):  # typed into an interpreter, or written in C
        code = getattr(what, "__code__", None)
        text = "" if code is None else f"{code.co_code.hex()} {code.co_names} {code.co_consts!r}"
    if isinstance(what, type):
        return f"{name} {text}"
    held = inspect.getclosurevars(what).nonlocals
    # A function that holds itself would be described for ever.
    rest = {key: value for key, value in held.items() if value is not what}
    return f"{name} {text} {_described([what.__defaults__, what.__kwdefaults__, rest])}"
