"""Readout and ablation curve: counts by hand, intervals from the tables, random units beside."""

import numpy as np
import pytest
import torch
from torch import nn

import memviz as mv
from memviz.engine.sets import Reading, percent, random_units
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


def test_where_no_prediction_changes_sides_the_margin_is_told(study: mv.Study) -> None:
    """A unit that lowers every margin and flips nothing: the first click of most."""
    net = torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False), torch.nn.ReLU())
    net.append(torch.nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        net[0].weight.copy_(torch.eye(2))
        net[2].weight.copy_(torch.tensor([[0.5, 3.0], [0.0, 0.0]]))
    groups = {"memorized": [0, 1], "clean": [2]}
    inputs, labels = torch.tensor([[1.0, 1.0], [1.0, 1.5], [0.0, 0.2]]), torch.zeros(3).long()
    found = mv.Study(net.eval(), inputs, labels, groups)
    words = "memorized margin 4.25 → 3.75, clean margin .60 → .60, nothing flipped yet."
    assert mv.readout(found, "0:0", random_draws=1).sentence == f"0 unit 0 ablated: {words}"
    turned = mv.readout(study, "conv2:0-5", random_draws=1)
    assert [g.flipped for g in turned.groups.values()] == [
        "%" in g.words for g in turned.groups.values()
    ]
    assert any(g.flipped for g in turned.groups.values()) and "yet" not in turned.sentence


def test_percent_and_decimals_agree() -> None:
    """As JavaScript's toFixed rounds, which the page uses: exact, halves up."""
    shares = [right / n for n in (40, 64, 200) for right in range(n + 1)]
    assert [percent(x) for x in (0.025, 0.125, 0.375, 0.295)] == ["3%", "13%", "38%", "29%"]
    assert all(abs(float(percent(x)[:-1]) - 100 * x) <= 0.5 for x in shares)


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


def test_the_null_depends_on_no_order_and_no_other_layer() -> None:
    layers = [mv.Layer("a", "conv", 10, ""), mv.Layer("b", "linear", 8, "")]
    both, reverse = mv.UnitSet.parse("a:0-4 b:1,2"), mv.UnitSet.parse("b:7,1 a:5-9")
    for seed in range(5):
        drawn = random_units(layers, both, seed)
        assert drawn == random_units(layers, reverse, seed)
        alone = random_units(layers, mv.UnitSet.parse("b:0,3"), seed)
        assert alone.layers["b"] == drawn.layers["b"]
        fewer = random_units(layers[::-1], mv.UnitSet.parse("a:2"), seed)
        assert set(fewer) <= set(drawn)
    orders = {str(random_units(layers, mv.UnitSet.parse("a:0 b:0"), seed)) for seed in range(300)}
    assert len(orders) > 70  # of 80: the layers are drawn independently


def test_the_null_of_a_curve_depends_on_no_other_count(study: mv.Study) -> None:
    ranking = mv.sweep(study, progress=False).scores()
    many = mv.ablation_curve(study, ranking, [0, 2, 5, 7], random_draws=3)
    one = mv.ablation_curve(study, ranking, [5], random_draws=2)
    assert (many.random[:2, 2] == one.random[:, 0]).all()
    read = mv.readout(study, ranking.top(5), random_draws=2)
    for place, name in enumerate(one.groups):
        assert (one.random[:, 0, place] == read.random[name][:, 0]).all()


def test_how_many_random_units(study: mv.Study) -> None:
    none = mv.readout(study, "fc:2", random_draws=0)
    assert none.random == {} and "random" not in none.frame and "fc unit 2" in none._repr_html_()
    ranking = mv.sweep(study, progress=False).scores()
    with pytest.raises(ValueError, match="random_draws is -1; it must be at least 0"):
        mv.readout(study, "fc:2", random_draws=-1)
    with pytest.raises(ValueError, match="random_draws is 0; it must be at least 1"):
        mv.ablation_curve(study, ranking, [1], random_draws=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_logits_that_tie_in_any_precision(dtype: torch.dtype) -> None:
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.ReLU(), nn.Linear(4, 3, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(4))
        model[2].weight.copy_(torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]))
    inputs = torch.tensor([[1.0, 1, 0, 0], [1, 1, 0, 0], [2, 1, 0, 0], [0, 0, 0, 1]]).to(dtype)
    groups = {"memorized": [0, 1], "clean": [2, 3]}
    study = mv.Study(model.to(dtype).eval(), inputs, torch.tensor([0, 1, 0, 0]), groups)
    read = mv.readout(study, "0:0", random_draws=2)
    assert read.before.tolist() == [0, 0, 0, 0] and read.after.tolist() == [1, 1, 1, 0]
    for name, (before, after) in {"memorized": (1, 1), "clean": (2, 1)}.items():
        group = read.groups[name]
        assert (group.before.correct, group.after.correct) == (before, after)
    assert read.groups["memorized"].right_to_wrong == read.groups["memorized"].wrong_to_right == 1


def test_many_margins_are_averaged_exactly() -> None:
    margins = torch.full((300_000,), 0.1)
    margins[::3] = 1000.0
    wanted = margins.double().mean()
    assert Reading.of(margins.double()).margin == pytest.approx(float(wanted), rel=1e-12)


def test_without_progress_no_bar_is_shown(study: mv.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []

    def bar(items, words, total, *, disable, **_):
        if not disable:
            shown.append(words)
        return items

    monkeypatch.setattr("memviz.progress.tqdm", bar)
    mv.sweep(study, "fc:0-3", progress=False)
    mv.readout(study, "fc:0-3", random_draws=2, progress=False)
    mv.ablation_curve(study, mv.sweep(study, progress=False).scores(), (0, 2), progress=False)
    assert shown == []
    mv.readout(study, "fc:0-3", random_draws=2)
    assert shown == ["recording", "random units"]
