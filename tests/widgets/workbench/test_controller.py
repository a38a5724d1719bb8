"""What a view asks and is told: every action, bad messages, bursts, sweeps, failures."""

from __future__ import annotations

import json
import os
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import memviz as mv
from memviz.session import _session as session_module
from memviz.widgets.core import _controller as telling
from memviz.widgets.core import _messages as messages
from memviz.widgets.workbench import Controller
from memviz.widgets.workbench import _scores as shown_scores
from tests.support.widgets import Ear, ask, decoded, flat_study, listening, pair_study, small_study

Pair = tuple[Controller, Ear]
UNITS = "conv4:1 fc:2"


@pytest.fixture(autouse=True)
def a_unit_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """So small a network would be swept in one step."""
    monkeypatch.setattr("memviz.engine.sweep._steps._MOST", 1)


@pytest.fixture(scope="module")
def study() -> mv.Study:
    return small_study()


@pytest.fixture
def view(study: mv.Study) -> Pair:
    """A controller that has answered everything, and its only view, which remembers nothing."""
    controller, ear = listening(study)
    ear.forget()
    return controller, ear


def state(ear: Ear) -> dict[str, Any]:
    return ear.last("state").content


def accuracies(content: dict[str, Any]) -> dict[str, float]:
    return {group["name"]: group["after"]["accuracy"] for group in content["groups"]}


def agrees(study: mv.Study, ear: Ear) -> None:
    """The newest readout is that of the newest state, computed afresh."""
    now, message = state(ear), ear.last("readout")
    fresh = mv.readout(study, now["units"], now["intervention"], random_draws=0)
    assert message.content["version"] == now["version"]
    assert message.content["sentence"] == fresh.sentence
    assert accuracies(message.content) == {n: g.after.accuracy for n, g in fresh.groups.items()}
    arrays = decoded(message)
    np.testing.assert_array_equal(arrays["after"], fresh.after)
    np.testing.assert_allclose(arrays["change"], fresh.margin_change, atol=1e-5)


# The first answer ---------------------------------------------------------------------------------


def test_hello_is_answered_by_everything(study: mv.Study) -> None:
    _, ear = listening(study)
    kinds = [content["type"] for content, _ in ear.heard]
    assert kinds[:3] == ["study", "state", "sprites"]
    assert {"readout", "scores"} <= set(kinds)
    assert ear.last("scores", key="effect").content["done"] == 20
    assert ear.of("error") == []
    agrees(study, ear)


def test_a_second_view_is_told_what_is_known(view: Pair) -> None:
    controller, _ = view
    ask(controller, Ear(), "toggle", units=UNITS)
    second = Ear()
    controller.receive({"type": "hello"}, second)
    kinds = [content["type"] for content, _ in second.heard]
    assert kinds[:3] == ["study", "state", "sprites"]
    assert kinds.index("readout") < kinds.index("random")
    assert second.last("scores", key="effect").content["done"] == 20
    assert not any([controller.worker._answer, controller.worker._work])  # nothing made anew


def test_what_can_be_picked(study: mv.Study) -> None:
    _, ear = listening(study)
    content = ear.last("study").content
    first = content["scores"][:3]  # every localizer follows
    assert [score["key"] for score in first] == ["effect", "estimate", "conductance"]
    assert [score["kind"] for score in first] == ["exact", "estimate", "other"]
    assert [how["key"] for how in content["interventions"]] == ["zero", "mean", "filter"]
    assert "occlusion" in [method["key"] for method in content["methods"]]


def test_another_intervention_of_the_session_is_in_the_list(study: mv.Study) -> None:
    session = mv.Session(study)
    session.use("scale 0.5")
    controller, ear = Controller(session, threaded=False), Ear()
    controller.receive({"type": "hello"}, ear)
    keys = [how["key"] for how in ear.last("study").content["interventions"]]
    assert keys == ["zero", "mean", "filter", "scale 0.5"]


# Every action -------------------------------------------------------------------------------------


def test_toggle(view: Pair, study: mv.Study) -> None:
    controller, ear = view
    ask(controller, ear, "toggle", units="conv4:1")
    ask(controller, ear, "toggle", units="fc:2")
    assert state(ear)["units"] == UNITS
    agrees(study, ear)
    ask(controller, ear, "toggle", units="conv4:1")
    assert state(ear)["units"] == "fc:2"
    agrees(study, ear)


def test_set(view: Pair, study: mv.Study) -> None:
    controller, ear = view
    ask(controller, ear, "toggle", units="conv1:0")
    ask(controller, ear, "set", units=UNITS)
    assert state(ear)["units"] == UNITS
    agrees(study, ear)


@pytest.mark.parametrize("how", ["mean", "filter"])
def test_intervention(view: Pair, study: mv.Study, how: str) -> None:
    controller, ear = view
    ask(controller, ear, "set", units=UNITS)
    ask(controller, ear, "intervention", key=how)
    assert state(ear)["intervention"] == how
    assert ear.last("readout").content["intervention_words"]
    agrees(study, ear)


