"""A user's own cells beside a busy workbench, and two workbenches on one study."""

from __future__ import annotations

import random
import threading
import time

import numpy as np
import pytest
import torch

import memviz as mv
from benchmarks.soak_beside import plain_calls, two_workbenches
from benchmarks.soak_world import Shown, strokes
from memviz.probes.attribution import attribute_inputs


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


def test_two_attributions_at_once_leave_the_switches_of_attention_as_they_were() -> None:
    study, images = strokes(), torch.arange(3)
    threads = [
        threading.Thread(target=lambda: [attribute_inputs(study, images) for _ in range(15)])
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torch.backends.cuda.flash_sdp_enabled()
    assert torch.backends.cuda.mem_efficient_sdp_enabled()


def test_random_numbers_drawn_in_a_cell_are_those_of_a_kernel_without_widgets() -> None:
    def draw() -> tuple[float, float, float]:
        return float(torch.rand(())), float(np.random.rand()), random.random()  # noqa: NPY002

    def seed() -> None:
        torch.manual_seed(3)
        np.random.seed(3)  # noqa: NPY002
        random.seed(3)

    with torch.random.fork_rng(devices=[]):
        seed()
        expected = [draw() for _ in range(2000)]
        shown = Shown(mv.workbench(strokes()))
        seed()
        drawn = []
        for number in range(2000):
            drawn.append(draw())
            if number % 50 == 0:
                shown.hear({"type": "toggle", "units": f"conv4:{number // 50 % 4}"})
                shown.hear({"type": "open", "example": number // 50})
                shown.hear({"type": "score", "key": "localizer: UnitMem"})
            time.sleep(0.001)
        with shown.view:
            assert drawn == expected
