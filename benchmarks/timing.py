"""Time of one thread, for several methods in turn, and the memory of a process.

The ratios are of CPU time of one thread: other work on the machine makes it wait, but hardly makes
it work longer. Methods that are compared take turns within one process, so that a slow minute hits
all of them. Wall time is kept as well.
"""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

_PEAK = "VmHWM:"


@dataclass
class Timing:
    """Seconds of each run, CPU time of the calling thread and wall time.

    Examples
    --------
    >>> timing = Timing([1.0, 2.0, 4.0], [2.0, 2.0, 8.0])
    >>> timing.median, timing.spread
    (2.0, 1.5)
    """

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Median CPU seconds."""
        return statistics.median(self.cpu)

    @property
    def median_wall(self) -> float:
        """Median wall seconds."""
        return statistics.median(self.wall)

    @property
    def spread(self) -> float:
        """Largest minus smallest CPU time, as a share of the median."""
        return (max(self.cpu) - min(self.cpu)) / max(self.median, 1e-12)

    def run(self, work: Callable[[], Any]) -> Any:
        """Run once, keep the times, and return the result."""
        wall, cpu = time.perf_counter(), time.thread_time()
        result = work()
        self.cpu.append(time.thread_time() - cpu)
        self.wall.append(time.perf_counter() - wall)
        return result


def in_turn(
    ways: Mapping[str, Callable[[], Any]], repeats: int, *, warm: bool = True
) -> dict[str, Timing]:
    """Time several methods for one piece of work, taking turns, again and again.

    Parameters
    ----------
    ways : mapping of name to function
    repeats : int
    warm : bool
        Run each once before, not timed.

    Examples
    --------
    >>> timings = in_turn({"a": lambda: sum(range(1000)), "b": lambda: None}, repeats=3)
    >>> [len(timing.cpu) for timing in timings.values()]
    [3, 3]
    """
    timings = {name: Timing() for name in ways}
    if warm:
        for work in ways.values():
            work()
    for _ in range(repeats):
        for name, work in ways.items():
            timings[name].run(work)
    return timings


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch computes in the calling thread while the block runs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def peak_memory() -> int:
    """Largest resident memory of this process so far, in bytes.

    Linux's own figure for this program: that of ``getrusage`` starts from the peak of the program
    that started this one.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith(_PEAK))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
