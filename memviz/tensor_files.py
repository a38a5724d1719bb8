"""Tensors on disk: safetensors files with facts beside them, whole or not there, and hashes."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

State = dict[str, Tensor]


class DamagedFile(ValueError):
    """A file that is cut or no safetensors file; the message is the reason alone."""


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a temporary path beside this one, and put what was written there in its place.

    After an error or an interruption inside the block, ``path`` is as it was. Its folder must be
    there.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_write(Path(folder) / "table.csv") as part:
    ...         _ = part.write_text("a,b")
    ...     os.listdir(folder)
    ['table.csv']
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".part")
    os.close(handle)
    part = Path(name)
    try:
        yield part
        part.chmod(0o644)  # the temporary file is for its owner alone
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> None:
    """Write tensors, no two of which share memory, and facts; a reader sees the whole file or none.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(Path(folder) / "a.safetensors", {"w": torch.ones(2)}, {"epoch": "3"})
    ...     read(Path(folder) / "a.safetensors")
    ({'w': tensor([1., 1.])}, {'epoch': '3'})
    """
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_write(path) as part:
        save_file(kept, part, metadata=dict(facts) or None)


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors and facts of a file.

    Raises
    ------
    DamagedFile
        If the file is cut, no safetensors file, or not there.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise DamagedFile(str(error)) from error


def write_hashed(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> None:
    """Write tensors and facts with a hash of both; makes the folder.

    Tensors may share memory here.
    """
    # Cloned, since tied weights share memory and safetensors takes each tensor alone.
    kept = {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, kept, {**facts, "sha256": digest(kept, facts)})


def read_hashed(path: Path, kind: str) -> tuple[State, dict[str, str]]:
    """Read the tensors and facts of a file whose fact ``kind`` is this one.

    Raises
    ------
    FileNotFoundError : there is no such file.
    ValueError : the file is cut, altered, or of another kind.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {str(path)!r}.")
    try:
        tensors, facts = read(path)
    except DamagedFile as error:
        raise ValueError(
            f"{str(path)!r} can't be read as {kind} ({error}); delete it, or name another file."
        ) from error
    if facts.get("kind") != kind:
        raise ValueError(f"{str(path)!r} is not {kind}; name the file that was written as one.")
    if facts.pop("sha256", "") != digest(tensors, facts):
        raise ValueError(
            f"{str(path)!r} was altered after it was written; delete it, or name another file."
        )
    return tensors, facts


def digest(
    tensors: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]],
    facts: Mapping[str, str] | None = None,
) -> str:
    """Hash names, types, shapes and values, and with facts (be they empty) these too.

    Parameters
    ----------
    tensors
        Hashed in the order of their names; pairs are hashed in the order given.
    facts

    Returns
    -------
    str
        SHA-256, hexadecimal. Files hold it: another way to hash would refuse those written before.

    Examples
    --------
    >>> one, two = torch.ones(2), torch.zeros(2)
    >>> digest({"a": one, "b": two}) == digest({"b": two, "a": one}) != digest({"a": one})
    True
    >>> digest([("a", one)]) == digest({"a": one}) != digest({"a": one}, {})
    True
    """
    found = hashlib.sha256()
    if facts is not None:
        found.update(json.dumps(dict(facts), sort_keys=True).encode())
    pairs = sorted(tensors.items()) if isinstance(tensors, Mapping) else tensors
    for name, tensor in pairs:
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        content = tensor.detach().cpu().contiguous().flatten()
        found.update(content.view(torch.uint8).numpy().data)
    return found.hexdigest()
