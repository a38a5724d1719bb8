"""Tensors on disk: safetensors files with facts (text metadata), written atomically, and hashes."""

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
    """A file that is truncated or not a safetensors file; the message is only the reason."""


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder, and rename it to ``path`` after the block.

    After an error or an interruption inside the block, ``path`` is as it was. Its folder must
    exist.

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
        part.chmod(0o644)  # mkstemp lets only the owner read
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> None:
    """Write tensors and facts atomically; no two tensors may share memory.

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
        If the file is missing, truncated or not a safetensors file.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(Path(folder) / "a.safetensors", {"w": torch.ones(2)}, {})
    ...     read(Path(folder) / "a.safetensors")
    ({'w': tensor([1., 1.])}, {})
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise DamagedFile(str(error)) from error


def write_hashed(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> None:
    """Write tensors and facts with a hash of both; the folder is created if it is missing.

    Unlike in :func:`write`, tensors may share memory.
    """
    # Cloned: tied weights share memory, which safetensors refuses.
    kept = {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, kept, {**facts, "sha256": digest(kept, facts)})


def read_hashed(path: Path, kind: str) -> tuple[State, dict[str, str]]:
    """Read the tensors and facts of a file whose fact ``kind`` equals ``kind``.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is truncated, altered or of another kind.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_hashed(Path(folder) / "a.safetensors", {"w": torch.ones(2)}, {"kind": "demo"})
    ...     read_hashed(Path(folder) / "a.safetensors", "demo")
    ({'w': tensor([1., 1.])}, {'kind': 'demo'})
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
        raise ValueError(
            f"{str(path)!r} holds {facts.get('kind', 'something else')}, not {kind}; "
            "name another file."
        )
    if facts.pop("sha256", "") != digest(tensors, facts):
        raise ValueError(
            f"{str(path)!r} was altered after it was written; delete it, or name another file."
        )
    return tensors, facts


def digest(
    tensors: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]],
    facts: Mapping[str, str] | None = None,
) -> str:
    """Hash names, dtypes, shapes and values, and the facts if any are given, even empty ones.

    Parameters
    ----------
    tensors : mapping or iterable of pairs
        A mapping is hashed in the order of its names, pairs in the order given.
    facts : mapping, optional

    Returns
    -------
    str
        SHA-256, hexadecimal.

    Examples
    --------
    >>> ones, zeros = torch.ones(2), torch.zeros(2)
    >>> digest({"a": ones, "b": zeros}) == digest({"b": zeros, "a": ones}) != digest({"a": ones})
    True
    >>> digest([("a", ones)]) == digest({"a": ones}) != digest({"a": ones}, {})
    True
    """
    # Saved files contain this hash: computed in any other way, it would refuse them.
    sha = hashlib.sha256()
    if facts is not None:
        sha.update(json.dumps(dict(facts), sort_keys=True).encode())
    pairs = sorted(tensors.items()) if isinstance(tensors, Mapping) else tensors
    for name, tensor in pairs:
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        content = tensor.detach().cpu().contiguous().flatten()
        sha.update(content.view(torch.uint8).numpy().data)
    return sha.hexdigest()