def test_layers(view: Pair) -> None:
    controller, ear = view
    ask(controller, ear, "layers", names=["fc", "conv2"])
    assert state(ear)["layers"] == ["conv2", "fc"]
    assert ear.last("readout").content["version"] == state(ear)["version"]


def test_top_takes_the_highest_exact_effects(view: Pair, study: mv.Study) -> None:
    controller, ear = view
    ask(controller, ear, "top", k=3)
    best = mv.sweep(study, progress=False).scores().top(3)
    assert state(ear)["top"] == 3
    assert mv.UnitSet.parse(state(ear)["units"]) == best
    agrees(study, ear)
    ask(controller, ear, "top", k=0)
    assert (state(ear)["top"], state(ear)["units"]) == (0, "")


def test_top_is_forgotten_when_it_is_no_longer_true(view: Pair) -> None:
    controller, ear = view
    for change in (
        {"kind": "toggle", "units": "conv1:0"},
        {"kind": "intervention", "key": "mean"},
        {"kind": "undo"},
        {"kind": "score", "key": "estimate"},
        {"kind": "reset"},
    ):
        ask(controller, ear, "top", k=2)
        assert state(ear)["top"] == 2
        ask(controller, ear, **change)
        assert state(ear)["top"] is None, change


def test_only_layers_that_are_shown_take_part_in_the_top(view: Pair, study: mv.Study) -> None:
    controller, ear = view
    best = mv.sweep(study, progress=False).scores()
    ask(controller, ear, "top", k=2)
    ask(controller, ear, "layers", names=["conv2", "fc"])
    assert state(ear)["top"] is None  # of other layers
    ask(controller, ear, "top", k=4)
    order = [best.units[row] for row in np.argsort(-best.values, kind="stable")]
    ranked = [unit for unit in order if unit.layer in ("conv2", "fc")]
    assert (state(ear)["top"], controller.session.units) == (4, mv.UnitSet(ranked[:4]))
    ear.forget()
    ask(controller, ear, "top", k=len(ranked) + 1)
    assert ear.of("error")[0]["text"].endswith(f"; {len(ranked)} have a score to rank by.")


def test_top_of_the_units_that_are_off_already_is_told(view: Pair) -> None:
    controller, ear = view
    ask(controller, ear, "top", k=2)
    units = state(ear)["units"]
    ask(controller, ear, "undo")
    ask(controller, ear, "set", units=units)
    assert state(ear)["top"] is None
    ask(controller, ear, "top", k=2)
    assert (state(ear)["top"], state(ear)["units"]) == (2, units)


def test_undo_redo_reset(view: Pair, study: mv.Study) -> None:
    controller, ear = view
    ask(controller, ear, "set", units="conv4:1")
    ask(controller, ear, "set", units=UNITS)
    ask(controller, ear, "undo")
    assert (state(ear)["units"], state(ear)["undo"], state(ear)["redo"]) == ("conv4:1", True, True)
    agrees(study, ear)
    ask(controller, ear, "undo")
    assert (state(ear)["units"], state(ear)["undo"]) == ("", False)
    agrees(study, ear)
    ask(controller, ear, "redo")
    ask(controller, ear, "redo")
    assert (state(ear)["units"], state(ear)["redo"]) == (UNITS, False)
    agrees(study, ear)
    ask(controller, ear, "reset")
    assert state(ear)["units"] == ""
    agrees(study, ear)
    ask(controller, ear, "undo")
    assert state(ear)["units"] == UNITS
    agrees(study, ear)


