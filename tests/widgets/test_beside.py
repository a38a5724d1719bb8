"""A user's own calls of the model beside a busy workbench, and two workbenches on one study."""

from __future__ import annotations

import pytest

from benchmarks.soak_beside import plain_calls, two_workbenches


@pytest.mark.parametrize("seed", [0, 1])
def test_plain_calls_beside_a_busy_workbench_are_never_ablated(seed: int) -> None:
    found = plain_calls(400, seed)
    assert found["plain_messages"] > 5
    assert (found["plain_wrong"], found["plain_error_texts"]) == (0, [])
    assert found["plain_identical"]


def test_two_workbenches_on_one_study_leave_the_model_as_it_was() -> None:
    found = two_workbenches(40, seed=0)
    assert (found["click_error_texts"], found["click_unanswered"]) == ([], 0)
    assert found["click_identical"]
