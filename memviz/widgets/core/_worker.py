"""One thread for all of a session's computing: the newest answer first, long work in between."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count

from . import _threads as threads

# After an answer the browser gets the cores for a moment, to draw before background work resumes.
_REST = 0.12  # s
# An idle thread ends, so that it does not keep a forgotten session alive; the next job starts one.
_LINGER = 30.0  # s
_LOOK = 0.2  # s between two looks whether the thread that is waited for is still there


class Worker:
    """Runs answers (newest wins) and background work (one step at a time, by rank).

    A new answer replaces one that has not begun, and new work replaces work of the same name.
    A waiting answer runs before the next step of work, so a click never waits for a sweep. Nothing
    that an answer or a step raises ends the thread.

    Parameters
    ----------
    failed : callable
        Called with each exception that an answer or a step raises, ``SystemExit`` included.
    threaded : bool
        False runs nothing until ``run_until_idle``, for tests and scripts.
    """

    def __init__(self, failed: Callable[[BaseException], None], *, threaded: bool = True) -> None:
        self._failed = failed
        self.threaded = threaded
        self._wake = threading.Condition()
        self._answer: Callable[[], None] | None = None
        self._work: dict[str, tuple[int, Iterator[object]]] = {}
        self.closed = False
        self._thread: threading.Thread | None = None
        self._first = count()  # a name of its own for each job that is waited for

    def answer(self, job: Callable[[], None]) -> None:
        """Run ``job`` next, in place of any answer still waiting."""
        with self._wake:
            self._answer = job
            self._start()

    def work(self, name: str, steps: Iterator[object], rank: int) -> None:
        """Run ``steps`` when no work of lower rank is left."""
        with self._wake:
            self._work[name] = (rank, steps)
            self._start()

    def run_first(self, job: Callable[[], None]) -> None:
        """Run ``job`` before all other work, and wait for it."""
        done = threading.Event()

        def steps() -> Iterator[None]:
            try:
                job()
                yield
            finally:
                done.set()

        if not self.threaded or self._thread is threading.current_thread():
            list(steps())
            return
        name = f"first {next(self._first)}"
        self.work(name, steps(), rank=-1)
        while not done.wait(_LOOK):
            if self.closed and self.drop(name):
                job()  # the thread ended before it came to it
                return

    def drop(self, name: str) -> bool:
        """Drop the work of this name; returns whether there was any."""
        with self._wake:
            return self._work.pop(name, None) is not None

    @property
    def answer_waits(self) -> bool:
        """Whether a newer answer is waiting, so that the one being computed is stale."""
        return self._answer is not None

    def close(self) -> None:
        """End the thread after the current step."""
        with self._wake:
            self.closed = True
            self._wake.notify_all()

    def join(self) -> None:
        """Wait until the thread of a closed worker has ended."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def run_until_idle(self) -> None:
        """Run everything that is waiting, in the calling thread."""
        while self._step():
            pass

    def _start(self) -> None:
        self._wake.notify_all()
        # A fork copies the worker without its thread.
        lives = self._thread is not None and self._thread.is_alive()
        if self.threaded and not self.closed and not lives:
            self._thread = threads.start(self._loop, "memviz", self.close)

    def _loop(self) -> None:
        while not self.closed:
            answers = self._answer is not None
            stepped = self._step()
            with self._wake:
                if answers:
                    self._wake.wait_for(lambda: self.closed or self._answer, _REST)
                elif not stepped and not self._wake.wait_for(
                    lambda: self.closed or self._answer or self._work, _LINGER
                ):
                    self._thread = None
                    return

    def _step(self) -> bool:
        with self._wake:
            job, self._answer = self._answer, None
            name = min(self._work, key=lambda key: self._work[key][0], default=None)
            steps = self._work[name][1] if name is not None else None
        try:
            if job is not None:
                job()
            elif name is not None and steps is not None:
                try:
                    next(steps)
                except StopIteration:
                    self._forget(name, steps)
            else:
                return False
        except (Exception, SystemExit) as error:  # a model may call sys.exit()
            if job is None and name is not None and steps is not None:
                self._forget(name, steps)
            with suppress(Exception):
                self._failed(error)
        return True

    def _forget(self, name: str, steps: Iterator[object]) -> None:
        with self._wake:
            if name in self._work and self._work[name][1] is steps:
                del self._work[name]
