"""How much of a machine a process may use: a container's share, not the host's size."""

from __future__ import annotations

import os
from pathlib import Path

from joblib import cpu_count  # type: ignore[import-untyped]

# Where Linux says what a container may take; the second is the older way.
_LIMITS = ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes")


def cores() -> int:
    """Cores that this process may keep busy, at least 1: the machine's, or a container's share."""
    return int(cpu_count())


def memory(root: Path = Path("/")) -> int | None:
    """Bytes that this process may take, or None where that is unknown.

    Parameters
    ----------
    root : Path
        The folder that the files of the system are in.
    """
    sizes = [size for name in _LIMITS if (size := _limit(root / name)) is not None]
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        sizes.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(sizes, default=None)


def _limit(file: Path) -> int | None:
    """The number in a file; None if there is no file, or it says that there is no limit."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None
