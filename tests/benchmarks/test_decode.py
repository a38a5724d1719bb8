"""The benchmark of language models says what it promises; how fast is never tested."""

from __future__ import annotations

import pytest

from benchmarks import decode


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_both_ways_to_decode_say_the_same(family: str) -> None:
    found = decode.decoding(family, batch=3, repeats=1)
    assert found["equal_tokens"] is True
    assert found["ratio"] > 0


def test_a_tiny_sweep_is_that_of_the_hooks() -> None:
    found = decode.sweep(examples=4, sample=2, repeats=1)
    assert (found["sweep_units"], found["sweep_examples"]) == (12 + 6, 4)
    assert found["sweep_largest_error"] < 1e-5
    assert found["sweep_ratio_hook"] > 0


@pytest.mark.slow
def test_a_stream_that_is_killed_loses_nothing() -> None:
    found = decode.stream(4200)
    assert found["stream_parts"] == 3
    assert found["stream_lost"] == 0
    assert found["stream_same_scores"] is True
