"""Tensors on disk: safetensors files with facts (text metadata), written atomically, and hashes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import stat
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from memviz.checks import coded, quoted

if sys.platform != "win32":
    import fcntl

State = dict[str, Tensor]
_OPENED, _LOCK = "opened", "lock"  # what a writer holds, before and after it is locked
_PATH = 300  # characters of a path in a message
_BEGINNING = 60.0  # seconds in which a writer has made its lock for certain


class DamagedFile(ValueError):
    """A file that is truncated or not a safetensors file; the message is only the reason."""


class NotWritten(OSError):
    """A file or folder that can't be written, for whatever reason; the message is one clause."""


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder, and rename it to ``path`` after the block.

    After an error or an interruption inside the block, ``path`` is as it was. Its folder must
    exist. What a process that was killed left beside ``path`` is removed.

    Raises
    ------
    NotWritten
        If the disk is full, the folder is missing or protected, or writing fails in any other way.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_write(Path(folder) / "table.csv") as part:
    ...         _ = part.write_text("a,b")
    ...     os.listdir(folder)
    ['table.csv']
    """
    try:
        remove_orphans(path)
        # A folder, since safetensors writes a temporary file of its own beside the one it is given.
        beside = path.with_name(f"{_beginning(path)}{secrets.token_hex(4)}.part")
        beside.mkdir()
        try:
            with open(beside / _OPENED, "xb") as held:
                _hold(held, beside / _LOCK)
                part = beside / path.name
                yield part
                part.chmod(stat.S_IMODE(os.fstat(held.fileno()).st_mode))  # safetensors makes 0600
                os.replace(part, path)
        finally:
            _remove(beside)
    except (OSError, SafetensorError) as error:
        raise not_written(path, error) from error


def _beginning(path: Path) -> str:
    """How the names of files beside a path begin: file systems take names of 255 bytes."""
    return path.stem.encode()[:200].decode(errors="ignore")


def _remove(folder: Path) -> None:
    """Remove a folder of files; ``shutil.rmtree``, interrupted, closes a file twice."""
    with suppress(OSError):
        for name in os.listdir(folder):
            os.unlink(folder / name)
        os.rmdir(folder)


def _hold(file: IO[bytes], name: Path) -> None:
    """Lock an open file, and rename it only then: nobody finds it by ``name`` and unlocked."""
    if sys.platform != "win32":  # which renames no open file
        with suppress(OSError):  # some network folders know no locks
            _lock(file)
        os.rename(file.name, name)


def _lock(file: IO[bytes]) -> None:
    """Lock a file as long as it is open; raises OSError if another process holds the lock."""
    if sys.platform != "win32":
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def remove_orphans(path: Path) -> None:
    """Remove what was left beside ``path`` by writers that are gone."""
    if sys.platform == "win32":  # without locks an orphan looks like a file being written
        return
    pattern = re.compile(re.escape(_beginning(path)) + r"[a-z0-9_]{8}\.part")
    for name in os.listdir(path.parent):
        if not pattern.fullmatch(name):
            continue
        orphan = path.with_name(name)
        with suppress(OSError):
            if orphan.is_dir() and not orphan.is_symlink():
                lock = orphan / _LOCK
                if not lock.exists() and time.time() - orphan.stat().st_mtime < _BEGINNING:
                    continue
                with suppress(FileNotFoundError), open(lock, "rb") as held:
                    _lock(held)
                _remove(orphan)
            else:  # a file of an earlier version
                orphan.unlink()


def not_written(path: Path, error: Exception) -> NotWritten:
    """The error of a path that can't be written, with the reason in words.

    Examples
    --------
    >>> not_written(Path("a.csv"), OSError(28, "No space left on device"))
    NotWritten("'a.csv' can't be written: No space left on device")
    """
    if isinstance(error, NotWritten):
        return error
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return NotWritten(f"{_named(path)} can't be written: {reason}")


def _named(path: Path) -> str:
    return quoted(str(path), most=_PATH)


def make_folder(folder: Path) -> None:
    """Create a folder and those above it, unless they are there; raises NotWritten."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:  # the second of a name that no folder can have
        raise not_written(folder, error) from error


def check_writable(folder: Path, size: int = 4096) -> None:
    """Create a folder if it is missing, and see that ``size`` bytes can be written in it.

    For the start of long work whose results are to be kept there.

    Raises
    ------
    NotWritten
        If they can't be.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     check_writable(Path(folder) / "new")
    ...     check_writable(Path(folder) / "new", size=2**60)
    Traceback (most recent call last):
    memviz.tensor_files.NotWritten: '...new' can't be written: ...
    """
    make_folder(folder)
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(4096))
            probe.flush()
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(probe.fileno(), 0, max(1, size))
    except OSError as error:
        raise not_written(folder, error) from error


def write(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> None:
    """Write tensors and facts atomically; no two tensors may share memory.

    Raises
    ------
    NotWritten
        If the file can't be written; ``path`` is as it was.

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

    Raises
    ------
    NotWritten
        If the file can't be written; ``path`` is as it was.
    """
    # Cloned: tied weights share memory, which safetensors refuses.
    kept = {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
    make_folder(path.parent)
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
        raise FileNotFoundError(f"there is no file {_named(path)}.")
    try:
        tensors, facts = read(path)
    except DamagedFile as error:
        raise ValueError(
            coded(
                "E33",
                f"{_named(path)} can't be read as {kind} ({error}); delete it, or name another "
                "file.",
            )
        ) from error
    if facts.get("kind") != kind:
        raise ValueError(
            f"{_named(path)} holds {facts.get('kind', 'something else')}, not {kind}; "
            "name another file."
        )
    if facts.pop("sha256", "") != digest(tensors, facts):
        raise ValueError(
            coded(
                "E33",
                f"{_named(path)} was altered after it was written; delete it, or name another "
                "file.",
            )
        )
    return tensors, facts


@dataclass(frozen=True)
class Pieces:
    """A tensor that is never whole: parts along its first axis, which are read once, for a hash."""

    dtype: torch.dtype
    shape: torch.Size
    parts: Iterable[Tensor]


def digest(
    tensors: Mapping[str, Tensor] | Iterable[tuple[str, Tensor | Pieces]],
    facts: Mapping[str, str] | None = None,
) -> str:
    """Hash names, dtypes, shapes and values, and the facts if any are given, even empty ones.

    Parameters
    ----------
    tensors : mapping or iterable of pairs
        A mapping is hashed in the order of its names, pairs in the order given. ``Pieces`` have
        the hash of the tensor that they make.
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
    >>> digest([("a", Pieces(ones.dtype, ones.shape, ones.split(1)))]) == digest({"a": ones})
    True
    """
    # Saved files contain this hash: computed in any other way, it would refuse them.
    sha = hashlib.sha256()
    if facts is not None:
        sha.update(json.dumps(dict(facts), sort_keys=True).encode())
    pairs = sorted(tensors.items()) if isinstance(tensors, Mapping) else tensors
    for name, tensor in pairs:
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        for part in tensor.parts if isinstance(tensor, Pieces) else [tensor]:
            content = part.detach().cpu().contiguous().flatten()
            sha.update(content.view(torch.uint8).numpy().data)
    return sha.hexdigest()
