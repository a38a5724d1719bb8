"""Where all examples take long, the first group is answered ahead of them."""

from __future__ import annotations

import pytest
import torch

import memviz as mv
from memviz.widgets.workbench import Controller, _answers
from tests.support.widgets import Ear, listening, small_study

Pair = tuple[Controller, Ear]


@pytest.fixture
def view() -> Pair:
    controller, ear = listening(small_study())
    controller.worker.run_until_idle()
    slow(controller)
    ablate((controller, ear), "conv1:1 fc:0")  # and in idle time the first group is recorded
    slow(controller)
    ear.forget()
    return controller, ear


def slow(controller: Controller, seconds: float = 10.0) -> None:
    """Let every answer have taken that long."""
    layers = [layer.name for layer in controller.session.known]
    controller._answers.took = dict.fromkeys(layers, seconds)


def ablate(view: Pair, units: str) -> None:
    controller, ear = view
    controller.receive({"type": "set", "units": units}, ear)
    controller.worker.run_until_idle()


def test_the_first_group_goes_ahead_with_the_same_figures(view: Pair) -> None:
    ablate(view, "conv1:0 fc:2")
    ear = view[1]
    kinds = [m.content["type"] for m in ear.heard if m.content["type"] in ("ahead", "readout")]
    assert kinds == ["ahead", "readout"]
    ahead, readout = ear.of("ahead")[0], ear.of("readout")[0]
    assert ahead["version"] == readout["version"]
    assert [group["name"] for group in ahead["groups"]] == ["memorized"]
    for side in ("before", "after"):
        assert ahead["groups"][0].pop(side) == pytest.approx(
            readout["groups"][0].pop(side), abs=1e-5
        )
    assert ahead["groups"][0] == readout["groups"][0]  # its counts
    assert ahead["sentence"].startswith("2 of 20 units ablated: memorized ")
    assert ahead["sentence"].endswith("; the rest is on its way.")


def test_a_quick_answer_comes_in_one_piece(view: Pair) -> None:
    slow(view[0], 0.02)
    ablate(view, "fc:2,3")
    assert view[1].of("ahead") == [] and len(view[1].of("readout")) == 1


def test_a_single_unit_that_the_page_knows_is_not_said_ahead(view: Pair) -> None:
    ablate(view, "conv1:0")
    assert view[1].of("ahead") == [] and len(view[1].of("readout")) == 1
    view[0]._singles.of("zero", view[0].effects["zero"]).known[:] = False
    slow(view[0])
    ablate(view, "conv1:2")
    assert len(view[1].of("ahead")) == 1


def test_the_first_group_is_recorded_in_idle_time_alone() -> None:
    controller, ear = listening(small_study())
    controller.worker.run_until_idle()
    slow(controller)
    for ahead in (0, 1):
        slow(controller)
        ablate((controller, ear), f"conv1:0 fc:{ahead}")
        assert len(ear.of("ahead")) == ahead


def test_how_long_a_set_takes_is_known_by_its_first_layer(view: Pair) -> None:
    view[0]._answers.took = {"conv1": 10.0, "fc": 0.01}
    ablate(view, "fc:1,2")
    assert view[1].of("ahead") == []
    ablate(view, "fc:1,2 conv1:0")
    assert len(view[1].of("ahead")) == 1


@pytest.mark.parametrize("how", ["mean", "resample"])
def test_a_group_alone_has_another_mean(view: Pair, how: str) -> None:
    controller, ear = view
    controller.session.use(mv.Mean() if how == "mean" else mv.Resample())
    slow(controller)
    ablate(view, "fc:2,3")
    assert ear.of("ahead") == [] and ear.of("readout")


def test_a_group_of_most_examples_would_not_be_there_sooner() -> None:
    controller, ear = listening(small_study(groups={"test": range(50), "rest": range(50, 60)}))
    controller.worker.run_until_idle()
    for units in ("fc:1,2", "fc:2,3"):
        slow(controller)
        ablate((controller, ear), units)
    assert ear.of("ahead") == []


def test_no_unit_ablated_is_known_at_once(view: Pair) -> None:
    ablate(view, "fc:2")
    view[1].forget()
    ablate(view, "")
    assert view[1].of("ahead") == [] and view[1].of("readout")


def test_how_long_an_answer_took_is_remembered(view: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    controller, _ = view
    controller._answers.took = {}
    ticks = iter([5.0, 7.5, *[8.0] * 99])
    monkeypatch.setattr(_answers.time, "monotonic", lambda: next(ticks))
    session = controller.session
    kind = mv.Zero()
    found = controller._answers.outputs(mv.UnitSet.parse("fc:1"), kind, lambda: False, print)
    assert controller._answers.took == {"fc": 2.5}
    assert torch.allclose(found, session.replay.outputs("fc:1"), atol=1e-5)
