"""The digits with random labels: what ships shows early learning, and is what the recipe gives."""

import pytest
import torch

from memviz.demos import early_learning
from memviz.demos.early_learning import (
    _packed,
    _unpacked,
    detected,
    examples,
    fractions,
    load,
    predictions,
    summary,
)
from memviz.models.mlp import MLP
from memviz.training.loop import train


def test_labels_are_drawn_anew_and_the_groups_do_not_touch():
    data = examples(0)
    wrong = data.labels != data.true_labels
    training = data.groups["memorized"] | data.groups["clean"]
    # 480 labels from ten classes: 432 wrong ones, give or take 6.6.
    assert int(data.groups["memorized"].sum()) == pytest.approx(432, abs=20)
    assert torch.equal(wrong & training, data.groups["memorized"])
    assert not wrong[data.groups["test"]].any()
    assert 0.2 < wrong[data.groups["validation"]].float().mean() < 0.5
    assert torch.stack(list(data.groups.values())).sum(0).eq(1).all()


def test_cross_entropy_memorizes_and_elr_does_not():
    ce, elr, zero = (
        [summary(seed, method) for seed in (0, 1, 2)] for method in ("CE", "ELR", "ELR, beta 0")
    )

    def mean(rows, name):
        return sum(row[name] for row in rows) / len(rows)

    assert mean(ce, "true at the peak") > 0.9
    assert mean(ce, "memorized") == 1.0
    assert mean(ce, "test") <= 0.75
    assert mean(elr, "memorized") < 0.2
    assert mean(elr, "test") >= 0.93
    assert mean(zero, "clean right") < 0.5  # beta = 0 collapses
    assert fractions(0, "ELR").null.wrong[-1, 1] == 1.0


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("method", early_learning.SHIPPED_METHODS)
def test_shipped_figures_are_measured_on_what_ships(seed, method):
    assert summary(seed, method) == early_learning._measured(seed, predictions(seed, method))


def test_a_loss_that_holds_on_is_right_at_its_end_and_others_only_where_they_stop():
    """What notebook 04 says of the table of all losses, in the mean of three seeds."""
    means = {
        method: {
            name: sum(summary(seed, method)[name] for seed in range(3)) / 3
            for name in early_learning.FIGURES
        }
        for method in early_learning.METHODS
    }
    lost = {
        method: row["test at the stopping epoch"] - row["test"] for method, row in means.items()
    }
    assert min(lost["CE"], lost["bootstrap"]) > max(lost["forward"], lost["SL"])
    assert min(lost["forward"], lost["SL"]) > max(lost["ELR"], lost["GCE"])
    assert means["CE"]["true at the peak"] > 0.9
    assert means["ELR, beta 0"]["clean right"] < 0.5


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_targets_find_the_wrong_labels_and_those_of_cross_entropy_do_not(seed):
    scores, wrong = detected(seed), examples(seed).groups["memorized"][:1200].numpy()
    assert (scores.values > 0)[wrong].mean() > 0.85
    assert (scores.values > 0)[~wrong].mean() < 0.01
    assert (scores.null.values[0] > 0)[wrong].mean() < 0.01


@pytest.mark.parametrize(("method", "epochs"), [("CE", [0, 10, 150]), ("ELR", [0, 150])])
def test_shipped_networks_predict_what_was_recorded(method, epochs):
    study, recorded = load(0, method), predictions(0, method)
    assert list(study.checkpoints) == epochs
    model = MLP(early_learning.WIDTHS)
    for epoch in epochs[1:]:
        model.load_state_dict(study.checkpoints[epoch])
        agree = model(study.inputs).argmax(1) == recorded[epoch - 1]
        assert agree.float().mean() > 0.998
    assert torch.equal(study.checkpoints[0]["head.bias"], MLP(early_learning.WIDTHS, 0).head.bias)


def test_the_recipe_gives_what_ships():
    """Three epochs of the 150, with their learning rates; rounding differs by machine."""
    data, found = examples(1), []

    def stop(epoch, model):
        found.append(model(data.inputs).argmax(1))
        if epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(
            MLP(early_learning.WIDTHS, seed=1),
            data.inputs,
            data.labels,
            examples=torch.arange(1200),
            epochs=150,
            batch_size=64,
            learning_rate=0.05,
            weight_decay=0.0,
            seed=1,
            loss=early_learning.METHODS["ELR"](),
            on_epoch=stop,
            progress=False,
        )
    agree = torch.stack(found) == predictions(1, "ELR")[:3]
    assert agree.float().mean() > 0.98


def test_what_is_not_shipped_is_trained_once_and_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MEMVIZ_CACHE", str(tmp_path))
    monkeypatch.setattr(early_learning, "EPOCHS", 2)
    monkeypatch.setattr(early_learning, "CHECKPOINT_EPOCHS", (1, 2))
    study = load(5, "GCE")
    assert list(study.checkpoints) == [0, 1, 2]
    assert "Training the digits with random labels and GCE for seed 5" in capsys.readouterr().out
    found = predictions(5, "GCE")
    assert torch.equal(found[-1], study.model(study.inputs).argmax(1))
    assert capsys.readouterr().out == ""
    path = tmp_path / "early-learning-seed5-gce-record.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.warns(UserWarning, match="Cached files are not used"):
        assert torch.equal(predictions(5, "GCE"), found)  # trained again
    with pytest.raises(ValueError, match="no method 'KL'; choose from 'CE', 'ELR'"):
        predictions(0, "KL")


def test_packing_loses_nothing():
    classes = torch.randint(0, 10, (150, 1797), generator=torch.Generator().manual_seed(0))
    assert torch.equal(_unpacked(_packed(classes)), classes)


def test_summaries_are_of_the_trainings_just_made(tmp_path, monkeypatch):
    """Not of what ships: here each network says one class, of every image."""
    monkeypatch.setenv("MEMVIZ_CACHE", str(tmp_path / "cache"))
    states = {
        early_learning._epoch(epoch): MLP(early_learning.WIDTHS, seed=0).state_dict()
        for epoch in early_learning.CHECKPOINT_EPOCHS
    }

    def fit(seed, method):
        said = torch.full((150, 1797), list(early_learning.METHODS).index(method))
        return {"record": {"predictions": _packed(said)}, **states}

    monkeypatch.setattr(early_learning, "_fit", fit)
    assert early_learning.prepare([0], tmp_path) == tmp_path
    path = early_learning._summaries(0).path("summaries", tmp_path)
    figures = early_learning.weight_files.stored(path)[0]["figures"]
    data, column = examples(0), early_learning.FIGURES.index("test")
    truth = data.true_labels[data.groups["test"]]
    share = [(truth == index).float().mean().item() for index in range(len(figures))]
    assert figures[:, column].tolist() == share
