"""Files, looked at before they are read or replaced: a pipe would hang, a device be lost."""

from __future__ import annotations

import json
import stat
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from ._quote import quoted

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def check_file(path: str | Path, most: int | None = None) -> None:
    """Refuse anything but a regular file, of at most ``most`` bytes.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is a folder, a pipe or a device, or is too large.
    TypeError
        If it is no path.

    Examples
    --------
    >>> check_file("nowhere.json")
    Traceback (most recent call last):
    FileNotFoundError: there is no file 'nowhere.json'.
    """
    mode, size = _looked_at(_path(path))
    if not mode:
        raise FileNotFoundError(f"there is no file {quoted(str(path))}.")
    if not stat.S_ISREG(mode):
        raise ValueError(f"{quoted(str(path))} is {_kind(mode)}, not a file; name a file.")
    if most is not None and size > most:
        raise ValueError(
            f"{quoted(str(path))} has {size:,} bytes, and such a file has {most:,} at most; "
            "name another file."
        )


def check_place(path: str | Path) -> None:
    """Refuse a path that no file can be written to: its folder is missing, or it is no file itself.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    ValueError
        If the path is a folder, a pipe or a device, or a name that no file can have.
    TypeError
        If it is no path.

    Examples
    --------
    >>> check_place("nowhere/table.csv")
    Traceback (most recent call last):
    FileNotFoundError: there is no folder 'nowhere' to write 'table.csv' in; make it first.
    """
    path = _path(path)
    if "\0" in str(path):
        raise ValueError(f"no file can be named {quoted(str(path))}; name another.")
    if not stat.S_ISDIR(_looked_at(path.absolute().parent)[0]):
        raise FileNotFoundError(
            f"there is no folder {quoted(str(path.parent))} to write {quoted(path.name)} in; "
            "make it first."
        )
    mode = _looked_at(path)[0]
    if mode and not stat.S_ISREG(mode):
        raise ValueError(f"{quoted(str(path))} is {_kind(mode)}, not a file; name a file.")


def read_json(path: str | Path, most: int) -> Any:
    """The content of a JSON file of at most ``most`` bytes.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no regular file, too large, or not JSON.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "a.json"
    ...     _ = path.write_text("[" * 100_000)
    ...     read_json(path, most=1 << 20)
    Traceback (most recent call last):
    ValueError: ...a.json' is not JSON (nested too deeply).
    """
    check_file(path, most)
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except RecursionError:
        reason = "nested too deeply"
    except ValueError as error:
        reason = str(error)
    raise ValueError(f"{quoted(str(path))} is not JSON ({reason}).")


def _path(given: object) -> Path:
    if not isinstance(given, str | PathLike) or not isinstance(fspath(given), str):
        raise TypeError(f"expected the path of a file, got {quoted(given)}; give text or a Path.")
    return Path(given)


def _looked_at(path: Path) -> tuple[int, int]:
    """The mode and the size of what the path leads to; zeros if there is nothing."""
    try:
        about = path.stat()
    except PermissionError:
        raise
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return 0, 0
    return about.st_mode, about.st_size


def _kind(mode: int) -> str:
    return _KINDS.get(stat.S_IFMT(mode), "something else")
