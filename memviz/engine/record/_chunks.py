"""Memory: how many examples at a time, and what to do when they are too many."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

# Of the largest activation: big enough that Python's share is small, small enough for the cache.
_LARGEST_VALUE = 8 * 2**20
_LARGEST = 1024
# What is kept on a CPU: a part of what the process may take, and never more than this.
_PART, _MOST = 12, 2**30
# Where Linux says what a container may take; the second is the older way.
_LIMITS = ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes")

R = TypeVar("R")


def chunk_size(
    recorded: int,
    device: torch.device,
    *,
    largest: int | None = None,
    memory: int | None = None,
    weights: int = 0,
) -> int:
    """Examples a chunk.

    Parameters
    ----------
    recorded : int
        Bytes an example of all results that a pass keeps.
    device : torch.device
    largest : int, optional
        Bytes an example of the largest of them; an eighth of them all, unless given.
    memory : int, optional
        Bytes that may be kept.
    weights : int
        Bytes of the model's weights, which every pass reads: of large ones, a pass of few examples
        takes more time to read them than to multiply.
    """
    memory = default_memory(device) if memory is None else memory
    largest = recorded // 8 if largest is None else largest
    value = max(_LARGEST_VALUE, weights // 8)
    by_cache = value // max(largest, 1) if device.type == "cpu" else _LARGEST
    # One chunk's record, a second in another layout, and what a pass makes on its way.
    by_memory = memory // (6 * max(recorded, 1))
    return max(1, min(_LARGEST, by_cache, by_memory))


def default_memory(device: torch.device) -> int:
    """Bytes the engine may keep: half of what is free on a GPU, elsewhere at most 1 GiB.

    On a CPU it is a twelfth of what the process may take (:func:`memory_allowed`), so that a small
    container keeps less and computes more again, or what the environment variable
    ``MEMVIZ_MEMORY`` says, in MiB; a CUDA GPU does not read it. Results differ by rounding alone.

    Raises
    ------
    ValueError : ``MEMVIZ_MEMORY`` is not a whole number from 1 up.

    Examples
    --------
    >>> 0 < default_memory(torch.device("cpu")) <= 2**30
    True
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0] // 2)
    chosen = os.environ.get("MEMVIZ_MEMORY")
    if chosen is None:
        allowed = memory_allowed()
        return _MOST if allowed is None else max(1, min(_MOST, allowed // _PART))
    if not chosen.isdecimal() or int(chosen) < 1:
        raise ValueError(
            f"MEMVIZ_MEMORY is a whole number of MiB from 1 up, but the environment has {chosen!r}."
        )
    return int(chosen) * 2**20


def memory_allowed(root: Path = Path("/")) -> int | None:
    """Bytes that this process may take, or None where that is unknown.

    A container's share, where it has one: not the host's memory.

    Parameters
    ----------
    root : Path
        The folder that the files of the system are in.
    """
    sizes = [size for name in _LIMITS if (size := _limit(root / name)) is not None]
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        pages = os.sysconf("SC_PHYS_PAGES")
        sizes += [pages * os.sysconf("SC_PAGE_SIZE")] if pages > 0 else []  # -1: unknown
    return min(sizes, default=None)


def _limit(file: Path) -> int | None:
    """The number in a file; None if there is no file, or it says that there is no limit."""
    try:
        limit = int(file.read_text())
    except (OSError, ValueError):
        return None
    return limit if limit > 0 else None


def split(n: int, size: int) -> list[Tensor]:
    """Indices 0 to n-1 in chunks.

    Examples
    --------
    >>> [len(chunk) for chunk in split(10, 4)]
    [4, 4, 2]
    """
    return list(torch.arange(n).split(size))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error is a GPU's or the CPU allocator's cry for memory."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "allocate memory" in str(error)
    )


class Chunked:
    """Work done on chunks of examples: owns how many there are in a chunk.

    Attributes
    ----------
    size : int
        Examples in a chunk, for what ``guard`` runs to read; halved when memory runs out.

    Examples
    --------
    >>> work = Chunked(4)
    >>> work.guard(lambda: [len(chunk) for chunk in split(10, work.size)])
    [4, 4, 2]
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def guard(self, run: Callable[[], R]) -> R:
        """Run; when memory runs out, halve the chunks, warn and run again.

        Raises
        ------
        MemoryError
            If one example alone is too much.
        """
        halved = False
        while True:
            try:
                if halved:
                    self._halved()
                return run()
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if self.size == 1:
                    raise MemoryError(
                        "out of memory with a single example; use a smaller model, "
                        "a larger device, or smaller inputs."
                    ) from error
            # Only here, where the error is gone and with it the tensors its frames held.
            warnings.warn(
                f"out of memory with chunks of {self.size} examples; "
                f"going on with {self.size // 2}.",
                stacklevel=3,
            )
            self.size //= 2
            halved = True

    def _halved(self) -> None:
        """Renew what depends on the size; may run out of memory too."""