def test_the_undo_button_says_when_steps_are_forgotten(
    view: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller, ear = view
    monkeypatch.setattr(session_module, "HISTORY", 3)
    for unit in range(3):
        ask(controller, ear, "toggle", units=f"conv4:{unit}")
    assert state(ear)["history"] == ""
    ask(controller, ear, "toggle", units="fc:0")
    assert state(ear)["history"] == "Undo goes back 500 steps; older ones are forgotten."


def test_undo_to_the_ablation_shown_is_answered(study: mv.Study) -> None:
    controller, ear = listening(study)
    ask(controller, ear, "set", units=UNITS)
    # A toggle and its undo before the thread has looked: the figures still stand.
    controller.receive({"type": "toggle", "units": "conv1:0"}, ear)
    controller.receive({"type": "undo"}, ear)
    ear.heard = [m for m in ear.heard if m.content["type"] == "state"]
    controller.worker.run_until_idle()
    assert len(ear.of("readout")) == 1
    agrees(study, ear)
    assert ear.last("random").content["version"] == state(ear)["version"]


def test_score_shows_another_one(view: Pair) -> None:
    controller, ear = view
    ask(controller, ear, "score", key="estimate")
    assert state(ear)["score"] == "estimate"
    assert ear.last("scores", key="estimate").content["kind"] == "estimate"


def test_code_runs_and_rebuilds_the_state(view: Pair, study: mv.Study) -> None:
    controller, ear = view
    ask(controller, ear, "set", units=UNITS)
    ask(controller, ear, "intervention", key="mean")
    ask(controller, ear, "layers", names=["conv4", "fc"])
    ask(controller, ear, "open", example=4)
    ask(controller, ear, "code")
    text = ear.last("code").content["text"]
    names: dict[str, Any] = {"small_study": lambda: study}
    exec(text, names)
    assert names["session"].state == controller.session.state
    assert names["session"].opened == 4
    assert text.endswith("\nmv.workbench(session)\n")


def test_export_writes_beside_the_notebook(
    view: Pair, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller, ear = view
    course, runtime = tmp_path / "root" / "a course", tmp_path / "runtime"
    course.mkdir(parents=True)
    runtime.mkdir()
    monkeypatch.chdir(course)
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(runtime))
    ask(controller, ear, "export")
    assert ear.of("exported")[0]["href"] == ""  # no server has started this kernel
    server = {"root_dir": str(tmp_path / "root")}
    (runtime / f"jpserver-{os.getppid()}.json").write_text(json.dumps(server))
    ask(controller, ear, "export")
    assert {path.name for path in course.iterdir()} == {
        "memviz-strokes.html",
        "memviz-strokes-2.html",
    }
    assert ear.of("exported")[0]["text"] == "Saved as memviz-strokes.html."
    assert ear.of("exported")[1]["href"] == "files/a%20course/memviz-strokes-2.html"
    (runtime / f"jpserver-{os.getppid()}.json").write_text(json.dumps({"root_dir": str(runtime)}))
    ask(controller, ear, "export")
    assert ear.of("exported")[2]["href"] == ""  # the server does not serve this folder


# Bad messages -------------------------------------------------------------------------------------

BAD: list[Any] = [
    {"type": "toggle", "units": "conv9:1"},
    {"type": "toggle", "units": "conv4:99"},
    {"type": "toggle", "units": "fc"},
    {"type": "toggle", "units": "relu1:0"},
    {"type": "toggle", "units": 5},
    {"type": "toggle"},
    {"type": "set", "units": "head2:0"},
    {"type": "set", "units": None},
    {"type": "top", "k": -1},
    {"type": "top", "k": 21},
    {"type": "top", "k": "three"},
    {"type": "top", "k": 1.5},
    {"type": "top"},
    {"type": "layers", "names": ["conv9"]},
    {"type": "layers", "names": "conv1"},
    {"type": "layers"},
    {"type": "intervention", "key": "banana"},
    {"type": "intervention"},
    {"type": "score", "key": "banana"},
    {"type": "score", "key": ["effect"]},
    {"type": "method", "key": "banana"},
    {"type": "open", "example": 60},
    {"type": "open", "example": -1},
    {"type": "open", "example": "3"},
    {"type": "open"},
    {"type": "open", "example": 1.5},
    {"type": "open", "example": float("nan")},
    {"type": "open", "example": 10**30},
    {"type": "open", "example": True},
    {"type": "top", "k": 10**30},
    {"type": "toggle", "units": "conv4:0-9999999"},
    {"type": "toggle", "units": "x" * 10_000},
    {"type": "intervention", "key": "scale nan"},
    {"type": "layers", "names": [[None]]},
    {"type": "no such thing"},
    {"type": None},
    {"type": "_toggle"},
    {},
    [],
    "toggle",
    None,
]


@pytest.mark.parametrize("content", BAD, ids=repr)
def test_a_bad_message_gets_one_clear_line_and_changes_nothing(view: Pair, content: Any) -> None:
    controller, ear = view
    ask(controller, ear, "set", units=UNITS)
    before = {**state(ear)}
    ear.forget()
    controller.receive(content, ear)
    controller.worker.run_until_idle()
    (error,) = ear.of("error")
    text = error["text"]
    assert "\n" not in text and len(text.split()) > 5 and text.endswith(".") and len(text) < 450
    assert "object" not in text and "literal" not in text
    assert state(ear) == before
    assert ear.of("readout") == []


def test_an_unknown_layer_gets_the_nearest_names(view: Pair) -> None:
    controller, ear = view
    ask(controller, ear, "toggle", units="conv44:1")
    assert "'conv4'" in ear.of("error")[0]["text"]


def test_what_is_wrong_with_a_message_is_only_told_to_its_sender(view: Pair) -> None:
    controller, ear = view
    other = Ear()
    controller.sinks.append(other)
    ask(controller, ear, "toggle", units="conv9:1")
    assert other.heard == []


# The null -----------------------------------------------------------------------------------------


def test_random_units_stream_in_beside_the_readout(view: Pair, study: mv.Study) -> None:
    controller, ear = view
    ask(controller, ear, "set", units=UNITS)
    heard = ear.of("random")
    assert [content["draws"] for content in heard] == [1, 5, 20]
    assert {content["version"] for content in heard} == {state(ear)["version"]}
    fresh = mv.readout(study, UNITS)
    for group in heard[-1]["groups"]:
        assert group["accuracy"] == pytest.approx(fresh.random[group["name"]][:, 0].mean())


def test_a_whole_layer_has_no_random_units_beside_it(view: Pair, study: mv.Study) -> None:
    controller, ear = view
    (layer, *_) = controller.session.known
    ask(controller, ear, "set", units=f"{layer.name}:0-{layer.units - 1}")
    told = ear.last("random").content
    assert told["draws"] == 0 and told["groups"] == []
    assert told["words"].startswith("All units of these layers are off")
    assert told["version"] == state(ear)["version"]


def first_draw(controller: Controller, ear: Ear) -> None:
    """Work until the first random units are told: the readout, what it leaves to settle, a draw."""
    while not ear.of("random"):
        assert controller.worker._step()


def test_no_random_units_of_nothing(view: Pair) -> None:
    controller, ear = view
    controller.receive({"type": "set", "units": UNITS}, ear)
    first_draw(controller, ear)
    assert len(ear.of("random")) == 1
    ask(controller, ear, "undo")
    assert len(ear.of("random")) == 1
    assert "random" not in [content["type"] for content, _ in controller.snapshot()]


def test_a_click_stops_the_draws_of_the_last_one(view: Pair) -> None:
    controller, ear = view
    controller.receive({"type": "set", "units": UNITS}, ear)
    first_draw(controller, ear)
    ask(controller, ear, "toggle", units="fc:0")
    versions = [content["version"] for content in ear.of("random")]
    assert versions == [versions[0], *[state(ear)["version"]] * 3]


# The sweep ----------------------------------------------------------------------------------------


def test_the_sweep_streams_and_ends_exact(study: mv.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "TELL_EVERY", 0.0)
    monkeypatch.setattr(shown_scores, "TELL_EVERY", 0.0)
    _, ear = listening(study)
    done = [c["done"] for c in ear.of("scores") if c["key"] == "effect"]
    assert done[0] == 0 and done[-1] == 20 and done == sorted(done)
    assert len(set(done)) > 10
    arrays = decoded(ear.last("scores", key="effect"))
    exact = mv.sweep(study, progress=False)
    np.testing.assert_allclose(arrays["value"], exact.scores().values, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(arrays["lost"][:, 0], exact.lost("memorized"))
    busy = [c for c in ear.of("progress") if c["total"]]
    assert [c["done"] for c in busy] == list(range(1, 21))
    assert ear.of("progress")[-1]["total"] == 0


def test_units_with_the_largest_estimate_are_swept_first(study: mv.Study) -> None:
    controller, ear = begun(study, units=4)
    arrays = decoded(ear.last("scores", key="estimate"))
    done = np.flatnonzero(controller.effects["zero"].done)
    assert sorted(done) == sorted(np.argsort(-arrays["value"], kind="stable")[:4])


def test_an_estimate_is_never_ranked_among_exact_effects(study: mv.Study) -> None:
    controller, ear = begun(study, units=4)
    controller.scores.tell_effects("zero")
    controller.receive({"type": "top", "k": 5}, ear)
    assert "4 have a score" in ear.of("error")[0]["text"]
    controller.receive({"type": "top", "k": 4}, ear)
    chosen = mv.UnitSet.parse(state(ear)["units"])
    done = [
        controller.effects["zero"].units[row] for row in controller.effects["zero"].done.nonzero()
    ]
    assert chosen == mv.UnitSet(done)
    # By the estimate itself, all may be ranked.
    controller.receive({"type": "score", "key": "estimate"}, ear)
    controller.receive({"type": "top", "k": 20}, ear)
    assert len(mv.UnitSet.parse(state(ear)["units"])) == 20


def begun(study: mv.Study, units: int) -> Pair:
    """A sweep that has done some units: readout, estimate, then a step a unit."""
    controller, ear = Controller(mv.Session(study), threaded=False), Ear()
    controller.sinks.append(ear)
    controller.receive({"type": "hello"}, ear)
    for _ in range(2 + units):
        controller.worker._step()
    assert int(controller.effects["zero"].done.sum()) == units
    return controller, ear


def test_cancel_stops_the_sweep(study: mv.Study) -> None:
    controller, ear = begun(study, units=4)
    ask(controller, ear, "cancel")
    assert ear.of("progress")[-1]["total"] == 0
    ask(controller, ear, "toggle", units=UNITS)  # which does not begin it again
    assert int(controller.effects["zero"].done.sum()) == 4
    agrees(study, ear)


def test_a_sweep_cancelled_before_its_estimates_can_go_on(study: mv.Study) -> None:
    controller, ear = Controller(mv.Session(study), threaded=False), Ear()
    controller.sinks.append(ear)
    controller.receive({"type": "hello"}, ear)
    controller.worker._step()  # the readout
    ask(controller, ear, "cancel")
    told = ear.last("scores", key="effect").content
    assert (told["done"], told["total"], told["cancelled"]) == (0, 20, True)
    assert not decoded(ear.last("scores", key="effect"))["state"].any()
    assert "estimate" not in [told["key"] for told in ear.of("scores")]
    # Without estimates, whichever of the two is chosen goes on.
    ask(controller, ear, "score", key="estimate")
    told = ear.last("scores", key="effect").content
    assert (told["done"], told["cancelled"]) == (20, False)
    agrees(study, ear)


def test_effects_that_were_given_are_shown_before_the_estimates(study: mv.Study) -> None:
    effects = mv.sweep(study, top=3, progress=False)
    controller, ear = Controller(mv.Session(study), threaded=False), Ear()
    controller.scores.take(effects)
    controller.sinks.append(ear)
    controller.receive({"type": "hello"}, ear)
    while not ear.of("scores"):
        controller.worker._step()
    assert [(told["key"], told["done"]) for told in ear.of("scores")] == [("effect", 3)]
    assert ear.of("singles")
    controller.worker.run_until_idle()
    assert ear.last("scores", key="effect").content["done"] == 20


def test_cancel_of_nothing_is_no_error(view: Pair) -> None:
    controller, ear = view
    ask(controller, ear, "cancel")
    assert ear.of("error") == []


def test_no_progress_is_told_after_a_cancel(study: mv.Study) -> None:
    controller, ear = begun(study, units=1)
    # Cancelled in the middle of a step: what the step still says comes before the idle line.
    real, controller._told = controller.tell_progress, -1e9

    def cancelled_meanwhile(*words: Any) -> None:
        controller.receive({"type": "cancel"}, ear)
        real(*words)

    controller.tell_progress = cancelled_meanwhile  # type: ignore[method-assign]
    controller.worker.run_until_idle()
    assert [content["total"] for content in ear.of("progress")][-2:] == [20, 0]


def test_another_intervention_sweeps_anew(view: Pair, study: mv.Study) -> None:
    controller, ear = view
    ask(controller, ear, "intervention", key="mean")
    message = ear.last("scores", key="effect")
    assert (message.content["note"], message.content["done"]) == ("mean", 20)
    exact = mv.sweep(study, how="mean", progress=False).scores().values
    np.testing.assert_allclose(decoded(message)["value"], exact, rtol=1e-5, atol=1e-6)


def test_no_unit_is_ranked_by_the_effects_of_another_intervention(view: Pair) -> None:
    controller, ear = view
    controller.receive({"type": "intervention", "key": "mean"}, ear)
    controller.receive({"type": "top", "k": 3}, ear)
    assert "0 have a score" in ear.of("error")[0]["text"]


def test_going_back_shows_what_was_swept_without_doing_it_again(view: Pair) -> None:
    controller, ear = view
    ask(controller, ear, "intervention", key="mean")
    first = controller.effects["zero"]
    ear.forget()
    ask(controller, ear, "undo")
    assert controller.effects["zero"] is first
    message = ear.last("scores", key="effect")
    assert (message.content["note"], message.content["done"]) == ("zero", 20)
    assert not [content for content in ear.of("progress") if content["total"]]


def test_going_back_ends_a_sweep_that_was_left(study: mv.Study) -> None:
    controller, ear = begun(study, units=4)
    controller.receive({"type": "intervention", "key": "mean"}, ear)
    for _ in range(5):
        controller.worker._step()
    ask(controller, ear, "intervention", key="zero")
    assert ear.last("scores", key="effect").content["note"] == "zero"
    assert bool(controller.effects["zero"].done.all())
    exact = mv.sweep(study, progress=False)
    torch.testing.assert_close(controller.effects["zero"].margin_change, exact.margin_change)
    assert not bool(controller.effects["mean"].done.all())
    ask(controller, ear, "intervention", key="mean")
    assert bool(controller.effects["mean"].done.all())


# The opened example -------------------------------------------------------------------------------


def test_an_opened_example_before_and_after(view: Pair, study: mv.Study) -> None:
    controller, ear = view
    ask(controller, ear, "set", units=UNITS)
    ask(controller, ear, "open", example=3)
    message = ear.last("example")
    content, arrays = message.content, decoded(message)
    assert (content["index"], content["group"]) == (3, "memorized")
    assert content["target"] == int(study.labels[3])
    assert study.true_labels is not None and content["truth"] == int(study.true_labels[3])
    assert arrays["image"].dtype == np.uint8 and arrays["image"].shape == (8, 8, 1)
    with torch.no_grad():
        before = study.model(study.batch(torch.arange(60)))[3].softmax(0)
        with mv.ablate(study, UNITS):
            after = study.model(study.batch(torch.arange(60)))[3].softmax(0)
    np.testing.assert_allclose(arrays["prob_before"], before, atol=1e-6)
    np.testing.assert_allclose(arrays["prob_after"], after, atol=1e-6)
    for name in ("prob_before", "prob_after"):
        assert arrays[name].sum() == pytest.approx(1, abs=1e-5)
    assert (content["before"], content["after"]) == (int(before.argmax()), int(after.argmax()))
    expected = mv.attribute_inputs(study, [3], "integrated_gradients")[0].sum(0)
    np.testing.assert_allclose(arrays["attr_before"], expected, atol=1e-6)
    expected = mv.attribute_inputs(study, [3], "integrated_gradients", units=UNITS)[0].sum(0)
    np.testing.assert_allclose(arrays["attr_after"], expected, atol=1e-6)


@pytest.mark.parametrize("method", ["saliency", "input_x_gradient", "occlusion"])
def test_another_method(view: Pair, study: mv.Study, method: str) -> None:
    controller, ear = view
    ask(controller, ear, "open", example=3)
    ask(controller, ear, "method", key=method)
    message = ear.last("example")
    assert (state(ear)["method"], message.content["method"]) == (method, method)
    assert message.content["words"].startswith(f"Captum {method.replace('_', ' ')}")
    arrays = decoded(message)
    expected = mv.attribute_inputs(study, [3], method)[0].sum(0)
    np.testing.assert_allclose(arrays["attr_before"], expected, atol=1e-6)
    np.testing.assert_array_equal(arrays["attr_after"], arrays["attr_before"])  # nothing is off


def test_an_opened_example_follows_the_ablation(view: Pair) -> None:
    controller, ear = view
    ask(controller, ear, "open", example=3)
    ask(controller, ear, "toggle", units=UNITS)
    assert ear.last("example").content["version"] == state(ear)["version"]


def test_a_closed_example_is_not_computed(view: Pair) -> None:
    controller, ear = view
    controller.receive({"type": "open", "example": 3}, ear)
    ask(controller, ear, "open", example=None)
    assert state(ear)["opened"] is None
    assert ear.of("example") == []
    ask(controller, ear, "toggle", units=UNITS)
    assert ear.of("example") == []


def test_an_example_of_no_group(view: Pair) -> None:
    controller, ear = view
    ask(controller, ear, "open", example=58)
    assert ear.last("example").content["group"] == ""


# Other scores -------------------------------------------------------------------------------------


def test_conductance_of_the_first_group_and_of_the_opened_example(
    view: Pair, study: mv.Study
) -> None:
    controller, ear = view
    ask(controller, ear, "score", key="conductance")
    arrays = decoded(ear.last("scores", key="conductance"))
    expected = mv.attribute_layers(study, range(12), null_draws=0).values
    np.testing.assert_allclose(arrays["value"], expected, rtol=1e-4, atol=1e-6)
    ask(controller, ear, "open", example=3)
    message = ear.last("scores", key="conductance")
    assert "the opened example" in message.content["label"]
    expected = mv.attribute_layers(study, [3], null_draws=0).values
    np.testing.assert_allclose(decoded(message)["value"], expected, rtol=1e-4, atol=1e-6)
    assert ear.of("progress")[-1]["total"] == 0


def test_scores_of_the_users_own_are_in_the_picker(study: mv.Study) -> None:
    units = (mv.Unit("fc", 0), mv.Unit("fc", 3), mv.Unit("conv1", 2))
    mine = mv.Scores("mine", "volts", np.array([1.0, 3.0, 2.0]), units=units, higher="louder")
    controller, ear = listening(study, scores={"mine": mine})
    assert ear.last("study").content["scores"][-1] == {
        "key": "mine",
        "label": "mine",
        "kind": "other",
        "measure": "",
        "group": "your own",
    }
    ask(controller, ear, "score", key="mine")
    message = ear.last("scores", key="mine")
    arrays = decoded(message)
    assert np.isfinite(arrays["value"]).sum() == 3
    assert arrays["value"][17] == 3.0 and arrays["state"][17] == 2 and arrays["state"][0] == 0
    assert message.content["measure"] == "volts" and message.content["note"] == "louder"
    ask(controller, ear, "top", k=2)
    assert mv.UnitSet.parse(state(ear)["units"]) == mine.top(2)
    ask(controller, ear, "top", k=4)
    assert "3 have a score" in ear.last("error").content["text"]


# Other studies ------------------------------------------------------------------------------------


def test_a_study_of_one_group_and_a_table() -> None:
    study = flat_study()
    controller, ear = listening(study)
    assert ear.of("error") == []
    content = ear.last("study").content
    assert content["methods"] == []
    assert content["scores"][0]["label"] == "exact effect on test"
    ask(controller, ear, "top", k=2)
    ask(controller, ear, "open", example=1)
    ask(controller, ear, "score", key="conductance")
    assert ear.of("error") == []
    assert set(decoded(ear.last("example"))) == {"image", "prob_before", "prob_after"}
    assert ear.last("example").content["truth"] is None
    best = mv.sweep(study, progress=False).scores(against="").top(2)
    assert mv.UnitSet.parse(state(ear)["units"]) == best
    agrees(study, ear)


def test_a_study_whose_inputs_are_a_dict() -> None:
    study = pair_study()
    controller, ear = listening(study)
    content = ear.last("study").content
    assert content["methods"] == []
    assert "conductance" not in [score["key"] for score in content["scores"]]
    ask(controller, ear, "toggle", units="first:0 second:3")
    ask(controller, ear, "open", example=1)
    assert ear.of("error") == []
    assert set(decoded(ear.last("example"))) == {"image", "prob_before", "prob_after"}
    agrees(study, ear)
    ask(controller, ear, "method", key="saliency")
    assert "no attribution method" in ear.last("error").content["text"]


def test_without_true_labels_nothing_is_said_of_them(study: mv.Study) -> None:
    bare = small_study(true_labels=None)
    controller, ear = listening(bare)
    ask(controller, ear, "set", units=UNITS)
    ask(controller, ear, "open", example=0)
    assert set(decoded(ear.last("study"))["truth"].tolist()) == {messages.UNKNOWN}
    assert ear.last("example").content["truth"] is None
    assert {group["now_true"] for group in ear.last("readout").content["groups"]} == {0}
    agrees(bare, ear)


# Failures in the model ----------------------------------------------------------------------------


class Fragile(nn.Module):
    """Cannot bear that its first two units are off together."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.head = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        found = torch.sigmoid(self.hidden(x))
        if not found[:, :2].any():
            raise RuntimeError("the model fell over\nand this is a second line")
        return self.head(found)


@pytest.fixture
def fragile() -> mv.Study:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Fragile().eval()
    inputs = torch.randn(20, 5, generator=torch.Generator().manual_seed(0))
    groups = {"memorized": range(5), "clean": range(5, 20)}
    return mv.Study(model, inputs, torch.arange(20) % 3, groups)


def test_an_error_inside_the_model_is_one_line_and_the_widget_goes_on(
    fragile: mv.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without memory for a record, the model's own forward runs at each click.
    monkeypatch.setattr("memviz.engine.record._passes.default_memory", lambda device: 0)
    controller, ear = listening(fragile)
    assert controller.session.replay.engine == "hook"
    shown = len(ear.of("readout"))
    ask(controller, ear, "toggle", units="hidden:0,1")
    assert [content["text"] for content in ear.of("error")] == ["the model fell over"]
    assert len(ear.of("readout")) == shown
    assert ear.of("progress")[-1]["total"] == 0
    ask(controller, ear, "toggle", units="hidden:1")
    assert len(ear.of("error")) == 1
    agrees(fragile, ear)
    ask(controller, ear, "toggle", units="hidden:1")
    ask(controller, ear, "undo")
    agrees(fragile, ear)


def test_a_failure_keeps_no_tensor_of_the_forward_pass_alive(
    study: mv.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[weakref.ref[Tensor]] = []

    def fails(*_: Any) -> None:
        large = torch.zeros(1000)
        held.append(weakref.ref(large))
        try:
            raise MemoryError("in an inner call")
        except MemoryError:
            raise RuntimeError(f"no memory for {len(large)}") from None

    controller, ear = listening(study)
    for place, name in ((controller, "_answer"), (controller.session, "toggle")):
        with monkeypatch.context() as patch:  # in the worker, and in the answer to a view
            patch.setattr(place, name, fails)
            controller.resume()
            ask(controller, ear, "toggle", units=UNITS)
        assert str(controller.failure) == "no memory for 1000"
        assert held and all(tensor() is None for tensor in held)
        held.clear()


def test_a_sweep_that_fails_is_not_begun_at_every_click(
    study: mv.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Iterator[float]:
        yield 0.5
        raise RuntimeError("no memory")

    monkeypatch.setattr(shown_scores, "sweep_steps", broken)
    monkeypatch.setattr(telling, "TELL_EVERY", 0.0)
    controller, ear = listening(study)
    assert [content["text"] for content in ear.of("error")] == ["no memory"]
    assert [content["total"] for content in ear.of("progress")] == [20, 0]
    ask(controller, ear, "toggle", units=UNITS)
    assert len(ear.of("error")) == 1
    agrees(study, ear)


# With its thread ----------------------------------------------------------------------------------


@pytest.fixture
def live(study: mv.Study) -> Iterator[Pair]:
    controller, ear = listening(study, threaded=True)
    yield controller, ear
    controller.close()


def test_a_model_that_trains_is_waited_for() -> None:
    """``model.train()`` in another cell: one line, and all goes on after ``model.eval()``."""
    study = small_study()
    controller, ear = listening(study, threaded=True)
    try:
        study.model.train()
        ask(controller, ear, "intervention", key="mean")
        ask(controller, ear, "toggle", units=UNITS)
        assert "is in train mode" in ear.wait("error")["text"]
        assert all(content["version"] == 0 for content in ear.of("readout"))
        study.model.eval()
        ear.wait("readout", version=2)
        ear.wait("scores", key="effect", note="mean", done=20)
        agrees(study, ear)
    finally:
        controller.close()


def test_a_burst_of_100_toggles_ends_in_the_last_state(live: Pair, study: mv.Study) -> None:
    controller, ear = live
    generator = np.random.default_rng(0)
    units = [str(unit) for layer in controller.session.known for unit in layer.all()]
    expected = mv.UnitSet()
    for _ in range(100):
        chosen = str(generator.choice(units))
        controller.receive({"type": "toggle", "units": chosen}, ear)
        expected = expected ^ mv.UnitSet.parse(chosen)
    assert controller.session.version == 100
    ear.wait("readout", version=100)
    ear.wait("random", version=100, draws=20)
    assert mv.UnitSet.parse(state(ear)["units"]) == expected
    agrees(study, ear)
    versions = [content["version"] for content in ear.of("readout")]
    assert versions == sorted(versions)  # nothing stale after something newer
    assert ear.of("error") == []


def test_a_burst_while_the_sweep_runs_does_not_disturb_it(live: Pair, study: mv.Study) -> None:
    controller, ear = live
    for k in range(30):
        controller.receive({"type": "toggle", "units": f"conv4:{k % 4}"}, ear)
    ear.wait("scores", key="effect", done=20)
    exact = mv.sweep(study, progress=False).scores().values
    value = decoded(ear.last("scores", key="effect"))["value"]
    np.testing.assert_allclose(value, exact, rtol=1e-5, atol=1e-6)
    ear.wait("readout", version=30)
    agrees(study, ear)


def test_an_answer_under_way_is_not_told_after_a_newer_one(live: Pair, study: mv.Study) -> None:
    controller, ear = live
    ear.wait("scores", key="effect", done=20)
    toggles = controller.session.toggles
    real, begun, go_on = toggles.outputs, threading.Event(), threading.Event()

    def slow(units: Any, *rest: Any, **more: Any) -> Tensor:
        if str(units) == "conv4:0":
            begun.set()
            assert go_on.wait(60)
        return real(units, *rest, **more)

    toggles.outputs = slow  # type: ignore[method-assign]
    controller.receive({"type": "set", "units": "conv4:0"}, ear)
    assert begun.wait(60)
    controller.receive({"type": "set", "units": "fc:1"}, ear)
    controller.receive({"type": "set", "units": UNITS}, ear)
    go_on.set()
    ear.wait("readout", version=3)
    assert [content["version"] for content in ear.of("readout")] == [0, 3]  # 1 stale, 2 replaced
    agrees(study, ear)


def test_a_model_in_train_mode_is_said_and_all_goes_on_when_it_is_back_in_eval_mode() -> None:
    study = small_study()
    session = mv.Session(study)
    study.model.train()
    controller, ear = Controller(session, threaded=False), Ear()
    controller.sinks.append(ear)
    ask(controller, ear, "hello")
    assert {content["text"].split(" (")[0] for content in ear.of("error")} == {
        "the model is in train mode"
    }
    said = len(ear.of("error"))
    study.model.eval()
    ask(controller, ear, "toggle", units="conv4:1")
    assert len(ear.of("error")) == said
    assert ear.last("readout").content["version"] == 1
    assert ear.last("scores", key="effect").content["done"] == 20


def test_close_ends_the_thread_and_the_session_goes_on(study: mv.Study) -> None:
    controller, ear = listening(study, threaded=True)
    ear.wait("readout", version=0)
    thread = controller.worker._thread
    assert thread is not None
    controller.close()
    thread.join(60)
    assert not thread.is_alive()
    ear.forget()
    controller.session.toggle(UNITS)
    assert str(controller.session.units) == UNITS
    assert ear.heard == []


def test_ready_waits_for_the_first_readout(study: mv.Study) -> None:
    controller = Controller(mv.Session(study))
    controller.session.ablate(UNITS)
    controller.ready()
    assert controller.readout is not None and str(controller.readout.units) == UNITS
    controller.close()


def test_nothing_is_left_on_the_model(study: mv.Study) -> None:
    before = {name: tensor.clone() for name, tensor in study.model.state_dict().items()}
    seed = torch.get_rng_state()
    controller, ear = listening(study)
    for how in ("mean", "filter", "zero"):
        ask(controller, ear, "intervention", key=how)
        ask(controller, ear, "toggle", units=UNITS)
        ask(controller, ear, "open", example=3)
    for name, tensor in study.model.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert torch.equal(torch.get_rng_state(), seed)
    for module in study.model.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks
