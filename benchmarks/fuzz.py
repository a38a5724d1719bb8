"""Wrong arguments for the whole public API: each gets one sentence, and none is answered wrongly.

    python -m benchmarks.fuzz --calls 20000 --seed 0
    python -m benchmarks.fuzz --calls 20000 --seed 0 --out fuzz.json    goes on where it ended

Each call is a valid one of the examples in the docstrings, on a tiny study, with one or two
arguments changed: to a plausible mistake, or to another form of the same (a list for a tensor). An
error is raw if memviz did not raise it itself, with ``raise``, in a sentence of at most 400
characters.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import signal
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

import memviz
from benchmarks.fuzz_calls import Call, calls
from benchmarks.mistakes import changes
from benchmarks.report import about, parser, show
from memviz.tensor_files import NotWritten, atomic_write

HOME = str(Path(memviz.__file__).parent)
TYPES = (ValueError, TypeError, KeyError, IndexError, RuntimeError, FileNotFoundError)
LONGEST = 400  # characters of a message
SECONDS = 3.0  # of a call
EVERY = 100  # calls between two states
AS_GIVEN = ("memviz.tasks.as_numbers",)  # answers in the dtype of what it is given
KEPT = int(os.environ.get("FUZZ_KEPT", "20"))  # examples of each kind of fault


class TooLong(BaseException):
    """A call that was stopped; none of ``Exception``, so that nothing catches it."""


def is_sentence(error: BaseException) -> bool:
    """Whether an error is memviz's own: raised by it, of a usual type, and a sentence."""
    if isinstance(error, NotWritten):  # one clause
        return len(str(error)) <= LONGEST
    if not isinstance(error, TYPES) or not error.args:
        return False
    frames = traceback.extract_tb(error.__traceback__)
    words = str(error.args[0])
    return (
        bool(frames)
        and frames[-1].filename.startswith(HOME)
        and (frames[-1].line or "").startswith("raise ")  # else Python's own, on a line of memviz
        and len(words) <= LONGEST
        and " " in words
        and words.rstrip("'\"").endswith((".", "…", "?", ")", "!"))
    )


