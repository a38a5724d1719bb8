"""Weights on disk: one safetensors file per epoch, written atomically and checked when read."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from memviz import tensor_files

State = dict[str, Tensor]


class DamagedWeights(ValueError):
    """A weight file that can't be used; the message says why."""


def cache_folder() -> Path:
    """The folder of trained weights: ``MEMVIZ_CACHE`` if set, else the user's cache folder."""
    chosen = os.environ.get("MEMVIZ_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    try:
        from platformdirs import user_cache_path
    except ImportError:
        return Path.home() / ".cache" / "memviz"
    return user_cache_path("memviz", appauthor=False)


def write(path: Path, state: Mapping[str, Tensor], facts: Mapping[str, str], half: bool) -> None:
    """Write a state dict and its facts atomically.

    With ``half``, kernels and matrices are stored in half precision. Vectors are not: batch-norm
    statistics can be too small for half precision, and take little space.
    """
    kept = {
        name: tensor.half() if half and tensor.ndim > 1 else tensor
        for name, tensor in state.items()
    }
    tensor_files.make_folder(path.parent)
    tensor_files.write(path, kept, {**facts, "sha256": tensor_files.digest(kept)})


def read(path: Path, expected: Mapping[str, str]) -> tuple[State, dict[str, str]]:
    """Read a state dict, in full precision, and its facts.

    Raises
    ------
    DamagedWeights : the file is truncated, altered, or its facts differ from ``expected``.
    """
    try:
        kept, facts = tensor_files.read(path)
    except tensor_files.DamagedFile as error:
        raise DamagedWeights(f"{path.name} can't be read ({error})") from error
    for key, value in expected.items():
        if facts.get(key) != value:
            raise DamagedWeights(f"{path.name} has {key} {facts.get(key)!r}, expected {value!r}")
    if facts.get("sha256") != tensor_files.digest(kept):
        raise DamagedWeights(f"{path.name} was altered after it was written")
    state = {
        name: tensor.float() if tensor.dtype == torch.float16 else tensor
        for name, tensor in kept.items()
    }
    return state, facts


class StoredCheckpoints(Mapping[int, State]):
    """Epoch to state dict; each is read from its file on access."""

    def __init__(self, paths: Mapping[int, Path], expected: Mapping[str, str]) -> None:
        self._paths = dict(sorted(paths.items()))
        self._expected = dict(expected)

    def __getitem__(self, epoch: int) -> State:
        return read(self._paths[epoch], {**self._expected, "epoch": str(epoch)})[0]

    def __iter__(self) -> Iterator[int]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)

    def __repr__(self) -> str:
        return f"StoredCheckpoints(epochs {', '.join(map(str, self._paths))})"
