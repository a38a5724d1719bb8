"""The workbench of models that are no classifiers: sensible words, and the same verdicts."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import memviz as mv
from memviz.tasks import Binary, Classification, MultiLabel, Regression
from memviz.training.run import TrainingRun
from memviz.widgets.inspector import Inspector
from memviz.widgets.scatter import Scatter
from memviz.widgets.timeline import Timeline
from tests.support.widgets import ask, decoded, listening

N = 24
GROUPS = {"memorized": range(6), "clean": range(6, 18), "test": range(18, N)}
WIDTHS = {"Binary": 1, "MultiLabel": 3, "Regression": 1, "two targets": 2, "many classes": 70_005}
OFF = "0:0-3"


def of_task(kind: str) -> mv.Study:
    """Most examples right; the first six wrong, though their true labels are right."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, WIDTHS[kind])).eval()
    inputs = torch.randn(N, 4)
    with torch.no_grad():
        model[2].weight.mul_(4)
        model[2].bias -= model(inputs).mean(0)
        out = model(inputs)
    names: list[str] | None = None
    if kind == "Binary":
        truth, task, names = (out[:, 0] > 0).long(), Binary(), ["cat", "dog"]
        labels = torch.where(torch.arange(N) < 6, 1 - truth, truth)
    elif kind == "MultiLabel":
        truth, task, names = (out > 0).long(), MultiLabel(), ["cat", "dog", "eel"]
        labels = truth.clone()
        labels[:6, 0] = 1 - labels[:6, 0]
    elif kind == "many classes":
        truth, task = out.argmax(1), Classification()
        labels = torch.where(torch.arange(N) < 6, (truth + 1) % WIDTHS[kind], truth)
    else:
        truth, task = (out[:, 0] if kind == "Regression" else out), Regression(0.5)
        labels = truth.clone()
        labels[:6] += 3.0
    changed = deepcopy(model)
    with torch.no_grad():
        changed[0].weight.mul_(0.5)
    return mv.Study(
        model,
        inputs,
        labels,
        GROUPS,
        true_labels=truth,
        class_names=names,
        task=task,
        checkpoints={0: changed.state_dict(), 1: model.state_dict()},
    )


@pytest.fixture(params=WIDTHS)
def study(request: pytest.FixtureRequest) -> mv.Study:
    return of_task(request.param)


def margins(study: mv.Study, labels: Tensor, units: str = "") -> Tensor:
    """By a plain call of the model."""
    task = study.task
    with torch.no_grad(), mv.ablate(study, units):
        return task.margin(task.outputs(study.model(study.inputs)), labels)


def test_two_numbers_are_equal_exactly_if_the_example_is_right(study: mv.Study) -> None:
    controller, ear = listening(study)
    told = ear.last("study")
    given, truth = decoded(told)["label"], decoded(told)["truth"]
    names = told.content["classes"]
    for units in (OFF, "", "0:5"):
        ask(controller, ear, "set", units=units)
        readout = ear.last("readout")
        json.dumps(readout.content, allow_nan=False)
        arrays = decoded(readout)
        right = margins(study, study.labels, units) > 0
        before = margins(study, study.labels) > 0
        np.testing.assert_array_equal(arrays["before"] == given, before)
        np.testing.assert_array_equal(arrays["after"] == given, right)
        assert int(arrays["after"].max()) < len(names)
        for index, group in enumerate(readout.content["groups"]):
            members = decoded(told)["group"] == index
            assert group["after"]["correct"] == int(right[members].sum())
    assert study.true_labels is not None
    differ = (study.true_labels != study.labels).reshape(N, -1).any(1)
    np.testing.assert_array_equal(truth != given, differ)
    assert differ.sum() == 6


def test_an_opened_example_says_its_labels(study: mv.Study) -> None:
    controller, ear = listening(study, Inspector, Scatter)
    ask(controller, ear, "open", example=2)
    message = ear.last("example")
    names = ear.last("study").content["classes"]
    content, arrays = message.content, decoded(message)
    assert content["target"] == decoded(ear.last("study"))["label"][2]
    assert content["before"] == decoded(ear.last("readout"))["before"][2]
    assert (content["truth"] != content["target"]) and max(content["truth"], 0) < len(names)
    assert ("prob_before" in arrays) == isinstance(study.task, Binary)
    assert ear.last("inspected").content["units"]
    assert content["words"] == "" or content["method"]
    assert not ear.of("error")