def same(one: Any, other: Any, depth: int = 0) -> bool:
    """Whether two answers are equal, NaN included; what cannot be compared counts as equal."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        equal = one.shape == other.shape and one.dtype == other.dtype
        return equal and bool(torch.equal(one.nan_to_num(), other.nan_to_num()))
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        if one.dtype.kind not in "fiub":
            return one.shape == other.shape
        return bool(np.array_equal(one, other, equal_nan=one.dtype.kind == "f"))
    if isinstance(one, pd.DataFrame) and isinstance(other, pd.DataFrame):
        return one.equals(other)
    if type(one) is not type(other) or depth > 4:
        return depth > 4
    if isinstance(one, bool | int | str):
        return bool(one == other)
    if isinstance(one, float):
        return one == other or (one != one and other != other)
    if isinstance(one, Mapping):
        keys = list(one) == list(other)
        return keys and all(same(one[key], other[key], depth + 1) for key in one)
    if isinstance(one, list | tuple):
        pairs = zip(one, other, strict=False)
        return len(one) == len(other) and all(same(a, b, depth + 1) for a, b in pairs)
    if is_dataclass(one):
        names = [field.name for field in fields(one)]
        return all(same(getattr(one, k), getattr(other, k), depth + 1) for k in names)
    return True


@contextlib.contextmanager
def quiet(seconds: float) -> Iterator[None]:
    """Nothing printed, no warning; TooLong after so many seconds."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, stop)
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            # Again and again: Python drops what is raised while it frees an object.
            signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Fuzz:
    """Counts of calls and of what became of them.

    Parameters
    ----------
    known : sequence of Call
    seed : int
        Call number ``i`` of a seed is always the same.
    """

    def __init__(self, known: Sequence[Call], seed: int) -> None:
        self.known, self.seed = known, seed
        self.done = 0
        self.seconds = 0.0
        self.counts: Counter[str] = Counter()
        self.raw: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {"raw": [], "wrong": [], "slow": []}
        self._right: dict[str, Any] = {}

    @property
    def state(self) -> dict[str, Any]:
        """All that is counted, to go on from later."""
        kept = ("seed", "done", "seconds", "counts", "raw", "examples")
        return {name: getattr(self, name) for name in kept}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of the same seed."""
        if state["seed"] != self.seed:
            raise SystemExit(f"the state is of seed {state['seed']}; name another file.")
        self.done, self.seconds, self.examples = state["done"], state["seconds"], state["examples"]
        self.counts, self.raw = Counter(state["counts"]), Counter(state["raw"])

    def step(self) -> None:
        """One call."""
        chance = random.Random(f"{self.seed} {self.done}")
        self.done += 1
        call = chance.choice(self.known)
        names = call.changeable
        chosen = chance.sample(names, min(len(names), chance.choice((1, 1, 1, 2))))
        given = {}
        for name in chosen:
            found = changes(name, call.values[name], call.annotations[name], call.values)
            given[name] = chance.choice(found)
        if not given:
            return
        words = ", ".join(f"{name}={change[0]}" for name, change in given.items())
        is_form = all(change[2] for change in given.values())
        self.counts["forms" if is_form else "mistakes"] += 1
        self._run(call, {name: change[1] for name, change in given.items()}, words, is_form)

    def _run(self, call: Call, given: Mapping[str, Any], words: str, is_form: bool) -> None:
        torch.manual_seed(0)
        try:
            with quiet(SECONDS):
                answer = call.run(call.values | given)
        except TooLong:
            self._note("slow", call, words)
        except Exception as error:
            if is_sentence(error):
                self._note("refused form" if is_form else "refused", call, words, told(error))
                return
            self.raw[call.name] += 1
            self._note("raw", call, words, told(error))
        else:
            self.counts["accepted"] += 1
            # What a class is made of stands in it as it was given.
            if is_form and not isinstance(call.function, type) and call.name not in AS_GIVEN:
                self._compare(call, words, answer)

    def _compare(self, call: Call, words: str, answer: Any) -> None:
        if call.name not in self._right:
            answers = []
            for _ in range(2):
                torch.manual_seed(0)
                with quiet(10 * SECONDS):
                    answers.append(call.run(call.values))
            self._right[call.name] = answers[0] if same(*answers) else _NEVER_THE_SAME
        right = self._right[call.name]
        if right is not _NEVER_THE_SAME and not same(right, answer):
            self._note("wrong", call, words)

    def _note(self, kind: str, call: Call, words: str, error: str = "") -> None:
        self.counts[kind] += 1
        kept = self.examples.setdefault(kind, [])
        if kind != "refused" and len(kept) < KEPT:
            kept.append(f"{call.name}({words}) {error}".strip())

    def result(self) -> dict[str, Any]:
        """What was found, as one table."""
        counts = self.counts
        return {
            "calls": self.done,
            "seed": self.seed,
            "functions": len(self.known),
            "plausible_mistakes": counts["mistakes"],
            "other_forms": counts["forms"],
            "refused": counts["refused"],
            "refused_forms": counts["refused form"],
            "accepted": counts["accepted"],
            "raw": counts["raw"],
            "raw_share": round(counts["raw"] / max(1, counts["mistakes"]), 5),
            "slow": counts["slow"],
            "wrong": counts["wrong"],
            "by_function": dict(self.raw.most_common()),
            "examples": self.examples,
            "seconds": round(self.seconds),
        }


_NEVER_THE_SAME = object()


def told(error: BaseException) -> str:
    """An error in a line, with where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if frame.filename.startswith(HOME)]
    where = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "outside"
    return f"-> {type(error).__name__} at {where}: {str(error)[:120]!r}"


def measure(number: int, seed: int, out: Path | None, minutes: float, only: str) -> dict[str, Any]:
    """Make so many calls, or as many as there is time for; with a file, go on from its state."""
    fuzz = Fuzz([call for call in calls() if only in call.name], seed)
    state = None if out is None else out.absolute().with_name(f"{out.name}.state")
    if state is not None and state.is_file():
        fuzz.restore(json.loads(state.read_text(encoding="utf-8")))
    before, start = fuzz.seconds, time.monotonic()

    def keep() -> None:
        fuzz.seconds = before + time.monotonic() - start
        if state is not None:
            with atomic_write(state) as part:
                part.write_text(json.dumps(fuzz.state), encoding="utf-8")

    # Some of what is given names files.
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        while fuzz.done < number and time.monotonic() - start < 60 * minutes:
            fuzz.step()
            if fuzz.done % EVERY == 0:
                keep()
    keep()
    result = fuzz.result()
    if out is not None:
        with atomic_write(out) as part:
            part.write_text(json.dumps(result, indent=1), encoding="utf-8")
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Fuzz, and print what became of the calls as one JSON object."""
    arguments = parser("fuzz", __doc__)
    arguments.add_argument("--calls", type=int, default=2000)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--out", type=Path, metavar="FILE", help="for the result and the state")
    arguments.add_argument("--minutes", type=float, default=120.0, help="the most to take")
    arguments.add_argument("--only", default="", help="functions whose name contains this")
    chosen = arguments.parse_args(argv)
    result = measure(chosen.calls, chosen.seed, chosen.out, chosen.minutes, chosen.only)
    show(result | {"about": about()}, as_json=True)


if __name__ == "__main__":
    main()
