"""How long each step took: the page says it beside the date."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime


class Laps:
    """Seconds of each step.

    Examples
    --------
    >>> laps = Laps()
    >>> with laps.lap("sweep"):
    ...     pass
    >>> laps.words(datetime(2026, 1, 31, 12, 0))
    'Written on 2026-01-31 at 12:00 UTC. Computed in 0 s: sweep 0.'
    """

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._steps: dict[str, float] = {}

    @contextmanager
    def lap(self, name: str) -> Iterator[None]:
        """Time a block."""
        begun = time.monotonic()
        yield
        self._steps[name] = time.monotonic() - begun

    def words(self, now: datetime) -> str:
        """When, and in how many seconds."""
        steps = ", ".join(f"{name} {seconds:.0f}" for name, seconds in self._steps.items())
        total = time.monotonic() - self._begun
        return f"Written on {now:%Y-%m-%d at %H:%M} UTC. Computed in {total:.0f} s: {steps}."
