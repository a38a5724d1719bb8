"""The inspector: scores with rank and null, the example's units, its curve, its neighbours."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import memviz as mv
from memviz.training.run import TrainingRun
from memviz.widgets.inspector import Inspector, last_features, row
from tests.support.widgets import ask, flat_study, listening, small_study

SCORES = mv.Scores(
    "cumulative loss",
    "nats",
    np.array([0.5, np.nan, 2.0, 1.0]),
    examples=np.array([2, 5, 9, 40]),
    null=mv.Null("shuffled", np.array([[0.1, 0.1, 0.2, 0.3], [0.3, 0.1, 0.4, 0.5]])),
)


def test_an_opened_example_is_told_in_full() -> None:
    study = small_study()
    controller, ear = listening(study, Inspector)
    controller.part(Inspector).use({"cumulative loss": SCORES}, None)
    ask(controller, ear, "open", example=9)
    told = ear.last("inspected").content
    assert told["index"] == 9
    assert told["scores"][0] | {"null": None} == {
        **{"name": "cumulative loss", "measure": "nats", "of": 3, "value": 2.0, "rank": 1},
        **{"null": None, "higher": "more memorized"},
    }
    effects = mv.sweep(study, progress=False)
    of_example = effects.of_example(9)
    best = of_example.order()[0]
    assert told["units"][0]["unit"] == str(of_example.units[best])  # type: ignore[index]
    assert told["units"][0]["lost"] == pytest.approx(of_example.values[best], abs=1e-4)
    assert told["units"][0]["exact"] is True
    assert told["random"] == pytest.approx(
        np.percentile(of_example.values, [2.5, 50, 97.5]), abs=1e-4
    )
    assert told["curve"] == {"epochs": [], "margin": []}


def test_its_neighbours_are_those_of_a_slow_search_without_the_test_group() -> None:
    study = small_study()
    controller, ear = listening(study, Inspector)
    ask(controller, ear, "open", example=50)
    told = ear.last("inspected").content["neighbours"]
    features = last_features(study, "head").double()
    unit = features / features.norm(dim=1, keepdim=True)
    cosine = unit @ unit[50]
    cosine[study.groups["test"]] = -2
    assert [n["index"] for n in told] == cosine.argsort(descending=True)[:6].tolist()
    assert told[0]["cosine"] == pytest.approx(float(cosine.max()), abs=1e-5)
    assert not any(m._forward_pre_hooks for m in study.model.modules())


def test_a_run_gives_the_learning_curve() -> None:
    margins = torch.arange(12.0).view(3, 4)
    run = TrainingRun(torch.zeros(4), torch.zeros(3, 4).int(), margins, margins)
    controller, ear = listening(flat_study(), Inspector)
    controller.part(Inspector).use({}, run)
    ask(controller, ear, "open", example=2)
    curve = {"epochs": [1, 2, 3], "margin": [2.0, 6.0, 10.0]}
    assert ear.last("inspected").content["curve"] == curve


def test_checkpoints_give_it_where_there_is_no_run() -> None:
    study = flat_study()
    zero = {name: torch.zeros_like(value) for name, value in study.model.state_dict().items()}
    study = flat_study(checkpoints={0: zero, 4: study.model.state_dict()})
    controller, ear = listening(study, Inspector)
    ask(controller, ear, "open", example=2)
    curve = ear.last("inspected").content["curve"]
    outputs = study.model(study.inputs[2:3]).detach()
    margin = study.task.margin(outputs, study.labels[2:3])
    assert curve["epochs"] == [0, 4]
    assert curve["margin"] == pytest.approx([0.0, float(margin)], abs=1e-5)


def test_features_that_are_all_zero_have_no_neighbours() -> None:
    study = flat_study()
    with torch.no_grad():
        for parameter in study.model.parameters():
            parameter.zero_()
    controller, ear = listening(study, Inspector)
    ask(controller, ear, "open", example=2)
    assert ear.last("inspected").content["neighbours"] == []


def test_ranks_and_unknown_values() -> None:
    assert [row("x", SCORES, i)["rank"] for i in (2, 9, 40)] == [3, 1, 2]
    assert row("x", SCORES, 2)["null"] == pytest.approx([0.105, 0.295])
    assert row("x", SCORES, 5)["value"] is None and row("x", SCORES, 7)["rank"] is None


def test_unit_scores_are_refused() -> None:
    units = mv.Scores("effect", "logits", np.zeros(1), units=(mv.Unit("0", 0),))
    with pytest.raises(ValueError, match="'effect' is over units; the inspector shows scores"):
        mv.inspector(flat_study(), scores=[units])
