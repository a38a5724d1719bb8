"""Weights on disk: one safetensors file per epoch, written atomically and checked when read."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from memviz import tensor_files

State = dict[str, Tensor]
_FLOATS = "floats"  # the fact that names the floating-point tensors, their types and their shapes


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
    statistics can be too small for half precision, and take little space. All numbers of one type
    lie byte by byte, first bytes first: so a wheel, or any zip file, packs them smaller.
    """
    kept = {
        name: tensor.half() if half and tensor.ndim > 1 else tensor
        for name, tensor in state.items()
    }
    tensor_files.make_folder(path.parent)
    planes, floats = _to_planes(kept)
    about = {**facts, "sha256": tensor_files.digest(kept), _FLOATS: floats}
    tensor_files.write(path, planes, about)


def _to_planes(state: Mapping[str, Tensor]) -> tuple[State, str]:
    """A state dict whose floats are joined, uint8 ``[bytes of a number, numbers]`` a type."""
    floats: dict[str, list[Tensor]] = {}
    listed = []
    for name, tensor in state.items():
        if tensor.is_floating_point():
            kind = str(tensor.dtype).removeprefix("torch.")
            listed.append([name, kind, list(tensor.shape)])
            floats.setdefault(kind, []).append(tensor.detach().cpu().flatten())
    planes = {name: tensor for name, tensor in state.items() if not tensor.is_floating_point()}
    for kind, tensors in floats.items():
        size = tensors[0].element_size()
        planes[f"{_FLOATS}.{kind}"] = torch.cat(tensors).view(torch.uint8).reshape(-1, size).T
    return planes, json.dumps(listed)


def _from_planes(planes: State, floats: str) -> State:
    """The state dict of which ``_to_planes`` made these; raises whatever a wrong list leads to."""
    listed = json.loads(floats)
    whole = {
        kind: planes.pop(f"{_FLOATS}.{kind}").T.flatten().view(getattr(torch, kind))
        for kind in {kind for _, kind, _ in listed}
    }
    state, begin = dict(planes), dict.fromkeys(whole, 0)
    for name, kind, shape in listed:
        end = begin[kind] + math.prod(shape)
        # Cloned: no two tensors of a model may share memory.
        state[name] = whole[kind][begin[kind] : end].reshape(shape).clone()
        begin[kind] = end
    return state


def stored(path: Path) -> tuple[State, dict[str, str]]:
    """Read a state dict as it was written, in half precision or full, and its facts.

    Raises
    ------
    DamagedWeights : the file is truncated or altered.
    """
    try:
        kept, facts = tensor_files.read(path)
        if _FLOATS in facts:  # files of before 0.2 have no planes
            kept = _from_planes(kept, facts.pop(_FLOATS))
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise DamagedWeights(f"{path.name} can't be read ({error})") from error
    if facts.get("sha256") != tensor_files.digest(kept):
        raise DamagedWeights(f"{path.name} was altered after it was written")
    return kept, facts


def damaged_weights(folder: Path) -> list[str]:
    """Names of the weight files in a folder that can't be read, or were altered.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    list of str
        Sorted; empty if all are as they were written.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write(Path(folder) / "a.safetensors", {"w": torch.ones(2)}, {}, half=False)
    ...     _ = (Path(folder) / "b.safetensors").write_text("no weights")
    ...     damaged_weights(Path(folder))
    ['b.safetensors']
    """
    damaged = []
    for path in sorted(folder.glob("*.safetensors")):
        try:
            # What is not made of weights, as the language demo's text, states no hash.
            if "sha256" in tensor_files.read(path)[1]:
                stored(path)
        except (tensor_files.DamagedFile, DamagedWeights):
            damaged.append(path.name)
    return damaged


def read(path: Path, expected: Mapping[str, str]) -> tuple[State, dict[str, str]]:
    """Read a state dict, in full precision, and its facts.

    Raises
    ------
    DamagedWeights : the file is truncated, altered, or its facts differ from ``expected``.
    """
    kept, facts = stored(path)
    for key, value in expected.items():
        if facts.get(key) != value:
            raise DamagedWeights(f"{path.name} has {key} {facts.get(key)!r}, expected {value!r}")
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
