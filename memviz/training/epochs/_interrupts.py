"""Interrupts held back for the milliseconds in which a state is put back."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM", "SIGUSR1", "SIGUSR2", "SIGBREAK")
_SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))
_LONGEST = 10.0  # seconds; after them an interrupt goes through, so that nothing hangs for good

Handler = Callable[[int, FrameType | None], Any]


class HeldBack:
    """A block that no signal interrupts: what arrives meanwhile is handled when the block ends.

    Python runs signal handlers, Ctrl-C's among them, in the main thread only; in any other thread
    the block does nothing.

    Examples
    --------
    >>> done, before = False, signal.signal(signal.SIGINT, signal.default_int_handler)
    >>> try:
    ...     with HeldBack():
    ...         signal.raise_signal(signal.SIGINT)
    ...         done = True
    ... except KeyboardInterrupt:
    ...     print("interrupted", done)
    interrupted True
    >>> _ = signal.signal(signal.SIGINT, before)
    """

    def __init__(self) -> None:
        self._handlers: dict[int, Handler] = {}
        self._replaced: list[int] = []
        self._arrived: dict[int, FrameType | None] = {}
        self._until = 0.0

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        self._until = time.monotonic() + _LONGEST
        try:
            for number in _SIGNALS:
                handler = signal.getsignal(number)
                if callable(handler):
                    self._handlers[number] = handler
                    self._replaced.append(number)
                    signal.signal(number, self._note)
        except BaseException:
            self._put_back()
            raise

    def _note(self, number: int, frame: FrameType | None) -> None:
        if time.monotonic() > self._until:
            self._handlers[number](number, frame)
        else:
            self._arrived[number] = frame

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        interrupt = self._put_back()
        for number, frame in self._arrived.items():
            try:
                self._handlers[number](number, frame)
            except BaseException as raised:
                interrupt = raised
        if interrupt is not None:
            raise interrupt

    def _put_back(self) -> BaseException | None:
        """Put every handler back; the exception of one that ran meanwhile."""
        interrupt = None
        while self._replaced:
            try:
                signal.signal(self._replaced[-1], self._handlers[self._replaced[-1]])
                self._replaced.pop()
            except BaseException as raised:
                interrupt = raised
        return interrupt
