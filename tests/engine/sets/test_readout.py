"""Readout and ablation curve: counts by hand, intervals from the tables, random units beside."""

import numpy as np
import pytest
import torch
from torch import nn

import memviz as mv
from memviz.engine.sets import Reading, random_units
from memviz.statistics import wilson


@pytest.fixture
def study() -> mv.Study:
    torch.manual_seed(0)
    layers = {
        "conv2": nn.Conv2d(1, 12, 6),
        "relu": nn.ReLU(),
        "flat": nn.Flatten(),
        "fc": nn.Linear(12, 9),
        "act": nn.ReLU(),
        "head": nn.Linear(9, 3),
    }
    model = nn.Sequential()
    for name, layer in layers.items():
        model.add_module(name, layer)
    groups = {"memorized": range(6), "clean": range(6, 18), "test": range(18, 24)}
    labels, true = torch.arange(24) % 3, torch.arange(24) % 3
    true[:6] = (true[:6] + 1) % 3
    inputs = torch.randn(24, 1, 6, 6)
    return mv.Study(model.eval(), inputs, labels, groups, true_labels=true)


def test_readout_by_hand(study: mv.Study) -> None:
    units = mv.UnitSet.parse("fc:0-3 conv2:1,4")
    found = mv.readout(study, units, random_draws=4, seed=3)
    replay = mv.Replay(study)
    before, after = replay.outputs(""), replay.outputs(units)
    right = [outputs.argmax(1) == study.labels for outputs in (before, after)]
    for name, mask in study.groups.items():
        group = found.groups[name]
        assert group.before.accuracy == pytest.approx(float(right[0][mask].float().mean()))
        assert group.after.correct == int(right[1][mask].sum())
        assert group.right_to_wrong == int((right[0] & ~right[1] & mask).sum())
        assert group.wrong_to_right == int((~right[0] & right[1] & mask).sum())
    true = study.true_labels
    now_true = right[0] & ~right[1] & (after.argmax(1) == true) & (study.labels != true)
    assert found.groups["memorized"].now_true == int(now_true.sum())
    assert torch.equal(found.after, after.argmax(1))
    assert (found.of, len(found.random["test"])) == (21, 4)
    accuracies = [
        float(
            (
                replay.outputs(random_units(replay.layers, units, 3 + draw)).argmax(1)
                == study.labels
            )[study.groups["clean"]]
            .float()
            .mean()
        )
        for draw in range(4)
    ]
    assert found.random["clean"][:, 0] == pytest.approx(accuracies)
    assert found.sentence.startswith("6 of 21 units ablated: memorized ")
    assert found.frame.loc["clean", "n"] == 12
    assert "<p>6 of 21 units" in found._repr_html_() and "random" in repr(found)


def test_readout_of_nothing_and_of_one_unit(study: mv.Study) -> None:
    none = mv.readout(study, "")
    assert none.random == {} and not none.margin_change.any()
    assert none.sentence.startswith("No unit is ablated: memorized ")
    assert mv.readout(study, "fc:2", random_draws=1).sentence.startswith("fc unit 2 ablated: ")


def test_intervals() -> None:
    # Wilson 1927, as in every table: 8 of 10, none of 5, all of 50.
    assert wilson(8, 10) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)
    assert wilson(0, 5) == pytest.approx((0.0, 0.4344825), abs=1e-6)
    assert wilson(50, 50) == pytest.approx((0.9286523, 1.0), abs=1e-6)
    reading = Reading.of(torch.tensor([1.0, 3.0, -1.0, 1.0]))
    assert (reading.n, reading.correct, reading.margin) == (4, 3, 1.0)
    error = 1.959964 * np.std([1, 3, -1, 1], ddof=1) / 2
    assert reading.margin_high - 1 == pytest.approx(error, rel=1e-5)
    assert Reading.of(torch.tensor([2.0])).margin_low == 2.0


def test_random_units_are_of_the_same_layers() -> None:
    layers = [mv.Layer("a", "conv", 10, ""), mv.Layer("b", "linear", 4, "")]
    units = mv.UnitSet.parse("a:0-4 b:1")
    drawn = [random_units(layers, units, seed) for seed in range(200)]
    assert all({k: len(v) for k, v in d.layers.items()} == {"a": 5, "b": 1} for d in drawn)
    assert len(set(drawn)) > 100
    counts = np.bincount([u.index for d in drawn for u in d if u.layer == "a"], minlength=10)
    assert counts.min() > 70 and counts.max() < 130  # 100 expected of each
    assert random_units(layers, units, 5) == drawn[5]


def test_a_whole_layer_has_no_random_units_beside_it(study: mv.Study) -> None:
    (layer, *_) = mv.layers(study)
    whole, all_but_one = (f"{layer.name}:0-{layer.units - n}" for n in (1, 2))
    assert mv.readout(study, whole, random_draws=2).random == {}
    assert "random" not in mv.readout(study, whole).frame
    assert len(mv.readout(study, all_but_one, random_draws=2).random["test"]) == 2


def test_the_ablation_curve(study: mv.Study) -> None:
    ranking = mv.sweep(study, progress=False).scores()
    curve = mv.ablation_curve(study, ranking, [0, 2, 5], random_draws=3, seed=1)
    assert (curve.chosen.shape, curve.random.shape) == ((3, 3), (3, 3, 3))
    clean = [g.before.accuracy for g in mv.readout(study, "").groups.values()]
    assert curve.chosen[0] == pytest.approx(clean)
    assert (curve.random[:, 0] == curve.chosen[0]).all()
    five = mv.readout(study, ranking.top(5), random_draws=0).groups
    assert curve.chosen[2] == pytest.approx([g.after.accuracy for g in five.values()])
    assert (curve.random_low <= curve.random_mean).all()
    assert (curve.random_mean <= curve.random_high).all()
    assert list(curve.frame.columns[:3]) == ["units", "group", "accuracy"]
    assert "ablation curve by effect on memorized" in repr(curve)
