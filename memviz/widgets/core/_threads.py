"""Threads for work in the background, all of which end before the interpreter does.

A daemon thread that is inside torch while the interpreter goes down aborts the process, whatever
the script's own status was.
"""

from __future__ import annotations

import atexit
import ctypes
import threading
import time
from collections.abc import Callable

_GRACE = 0.5  # s that a thread has to end by itself
_PATIENCE = 60.0  # s that the interpreter waits for a call that nothing can interrupt
_AGAIN = 1.0  # s between two interruptions, in case a model's own code swallows one
_RUNNING: dict[threading.Thread, Callable[[], None]] = {}
_LOCK = threading.Lock()


class Ended(BaseException):
    """Raised inside a thread that must end now; ``except Exception`` does not catch it."""


def start(run: Callable[[], None], name: str, stop: Callable[[], None]) -> threading.Thread:
    """Run ``run`` in a thread that ends, at the latest, when the interpreter does.

    Parameters
    ----------
    run : callable
    name : str
        Of the thread.
    stop : callable
        Asks ``run`` to return soon; called when the interpreter ends. If ``run`` goes on,
        ``Ended`` is raised inside it.

    Examples
    --------
    >>> over = threading.Event()
    >>> thread = start(lambda: print(over.wait(20)), "waiting", over.set)
    >>> over.set()
    >>> thread.join()
    True
    """

    def running() -> None:
        try:
            run()
        except Ended:
            pass
        finally:
            with _LOCK:
                _RUNNING.pop(thread, None)

    thread = threading.Thread(target=running, name=name, daemon=True)
    with _LOCK:
        _RUNNING[thread] = stop
    thread.start()
    return thread


@atexit.register
def end_all() -> None:
    """Stop all threads and wait for them, so that none is left inside torch."""
    with _LOCK:
        threads = dict(_RUNNING)
    for stop in threads.values():
        stop()
    patience = time.monotonic() + _GRACE
    for thread in threads:
        thread.join(max(0.0, patience - time.monotonic()))
    patience = time.monotonic() + _PATIENCE
    for thread in threads:
        while thread.is_alive() and time.monotonic() < patience:
            _interrupt(thread)
            thread.join(_AGAIN)


def _interrupt(thread: threading.Thread) -> None:
    """Raise ``Ended`` in a thread as soon as it runs Python code again."""
    if thread.ident is not None:
        raised = ctypes.py_object(Ended)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), raised)