WORDS = {
    "Binary": lambda names: names == ["cat", "dog"],
    "MultiLabel": lambda names: names[-1] == "another set" and "cat, eel" in names,
    "Regression": lambda n: n[-3:] == ["too low", "too high", "no number"] and "± 0.5" in n[0],
    "two targets": lambda names: names[-1] == "too far off" and names[0].startswith("("),
    "many classes": lambda names: names[-1] == "another class" and names[0].isdecimal(),
}


@pytest.mark.parametrize("kind", WORDS)
def test_labels_have_sensible_words(kind: str) -> None:
    study = of_task(kind)
    _, ear = listening(study)
    assert WORDS[kind](ear.last("study").content["classes"])
    measure = ear.last("scores", key="effect").content["measure"]
    unit = "" if isinstance(study.task, Regression) else "logits of "
    assert measure.startswith(f"{unit}margin lost, mean of memorized")
    picks = {pick["key"] for pick in ear.last("study").content["scores"]}
    assert ("conductance" in picks) == isinstance(study.task, Classification)


def test_a_wrong_number_is_said_to_be_too_low_or_too_high() -> None:
    study = of_task("Regression")
    _, ear = listening(study)
    names, said = ear.last("study").content["classes"], decoded(ear.last("readout"))["before"]
    with torch.no_grad():
        predicted = study.model(study.inputs)[:, 0]
    for i in range(N):
        if (predicted[i] - study.labels[i]).abs() < 0.5:
            number, tolerance = names[said[i]].split(" ± ")
            assert float(number) == pytest.approx(float(study.labels[i]), abs=6e-4)
            assert tolerance == "0.5"
        else:
            assert names[said[i]] == ("too low" if predicted[i] < study.labels[i] else "too high")


def test_the_timeline_counts_what_is_right_at_each_checkpoint(study: mv.Study) -> None:
    controller, ear = listening(study, Timeline)
    controller.part(Timeline).start(None)
    controller.worker.run_until_idle()
    told = ear.last("timeline").content
    for curve in told["groups"]:
        members = study.group(curve["name"])
        for place, epoch in enumerate(told["epochs"]):
            then = replace(study, model=deepcopy(study.model), checkpoints={})
            then.model.load_state_dict(study.checkpoints[epoch])
            share = (margins(then, study.labels)[members] > 0).double().mean()
            assert curve["given"][place] == pytest.approx(float(share), abs=1e-5)
            assert study.true_labels is not None
            if curve["true"] is not None:
                share = (margins(then, study.true_labels)[members] > 0).double().mean()
                assert curve["true"][place] == pytest.approx(float(share), abs=1e-5)
    assert [curve["true"] is None for curve in told["groups"]] == [False, True, True]


def test_a_recorded_run_of_classes_is_refused_where_labels_are_none() -> None:
    study = of_task("Regression")
    controller, _ = listening(study, Timeline)
    run = TrainingRun(torch.zeros(4), torch.zeros(3, 4).int(), torch.ones(3, 4), torch.ones(3, 4))
    with pytest.raises(ValueError, match="recorded runs need one class per example"):
        controller.part(Timeline).start(run)


def test_the_views_open(study: mv.Study) -> None:
    for part in (mv.workbench, mv.example_gallery, mv.readout_view):
        part(study).close()
    readout = mv.readout(study, OFF, random_draws=2)
    assert readout.groups["memorized"].before.correct == 0
    assert "memorized margin −" in readout.sentence and len(readout.frame) == 3
    moved = readout.groups["clean"]
    assert moved.now_true == 0 and moved.before.accuracy == 1.0


def test_now_true_counts_the_true_label_of_every_task() -> None:
    for kind in ("Binary", "MultiLabel", "Regression"):
        study = of_task(kind)
        assert study.true_labels is not None
        # Seen from the other side: what is true was given, so the ablated model may get it.
        swapped = replace(study, labels=study.true_labels, true_labels=study.labels)
        read = mv.readout(swapped, OFF, random_draws=0).groups["memorized"]
        lost = (margins(study, study.true_labels) > 0) & ~(
            margins(study, study.true_labels, OFF) > 0
        )
        gained = margins(study, study.labels, OFF) > 0
        assert read.now_true == int((lost & gained)[:6].sum())
