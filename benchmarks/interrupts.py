"""Interrupts at random moments: whether state and file agree, and what goes on ends the same.

    python -m benchmarks.interrupts --interrupts 200 --seed 0 --json

Each operation is small and keeps its progress in a folder. It is interrupted at a random moment, by
Ctrl-C's signal, by another signal whose handler raises, or by an exception thrown into the thread;
then its models are compared with its file, and the same call is repeated, with the very models or
with fresh ones, and its result compared with an uninterrupted one, bit by bit.
"""

from __future__ import annotations

import _thread
import ctypes
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.interrupted import OPERATIONS, Operation
from benchmarks.report import about, parser, show
from benchmarks.timing import one_thread
from memviz.tensor_files import digest

WAYS = ("signal", "alarm", "exception")
COUNTS = ("interrupts", "disagreements", "different_results", "gradients_off", "draws_changed",
          "errors")  # fmt: skip


def measure(
    interrupts: int = 200,
    seed: int = 0,
    only: Sequence[str] = tuple(OPERATIONS),
    minutes: float = 30.0,
) -> dict[str, Any]:
    """Interrupt each operation so often, and count what did not hold.

    Parameters
    ----------
    interrupts : int
        Of each operation.
    only : names of ``OPERATIONS``.
    minutes : float
        After these it stops, with fewer interrupts.
    """
    end = time.monotonic() + 60 * minutes
    chance = random.Random(seed)
    found: dict[str, Counter[str]] = {name: Counter() for name in only}
    messages: list[str] = []
    with one_thread():
        for name in only:
            trial = _Trial(OPERATIONS[name], chance, found[name], messages)
            while found[name]["interrupts"] < interrupts and time.monotonic() < end:
                trial.run()
    return {
        "benchmark": "interrupts",
        "seed": seed,
        **{count: {name: found[name][count] for name in only} for count in COUNTS},
        "messages": sorted(set(messages))[:20],
        "about": about(),
    }


class _Trial:
    """One operation, interrupted again and again."""

    def __init__(
        self, make: type[Operation], chance: random.Random, found: Counter[str], messages: list[str]
    ) -> None:
        self.make, self.chance, self.found, self.messages = make, chance, found, messages
        operation = make()
        self.start = operation.state()
        self._whole(make())  # once without being timed: what is imported late is there then
        began = time.perf_counter()
        self.whole = self._whole(operation)
        self.seconds = time.perf_counter() - began
        self.expected = digest(self.whole), operation.state()

    @staticmethod
    def _whole(operation: Operation) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            return operation.run(Path(folder))

    def run(self) -> None:
        """Interrupt it once and go on, or more than once, where chance has it."""
        with tempfile.TemporaryDirectory() as name:
            folder, operation = Path(name), self.make()
            while self._interrupted(operation, folder):
                self.found["interrupts"] += 1
                self._look(operation, folder)
                if self.chance.random() < 0.5:
                    operation = self.make()
                if self.chance.random() < 0.5:
                    break
            self._compare(operation, folder)

    def _interrupted(self, operation: Operation, folder: Path) -> bool:
        draws, self.before = torch.get_rng_state(), _all_of(operation, folder)
        try:
            came = interrupt(
                lambda: operation.run(folder),
                self.chance.uniform(0, 1.1 * self.seconds),
                self.chance.choice(WAYS),
            )
        except Exception as error:
            self._note(error)
            return False
        self.found["draws_changed"] += not torch.equal(draws, torch.get_rng_state())
        torch.set_rng_state(draws)
        return came

    def _look(self, operation: Operation, folder: Path) -> None:
        self.found["gradients_off"] += not torch.is_grad_enabled()
        torch.set_grad_enabled(True)
        # Stopped before it read the file, a call leaves fresh models as they are.
        untouched = _all_of(operation, folder) == self.before != (self.start, {})
        if not untouched and not operation.agrees(folder, self.whole, self.start):
            self.found["disagreements"] += 1

    def _compare(self, operation: Operation, folder: Path) -> None:
        try:
            result = operation.run(folder)
        except Exception as error:
            self._note(error)
            return
        self.found["different_results"] += (digest(result), operation.state()) != self.expected

    def _note(self, error: Exception) -> None:
        self.found["errors"] += 1
        self.messages.append(f"{self.make.__name__}: {type(error).__name__}: {error}"[:300])


def _all_of(operation: Operation, folder: Path) -> Any:
    """Models and files, to see whether anything was touched."""
    return operation.state(), {
        path.name: path.read_bytes() for path in folder.glob("*.safetensors")
    }


def interrupt(call: Callable[[], object], seconds: float, way: str) -> bool:
    """Call something that is interrupted after some seconds; whether the interrupt came."""
    main = threading.get_ident()
    fired = threading.Event()

    def fire() -> None:
        fired.set()
        if way == "signal":
            _thread.interrupt_main()
        elif way == "alarm":
            signal.setitimer(signal.ITIMER_REAL, 1e-6)
        else:
            kind = ctypes.py_object(KeyboardInterrupt)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(main), kind)

    def raise_it(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    def swallowed(unraisable: sys.UnraisableHookArgs) -> None:
        # Python itself drops an interrupt that lands in a finalizer or a weak reference's callback.
        if not isinstance(unraisable.exc_value, KeyboardInterrupt):
            reported(unraisable)

    before, reported = signal.signal(signal.SIGALRM, raise_it), sys.unraisablehook
    timer = threading.Timer(seconds, fire)
    try:
        sys.unraisablehook = swallowed
        timer.start()
        call()
        timer.cancel()
        timer.join()
        time.sleep(1e-3)  # where it is late it comes now
    except KeyboardInterrupt:
        return True
    finally:
        timer.cancel()
        sys.unraisablehook = reported
        signal.signal(signal.SIGALRM, before)
    return False


def main(argv: Sequence[str] | None = None) -> None:
    """Interrupt and print."""
    arguments = parser("interrupts", __doc__)
    arguments.add_argument("--interrupts", type=int, default=200, help="of each operation")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--only", nargs="+", choices=list(OPERATIONS), default=list(OPERATIONS))
    arguments.add_argument("--minutes", type=float, default=30.0, help="stops after these")
    chosen = arguments.parse_args(argv)
    found = measure(chosen.interrupts, chosen.seed, chosen.only, chosen.minutes)
    show(found, as_json=chosen.json)


if __name__ == "__main__":
    main()
