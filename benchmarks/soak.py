"""Random messages to the widgets, valid and not, and plain calls of the model beside them.

    python -m benchmarks.soak --messages 10000
    python -m benchmarks.soak --messages 10000 --out soak.json     goes on where it stopped
    python -m benchmarks.soak --messages 0 --interactions 10000    in a browser, with JupyterLab

Every widget is opened and closed on a few sessions of two small studies, is sent bursts of
requests, a third of them malformed, and now and then loses its channel. After each burst every view
must show the newest state. Then come two shorter parts: plain calls of the model in another thread
while a workbench is busy, and two workbenches on one study. Prints one JSON object:

- ``messages``; ``faults`` (raw errors, valid requests refused, malformed ones taken, messages that
  are no JSON, figures other than a fresh readout's); ``unanswered`` views; ``traces`` in the log
- ``rss_mb_first`` after the warm-up and ``rss_mb_last``, of this process
- ``identical``: models and outputs are bitwise as they were, hooks and flags included
- ``plain_calls``, ``plain_wrong``; ``clicks``, ``click_errors``
- ``interactions`` in a browser, and what :mod:`benchmarks.soak_browser` says of them
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import torch

import memviz as mv
from benchmarks.report import about
from benchmarks.soak_beside import plain_calls, two_workbenches
from benchmarks.soak_browser import in_browser
from benchmarks.soak_messages import bad, good
from benchmarks.soak_world import (
    Model,
    Shown,
    resident_mb,
    scenes,
    settled,
    strokes,
    traces_caught,
)
from memviz.tensor_files import atomic_write

CHUNK = 250  # messages between two looks at the memory
BURST = 40  # messages between two waits for the answers, at most
WARM = 2000  # messages before the memory is first read
MALFORMED = 0.33
_KEPT = 40  # faults that are written out
_OPENS = (
    *(mv.workbench, mv.layer_list, mv.unit_map, mv.example_gallery, mv.readout_view),
    *(mv.timeline, mv.inspector, mv.score_scatter),
)


class Soak:
    """Sessions, their open views, and all that went wrong."""

    def __init__(self) -> None:
        self.study, self.twin = strokes(), strokes()
        self.retrieval = scenes()
        target = self.retrieval.target
        shown = (torch.zeros(2, 3, 24, 24), target.tokenizer(["a seven", "a nine"]))
        self.models = [
            Model(self.study.model, (self.study.inputs,)),  # type: ignore[arg-type]
            Model(target.model, shown),
        ]
        self.sessions = [mv.Session(self.study) for _ in range(2)]
        self.shown: list[Shown] = []
        self.faults: list[str] = []
        self.unanswered: list[str] = []
        self.refused = 0

    def burst(self, draw: np.random.Generator, messages: int) -> None:
        """Send messages, then wait for the answers and check them."""
        self._open_and_close(draw)
        for _ in range(messages):
            shown = self.shown[int(draw.integers(len(self.shown)))]
            shown.channel.fails = bool(draw.random() < 0.01)
            self._send(shown, draw)
        for shown in self.shown:
            if shown.channel.fails:
                shown.channel.fails = False
                shown.hear({"type": "hello"})
        self._check()

    def close(self) -> None:
        """Close every view, and wait for the threads."""
        while self.shown:
            self._close(self.shown.pop())

    def _send(self, shown: Shown, draw: np.random.Generator) -> None:
        view, channel = shown.view, shown.channel
        parts = set(getattr(view.controller, "parts", ()))
        known = [score["key"] for score in channel.newest.get("study", {}).get("scores", ())]
        malformed = draw.random() < MALFORMED
        if malformed:
            content = bad(draw, view.part, parts)
        else:
            content = good(draw, view.session, view.part, parts, known or ["effect"])
        before = len(channel.errors)
        shown.hear(content)
        errors = channel.errors[before:]
        del channel.errors[before:]  # what is left there comes from the background
        if malformed and not errors and not channel.fails:
            self.faults.append(f"taken: {content!r:.300}")
        may = isinstance(content, dict) and content.get("type") == "top"
        if not malformed and errors and not may:
            self.faults.append(f"refused: {content!r:.300}: {errors[0]}")
        self.refused += malformed and bool(errors)

    def _check(self) -> None:
        for shown in self.shown:
            if not settled(shown.view):
                self.unanswered.append(f"{shown.view.part} goes on for too long")
            elif lack := shown.answered():
                self.unanswered.append(lack)
            self.faults += shown.channel.wrong
            self.faults += [f"in the background: {text}" for text in shown.channel.errors]
            shown.channel.wrong.clear()
            shown.channel.errors.clear()
        view = self.shown[0].view
        if view.part != "deja_vu" and not view.session.variant:
            session, told = view.session, self.shown[0].channel.newest["readout"]["sentence"]
            fresh = mv.readout(self.twin, session.units, session.how, random_draws=0).sentence
            if told != fresh:
                self.faults.append(f"told {told!r}, but {fresh!r} is right")

    def _open_and_close(self, draw: np.random.Generator) -> None:
        while len(self.shown) < 3 or (len(self.shown) < 8 and draw.random() < 0.5):
            if draw.random() < 0.15:
                self.shown.append(Shown(mv.deja_vu(self.retrieval)))
                continue
            session = self.sessions[int(draw.integers(len(self.sessions)))]
            opens = _OPENS[int(draw.integers(len(_OPENS)))]
            self.shown.append(Shown(opens(session)))
        if draw.random() < 0.5:
            self._close(self.shown.pop(int(draw.integers(len(self.shown)))))
        if draw.random() < 0.1:
            number = int(draw.integers(len(self.sessions)))
            for shown in [s for s in self.shown if s.view.session is self.sessions[number]]:
                self.shown.remove(shown)
                self._close(shown)
            self.sessions[number] = mv.Session(self.study)
            self.shown.append(Shown(mv.workbench(self.sessions[number])))

    def _close(self, shown: Shown) -> None:
        with shown.view:
            self.faults += shown.channel.wrong


def messages_part(messages: int, seed: int, out: Path | None, minutes: float) -> dict[str, Any]:
    """Send the messages, chunk by chunk; what ``out`` holds is not sent again."""
    state = _restored(out, seed)
    soak, begun = Soak(), time.monotonic()
    first = 0.0
    start = state["messages"]
    with traces_caught() as traces, tempfile.TemporaryDirectory() as folder, chdir(folder):
        while state["messages"] < messages:
            # A chunk of its own draws, so that a resumed run sends what an unbroken one would.
            draw = np.random.default_rng([seed, state["messages"]])
            left = min(CHUNK, messages - state["messages"])
            while left > 0:
                count = min(left, int(draw.integers(1, BURST)))
                soak.burst(draw, count)
                left -= count
                state["messages"] += count
            for page in Path().glob("*.html"):
                page.unlink()
            now = resident_mb()
            if not first and state["messages"] - start >= min(WARM, (messages - start) // 3):
                first = now
            state |= {"rss_mb_first": first, "rss_mb_last": now}
            _gather(state, soak, traces)
            if out is not None:
                _write(out, state)
            if time.monotonic() - begun > 60 * minutes:
                break
        soak.close()
    _gather(state, soak, traces)
    changes = [change for model in soak.models for change in model.changes()]
    state["changed"] = sorted({*state["changed"], *changes})
    state["identical"] = not state["changed"]
    state["seconds"] += round(time.monotonic() - begun, 1)
    state["complete"] = state["messages"] >= messages
    if out is not None:
        _write(out, state)
    return state


def _restored(out: Path | None, seed: int) -> dict[str, Any]:
    if out is not None and out.is_file():
        state: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
        if state.get("seed") != seed:
            raise SystemExit(f"{out} is of --seed {state.get('seed')}; name another file.")
        return state
    counts = dict.fromkeys(("messages", "faults", "unanswered", "traces", "refused"), 0)
    lists: dict[str, list[str]] = {"fault_texts": [], "changed": []}
    return {"benchmark": "soak", "seed": seed, **counts, **lists, "seconds": 0.0}


def _gather(state: dict[str, Any], soak: Soak, traces: list[str]) -> None:
    found = {"faults": soak.faults, "unanswered": soak.unanswered, "traces": traces}
    for name, texts in found.items():
        state[name] += len(texts)
        room = _KEPT - len(state["fault_texts"])
        state["fault_texts"] += [f"{name}: {text}" for text in texts[: max(0, room)]]
        texts.clear()
    state["refused"] += soak.refused
    soak.refused = 0


def _write(out: Path, state: dict[str, Any]) -> None:
    with atomic_write(out) as part:
        part.write_text(json.dumps(state, indent=1), encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> None:
    """Soak and print."""
    words = argparse.RawDescriptionHelpFormatter
    arguments = argparse.ArgumentParser(
        prog="python -m benchmarks soak", description=__doc__, formatter_class=words
    )
    arguments.add_argument("--messages", type=int, default=10_000)
    arguments.add_argument("--plain-calls", type=int, default=5000, help="0 leaves the part out")
    arguments.add_argument("--clicks", type=int, default=500, help="0 leaves the part out")
    arguments.add_argument("--interactions", type=int, default=0, help="in a browser")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument(
        "--minutes", type=float, default=60, help="for messages and for interactions, at most"
    )
    arguments.add_argument("--out", type=Path, help="keeps the state; a second run goes on from it")
    arguments.add_argument("--json", action="store_true", help="it prints JSON anyway")
    chosen = arguments.parse_args(argv)
    out = None if chosen.out is None else chosen.out.absolute()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    state: dict[str, Any] = {"benchmark": "soak", "seed": chosen.seed, "complete": False}
    if chosen.messages:
        state = messages_part(chosen.messages, chosen.seed, out, chosen.minutes)
    if state["complete"]:
        state |= {} if not chosen.plain_calls else plain_calls(chosen.plain_calls, chosen.seed)
        state |= {} if not chosen.clicks else two_workbenches(chosen.clicks, chosen.seed)
    if chosen.interactions:
        state |= in_browser(chosen.interactions, chosen.seed, chosen.minutes)
    if out is not None and chosen.messages:
        _write(out, state)
    print(json.dumps({**state, "about": about()}, indent=1))


if __name__ == "__main__":
    main()
