"""The score picker offers every localizer, and computes one when it is chosen, once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import memviz as mv
from memviz.probes.contest import LOCALIZERS, fits
from memviz.widgets.scatter import Scatter
from memviz.widgets.workbench import Controller, _choices, _localizers
from tests.support.widgets import Ear, ask, decoded, flat_study, listening, small_study

WAIT = 30  # s before a test that hangs fails
Install = Callable[..., None]


@pytest.fixture(scope="module")
def study() -> mv.Study:
    return small_study()


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts localizers in place of all others."""

    def put(**localizers: Callable[[mv.Study], mv.Scores]) -> None:
        for module in (_choices, _localizers):
            monkeypatch.setattr(module, "LOCALIZERS", localizers)

    return put


def third_unit(study: mv.Study) -> mv.Scores:
    """Scores for two units of fc, one of them unknown to the map."""
    units = (mv.Unit("fc", 3), mv.Unit("elsewhere", 0))
    return mv.Scores("whatever", "volts", np.array([7.0, 9.0]), units=units)


class Slow:
    """A localizer that waits until it is let go, and counts its calls."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self.studies: list[mv.Study] = []

    def __call__(self, study: mv.Study) -> mv.Scores:
        self.studies.append(study)
        self.begun.set()
        assert self.go.wait(WAIT)
        return third_unit(study)


@pytest.fixture
def threaded(study: mv.Study) -> Iterator[tuple[Controller, Ear]]:
    controller, ear = Controller(mv.Session(study)), Ear()
    controller.sinks.append(ear)
    controller.receive({"type": "hello"}, ear)
    ear.wait("progress", total=0)  # the sweep has ended
    ear.forget()
    yield controller, ear
    controller.close()


def test_every_localizer_is_offered_once(study: mv.Study) -> None:
    controller, _ = listening(study)
    picks = controller.scores.picks()
    assert [pick["group"] for pick in picks] == ["exact"] + ["localizers"] * (len(picks) - 1)
    labels = [pick["label"] for pick in picks[3:]]
    assert labels == [
        name
        for name in LOCALIZERS
        if name not in {"exact ablation", "estimate", "conductance"} and fits(name, study)
    ]
    assert "ClassMem" in labels and "slimming" not in labels  # which reads passages
    assert len({pick["key"] for pick in picks}) == len(picks)


@pytest.mark.parametrize("name", ["UnitMem", "TracIn of a unit", "gradient × activation"])
def test_one_is_computed_when_it_is_chosen(study: mv.Study, name: str) -> None:
    controller, ear = listening(study)
    key = f"localizer: {name}"
    assert controller.scores.ranking(key) == []
    ask(controller, ear, "score", key=key)
    told = ear.last("scores", key=key)
    expected = LOCALIZERS[name](study)
    np.testing.assert_allclose(decoded(told)["value"], expected.values, rtol=1e-5, atol=1e-6)
    assert told.content["label"] == name and told.content["measure"] == expected.measure
    progress = ear.of("progress")
    assert progress[-1]["total"] == 0
    ask(controller, ear, "top", k=2)
    assert mv.UnitSet.parse(ear.last("state").content["units"]) == expected.top(2)


def test_what_a_localizer_does_not_score_is_unknown(study: mv.Study, install: Install) -> None:
    install(mine=third_unit)
    controller, ear = listening(study)
    ask(controller, ear, "score", key="localizer: mine")
    arrays = decoded(ear.last("scores", key="localizer: mine"))
    assert np.flatnonzero(arrays["state"]).tolist() == [17] and arrays["value"][17] == 7
    assert np.isnan(arrays["value"]).sum() == 19


def test_each_is_computed_once_for_each_variant(install: Install) -> None:
    seen: list[torch.Tensor] = []

    def mine(study: mv.Study) -> mv.Scores:
        weights = study.model.get_submodule("conv1").weight.detach().clone()
        seen.append(weights)
        return mv.Scores("mine", "", weights.flatten(1).sum(1).numpy(), units=units)

    units = tuple(mv.Unit("conv1", index) for index in range(3))
    install(mine=mine, other=third_unit)
    study = small_study()
    before = {name: value.clone() for name, value in study.model.state_dict().items()}
    before["conv1.weight"] = -before["conv1.weight"]
    study = small_study(checkpoints={1: before, 2: study.model.state_dict()})
    controller, ear = listening(study)
    for key in ("localizer: mine", "localizer: other", "localizer: mine"):
        ask(controller, ear, "score", key=key)
    assert len(seen) == 1
    now = decoded(ear.last("scores", key="localizer: mine"))["value"]
    ask(controller, ear, "variant", key="epoch 1")
    assert len(seen) == 2
    # Not that of the variant looked at before; the one that no view shows is not computed.
    np.testing.assert_allclose(
        decoded(ear.last("scores", key="localizer: mine"))["value"][:3], -now[:3]
    )
    assert ear.last("scores", key="localizer: other").content["done"] == 0
    ear.forget()
    ask(controller, ear, "undo")
    assert len(seen) == 2 and ear.last("scores", key="localizer: other").content["done"] == 1
    np.testing.assert_array_equal(decoded(ear.last("scores", key="localizer: mine"))["value"], now)
    # Another intervention is nothing to a localizer.
    ask(controller, ear, "intervention", key="mean")
    assert len(seen) == 2


def test_one_that_fails_says_why_and_the_next_one_works() -> None:
    controller, ear = listening(flat_study())
    ask(controller, ear, "score", key="localizer: UnitMem")
    assert ear.of("error")[-1]["text"].startswith(
        "UnitMem cannot be computed: this study has only the group 'test'"
    )
    assert ear.of("progress")[-1]["total"] == 0
    ask(controller, ear, "score", key="estimate")
    assert ear.last("scores", key="estimate").content["total"] == 8
    ask(controller, ear, "toggle", units="0:1")
    assert ear.last("readout").content["units"] == 1


def test_one_that_returns_something_else(study: mv.Study, install: Install) -> None:
    install(
        mine=lambda study: 5,
        ours=lambda study: mv.Scores("e", "", np.zeros(1), examples=np.zeros(1, int)),
    )
    controller, ear = listening(study)
    for name, what in (("mine", "int"), ("ours", "scores of examples")):
        ask(controller, ear, "score", key=f"localizer: {name}")
        text = f"{name} cannot be computed: it returned {what}, not scores over units."
        assert ear.of("error")[-1]["text"] == text


def test_both_axes_of_the_scatter_may_be_localizers(study: mv.Study, install: Install) -> None:
    def fails(study: mv.Study) -> mv.Scores:
        raise RuntimeError("out of luck")

    install(mine=third_unit, fails=fails, other=third_unit)
    controller, ear = listening(study)
    controller.part(Scatter)
    keys = {"x": "localizer: fails", "y": "localizer: mine"}
    ask(controller, ear, "axes", keys=keys)
    assert ear.of("error")[-1]["text"] == "fails cannot be computed: out of luck"
    assert ear.last("scores", key="localizer: mine").content["done"] == 1
    assert controller.part(Scatter).axes == tuple(keys.values())
    ask(controller, ear, "axes", keys={"x": "localizer: other"})
    assert controller.scores.shown("localizer: other").name == "other"
    assert np.isfinite(controller.scores.shown("localizer: other").values).sum() == 1


def test_no_score_of_the_users_own_may_have_the_key_of_one(study: mv.Study) -> None:
    with pytest.raises(ValueError, match="'localizer: UnitMem' is a score of every unit map"):
        Controller(mv.Session(study), {"localizer: UnitMem": third_unit(study)}, threaded=False)


# In a thread --------------------------------------------------------------------------------------


def test_clicks_are_answered_while_a_localizer_computes(
    threaded: tuple[Controller, Ear], study: mv.Study, install: Install
) -> None:
    controller, ear = threaded
    slow = Slow()
    install(slow=slow)
    controller.receive({"type": "score", "key": "localizer: slow"}, ear)
    assert slow.begun.wait(WAIT)
    # Its hooks cannot disturb a click: the model is a copy.
    assert slow.studies[0].model is not study.model
    controller.receive({"type": "toggle", "units": "fc:2"}, ear)
    ear.wait("readout", units=1)
    assert ear.wait("progress", total=1)["words"].startswith("computing slow, ")
    assert ear.of("scores") == []
    slow.go.set()
    told = ear.wait("scores", key="localizer: slow")
    assert told["done"] == 1 and len(slow.studies) == 1


def test_cancel_drops_the_result_and_choosing_again_finds_it(
    threaded: tuple[Controller, Ear], install: Install
) -> None:
    controller, ear = threaded
    slow = Slow()
    install(slow=slow)
    controller.receive({"type": "score", "key": "localizer: slow"}, ear)
    assert slow.begun.wait(WAIT)
    controller.receive({"type": "cancel"}, ear)
    ear.wait("progress", total=0)
    (run,) = controller.scores._localizers._runs.values()
    slow.go.set()
    assert run.done.wait(WAIT)
    ear.forget()
    controller.receive({"type": "toggle", "units": "fc:2"}, ear)
    ear.wait("random", draws=20)
    assert ear.of("scores") == []
    controller.receive({"type": "score", "key": "localizer: slow"}, ear)
    assert ear.wait("scores", key="localizer: slow")["done"] == 1
    assert len(slow.studies) == 1


def test_only_the_last_one_chosen_waits_for_its_turn(
    threaded: tuple[Controller, Ear], install: Install
) -> None:
    controller, ear = threaded
    slow, skipped, last = Slow(), Slow(), Slow()
    install(slow=slow, skipped=skipped, last=last)
    skipped.go.set()
    last.go.set()
    controller.receive({"type": "score", "key": "localizer: slow"}, ear)
    assert slow.begun.wait(WAIT)
    for name in ("skipped", "last"):
        controller.receive({"type": "score", "key": f"localizer: {name}"}, ear)
        waiting = ear.wait("progress", words=f"waiting to compute {name}, 0 s")
        assert waiting["total"] == 1
    slow.go.set()
    assert ear.wait("scores", key="localizer: last")["done"] == 1
    assert skipped.studies == [] and len(last.studies) == 1


def test_a_run_that_is_withdrawn_as_it_begins_is_no_error(
    threaded: tuple[Controller, Ear], install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller, ear = threaded
    slow, other = Slow(), Slow()
    install(slow=slow, other=other)
    real, over = _localizers.start_thread, threading.Event()

    def withdrawn(*given: Any) -> threading.Thread:
        monkeypatch.setattr(_localizers, "start_thread", real)
        controller.cancel()  # between two lines of the worker's thread
        over.set()
        return real(*given)

    monkeypatch.setattr(_localizers, "start_thread", withdrawn)
    controller.receive({"type": "score", "key": "localizer: slow"}, ear)
    slow.go.set()
    other.go.set()
    assert over.wait(WAIT)
    controller.receive({"type": "score", "key": "localizer: other"}, ear)
    assert ear.wait("scores", key="localizer: other")["done"] == 1
    assert ear.of("error") == []


class Stubborn(nn.Sequential):
    """Cannot be copied."""

    def __deepcopy__(self, memo: Any) -> Stubborn:
        raise RuntimeError("there can be only one")


def test_of_a_model_that_cannot_be_copied_modules_around_the_same_weights_are_used(
    install: Install,
) -> None:
    study = flat_study(groups={"memorized": range(5), "clean": range(5, 30)})
    study.model = Stubborn(*study.model).eval()
    seen: list[mv.Study] = []

    def mine(study: mv.Study) -> mv.Scores:
        seen.append(study)
        return mv.Scores("mine", "", np.ones(1), units=(mv.Unit("0", 1),))

    install(mine=mine)
    controller, ear = Controller(mv.Session(study)), Ear()
    controller.sinks.append(ear)
    controller.receive({"type": "hello"}, ear)
    controller.receive({"type": "score", "key": "localizer: mine"}, ear)
    assert ear.wait("scores", key="localizer: mine")["done"] == 1
    own = seen[0].model
    assert own is not study.model and own[0].weight is study.model[0].weight
    controller.close()
