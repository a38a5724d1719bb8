"""The timeline: curves at the checkpoints, variants that every view follows, rewound layers."""

from __future__ import annotations

import pytest
import torch

import memviz as mv
from memviz.probes.localization import Rewinder
from memviz.training.run import TrainingRun
from memviz.units import layer_words
from memviz.variants import variant
from memviz.widgets.timeline import Timeline, curves, predicted
from memviz.widgets.workbench import Controller
from tests.support.hugging_face import build
from tests.support.widgets import Ear, ask, flat_study, listening, small_study

Pair = tuple[Controller, Ear]


@pytest.fixture(scope="module")
def study() -> mv.Study:
    study = small_study()
    last = study.model.state_dict()
    generator = torch.Generator().manual_seed(1)
    early = {
        name: value + 0.5 * torch.randn(value.shape, generator=generator)
        if value.is_floating_point() and "running" not in name
        else value.clone()
        for name, value in last.items()
    }
    return small_study(checkpoints={3: early, 7: last})


@pytest.fixture
def view(study: mv.Study) -> Pair:
    controller, ear = listening(study)
    controller.part(Timeline).start(None)
    controller.worker.run_until_idle()
    return controller, ear


def accuracies(study: mv.Study, key: str) -> dict[str, float]:
    found = variant(study, key)
    right = found.model(found.inputs).argmax(1) == found.labels
    return {name: float(right[mask].float().mean()) for name, mask in found.groups.items()}


def test_the_curves_are_the_accuracies_at_the_checkpoints(view: Pair, study: mv.Study) -> None:
    told = view[1].last("timeline").content
    assert told["epochs"] == [3, 7] and told["fine"] == []
    for at, epoch in enumerate((3, 7)):
        wanted = accuracies(study, f"epoch {epoch}")
        for group in told["groups"]:
            assert group["given"][at] == pytest.approx(wanted[group["name"]], abs=1e-5)
    assert [group["true"] is not None for group in told["groups"]] == [True, True, False]
    assert told["accuracy"] == pytest.approx(accuracies(study, ""))


def test_every_view_follows_to_a_checkpoint_and_back(view: Pair, study: mv.Study) -> None:
    controller, ear = view
    ear.forget()
    ask(controller, ear, "variant", key="epoch 3")
    assert ear.last("state").content["variant"] == "epoch 3"
    readout = ear.last("readout").content
    for group in readout["groups"]:
        wanted = accuracies(study, "epoch 3")[group["name"]]
        assert group["after"]["accuracy"] == pytest.approx(wanted)
    effects = controller.effects[controller.key]
    assert bool(effects.done.all()) and effects.study.model is controller.session.replay.study.model
    assert ear.last("scores", key="effect").content["note"] == "zero epoch 3"
    exact = controller.effects["zero"]
    ask(controller, ear, "variant", key="")
    assert ear.last("scores", key="effect").content["note"] == "zero"
    assert controller.effects["zero"] is exact  # not swept again
    assert ear.last("readout").content["groups"][0]["after"]["accuracy"] == pytest.approx(
        accuracies(study, "")["memorized"]
    )


def test_a_layer_is_rewound_and_the_model_is_as_it_was(view: Pair, study: mv.Study) -> None:
    controller, ear = view
    before = {name: value.clone() for name, value in study.model.state_dict().items()}
    ask(controller, ear, "rewind", epochs={"conv2": 3})
    told = ear.last("rewound").content
    mixed = {**study.checkpoints[7]}
    mixed |= {k: v for k, v in study.checkpoints[3].items() if k.startswith(("conv2.", "bn2."))}
    mixed |= {k: v for k, v in study.checkpoints[7].items() if "running" in k or "batches" in k}
    other = small_study()
    other.model.load_state_dict(mixed)
    right = other.model(other.inputs).argmax(1) == study.labels
    for name, mask in study.groups.items():
        assert told["accuracy"][name] == pytest.approx(float(right[mask].float().mean()))
    assert all(torch.equal(value, before[name]) for name, value in study.model.state_dict().items())


@pytest.mark.parametrize(
    ("epochs", "words"),
    [
        ({"conv9": 3}, "no layer group 'conv9'"),
        ({"conv2": 4}, "epoch 4"),
        ({"conv2": 3.5}, "the epoch of 'conv2' is 3.5; give a whole number"),
        ({"conv2": float("nan")}, "the epoch of 'conv2' is nan"),
        ({"conv2": True}, "the epoch of 'conv2' is True"),
        ({"conv2": None}, "the epoch of 'conv2' is None"),
        ({"conv2": [3]}, "the epoch of 'conv2' is [3]"),
        ({"conv2": "3"}, "the epoch of 'conv2' is '3'"),
        ({"conv2": 10**400}, "no checkpoint of epoch 1000"),
    ],
)
def test_a_wrong_layer_or_epoch_gets_one_line(view: Pair, epochs: dict, words: str) -> None:
    controller, ear = view
    ask(controller, ear, "rewind", epochs=epochs)
    assert words in ear.last("error").content["text"]


def test_a_recorded_run_gives_every_epoch_of_what_it_holds(study: mv.Study) -> None:
    generator = torch.Generator().manual_seed(2)
    predictions = torch.randint(4, (5, 44), generator=generator, dtype=torch.int32)
    table = torch.zeros(5, 44)
    run = TrainingRun(study.labels[:44], predictions, table, table)
    controller, ear = listening(study)
    controller.part(Timeline).start(run)
    controller.worker.run_until_idle()
    fine = ear.last("timeline").content["fine"]
    assert [group["name"] for group in fine] == ["memorized", "clean"]
    wanted = (predictions[:, :12] == study.labels[:12]).float().mean(1)
    assert fine[0]["given"] == pytest.approx(wanted.tolist(), abs=1e-5)
    with pytest.raises(ValueError, match="the run has 80 examples, but the study only 60"):
        zeros = torch.zeros(1, 80)
        controller.part(Timeline).start(TrainingRun(torch.zeros(80), zeros.int(), zeros, zeros))


def test_a_study_without_checkpoints_is_told_what_to_give() -> None:
    with pytest.raises(ValueError, match="this study has no checkpoints; give Study"):
        mv.timeline(flat_study())


def test_predictions_and_curves_by_hand() -> None:
    study = flat_study()
    assert torch.equal(predicted(study), study.model(study.inputs).argmax(1))
    wrong = flat_study(true_labels=(torch.arange(30) + 1) % 3)
    found = curves(wrong, torch.stack([wrong.labels, wrong.true_labels]))  # type: ignore[list-item]
    assert found == [{"name": "test", "given": [1.0, 0.0], "true": [0.0, 1.0]}]


def test_layers_of_a_transformer_are_called_as_in_every_view() -> None:
    model, tokens = build("gpt2")
    state = model.state_dict()
    study = mv.Study(
        model, tokens, torch.zeros(len(tokens)), {"all": range(len(tokens))}, checkpoints={1: state}
    )
    controller, ear = listening(study)
    controller.part(Timeline).start(None)
    controller.worker.run_until_idle()
    told = {layer["name"]: layer["label"] for layer in ear.last("timeline").content["layers"]}
    assert list(told) == list(Rewinder(study).groups)
    known = layer_words(mv.layers(study))
    assert {name: told[name] for name in known if name in told} == {
        name: words.layer for name, words in known.items() if name in told
    }
    assert "block 0 · MLP neurons" in told.values() and "block 0 · ln_1" in told.values()
