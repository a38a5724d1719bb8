"""A folder of finished trainings: each in a file of its own, found again by the same recipe."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from memviz.checks import quoted
from memviz.tensor_files import (
    NotWritten,
    State,
    check_writable,
    make_folder,
    read_hashed,
    write_hashed,
)

# How the recipe's fingerprint is made; files without it have one of the recipe's source text.
_FINGERPRINT = "compiled code"
_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
_WORDS = {
    "data": "other inputs or labels",
    "recipe": "another recipe",
    "draw": "another choice of examples, fraction or seed",
}


class TrainingFolder:
    """The finished trainings of one recipe on one set of data.

    Parameters
    ----------
    folder : str or Path
        Made if it is not there.
    kind : str
        What the file of a training holds, in words.
    facts : mapping
        Hashes ``data``, ``recipe`` and ``draw``: what the trainings depend on.
    size : int
        Bytes of one training, to see before the first whether it can be written.

    Raises
    ------
    ValueError
        If the folder holds trainings of something else, or of a memviz that knew recipes by their
        source text. Nothing is changed.
    NotWritten
        If the folder can't be made.
    """

    def __init__(
        self, folder: str | Path, kind: str, facts: Mapping[str, str], size: int = 4096
    ) -> None:
        self.folder, self.kind, self.facts, self.size = Path(folder), kind, dict(facts), size
        self._warned = False
        if "\0" in str(folder):
            raise ValueError(f"no folder can be called {quoted(str(folder))}; name another.")
        make_folder(self.folder)

    def find(self, trainings: int) -> dict[int, State]:
        """The tensors of the finished ones below a number."""
        found = {}
        for number in range(trainings):
            path = self._path(number)
            if not path.is_file():
                continue
            try:
                tensors, facts = read_hashed(path, self.kind)
            except ValueError as error:
                warnings.warn(f"{error} It is trained again.", stacklevel=4)
                continue
            self._check(facts)
            found[number] = tensors
        return found

    def check_writable(self) -> None:
        """Refuse a folder in which no training can be kept, before the first is made."""
        check_writable(self.folder, self.size)

    def keep(self, number: int, tensors: Mapping[str, Tensor]) -> None:
        """Write a finished training, whole or not at all."""
        how = {"kind": self.kind, "fingerprint": _FINGERPRINT, "python": _PYTHON}
        write_hashed(self._path(number), tensors, {**how, **self.facts})

    def keep_or_warn(self, number: int, tensors: Mapping[str, Tensor]) -> None:
        """Write a finished training, or warn of the first that can't be written."""
        try:
            self.keep(number, tensors)
        except NotWritten as error:
            if not self._warned:
                self._warned = True
                warnings.warn(
                    f"Training {number} could not be kept ({error}); the run goes on, and what can "
                    "be written is kept.",
                    stacklevel=4,
                )

    def _path(self, number: int) -> Path:
        return self.folder / f"training-{number:06d}.safetensors"

    def _check(self, facts: Mapping[str, str]) -> None:
        if facts.get("fingerprint") != _FINGERPRINT:
            raise ValueError(
                f"the folder {quoted(str(self.folder))} holds trainings of an earlier version of "
                "memviz, which can't be checked against this recipe and must be made again; name "
                "another folder, or delete this one."
            )
        for key, words in _WORDS.items():
            if facts.get(key) != self.facts[key]:
                python = facts.get("python")
                if key == "recipe" and python != _PYTHON:
                    words += f", or of the same one under Python {python}, not {_PYTHON}"
                raise ValueError(
                    f"the folder {quoted(str(self.folder))} holds trainings of {words}; name "
                    "another folder, or delete this one."
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
