"""Fuzzed calls of the most used functions: no raw error, no wrong answer; a run goes on later."""

import json
import time
from contextlib import suppress

import pytest

from benchmarks import fuzz
from benchmarks.fuzz_calls import calls

MOST_USED = ("memviz.sweep", "memviz.estimate", "memviz.readout", "memviz.greedy")


@pytest.fixture(scope="module")
def known():
    return [call for call in calls(papers=False) if call.name in MOST_USED]


def test_no_error_is_raw_and_no_answer_wrong(known, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)  # some of what is given names files
    run = fuzz.Fuzz(known, seed=0)
    while run.done < 250:
        run.step()
    result = run.result()
    assert result["functions"] == len(MOST_USED)
    assert (result["raw"], result["wrong"]) == (0, 0), result["examples"]
    assert result["plausible_mistakes"] > 200 and result["refused"] > 150


def test_a_call_is_stopped_even_where_the_first_alarm_is_dropped() -> None:
    began = time.monotonic()

    def wait() -> None:
        while time.monotonic() - began < 60:
            pass

    with pytest.raises(fuzz.TooLong), fuzz.quiet(0.05):
        with suppress(fuzz.TooLong):  # as Python does where it lands in a finalizer
            wait()
        wait()


def test_a_run_goes_on_where_it_ended(known, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(fuzz, "calls", lambda: known)
    whole = fuzz.measure(30, 1, tmp_path / "whole.json", minutes=5.0, only="")
    out = tmp_path / "parts.json"
    fuzz.measure(12, 1, out, minutes=5.0, only="")
    parts = fuzz.measure(30, 1, out, minutes=5.0, only="")
    del whole["seconds"], parts["seconds"]
    assert parts == whole and json.loads(out.read_text())["calls"] == 30
