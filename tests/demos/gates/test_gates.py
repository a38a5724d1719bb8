"""The gates demo: early learning, then memorization; rankings against a slow copy; the record."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import memviz as mv
from memviz.demos import gates
from memviz.demos.gates import __main__ as command
from memviz.demos.gates import ablation, curves, margins, ranking
from memviz.models.logic_gates import PackedNetwork, live_gates, logic_dense_net
from memviz.training.gates import soft_and_hard


@pytest.fixture(scope="module")
def small() -> mv.Study:
    """A random circuit of 60 gates, and random labels."""
    model = logic_dense_net(6, [24, 20, 16], 2, thresholds=(0.3, 0.6), init="gaussian").eval()
    draw = torch.Generator().manual_seed(1)
    inputs = torch.rand(60, 6, generator=draw)
    labels = torch.randint(2, (60,), generator=draw)
    groups = {"memorized": range(20), "clean": range(20, 45), "test": range(45, 60)}
    return mv.Study(model, inputs, labels, groups)


def votes_margin(model: nn.Module, study: mv.Study) -> Tensor:
    logits = model(study.inputs).detach() * model[-1].tau  # type: ignore[index]
    own = logits[torch.arange(len(study)), study.labels]
    return own - logits[torch.arange(len(study)), 1 - study.labels]


def with_constant(study: mv.Study, layer: str, unit: int, how: str) -> nn.Module:
    copied = deepcopy(study.model)
    logits = copied.get_submodule(layer).logits.data
    logits[unit] = 0
    logits[unit, 15 if how == "constant 1" else 0] = 9
    return copied


def test_the_ranking_is_that_of_gates_replaced_one_by_one(small: mv.Study) -> None:
    table = ranking(small, progress=False)
    live = {name: int(rows.sum()) for name, rows in live_gates(small.model).items()}
    assert table.layer.value_counts().to_dict() == live
    before = votes_margin(small.model, small)
    groups = small.groups
    for row in table.itertuples():
        scores = {}
        for how in ("zero", "constant 1"):
            model = with_constant(small, row.layer, row.unit, how)
            drop = before - votes_margin(model, small)
            scores[how] = drop[groups["memorized"]].mean() - drop[groups["clean"]].mean()
        assert row.score == pytest.approx(max(scores.values()).item(), abs=1e-4)
        assert scores[row.how] == pytest.approx(row.score, abs=1e-4)
    assert table.score.is_monotonic_decreasing


def test_gates_off_together_are_those_of_a_copy_without_them(small: mv.Study) -> None:
    table = ranking(small, progress=False)
    found = ablation(small, table, (5,), draws=2)
    assert found.chosen.tolist() == ["none", "top", "random"]
    study = small
    for row in table[:5].itertuples():
        model = with_constant(study, row.layer, row.unit, row.how)
        study = mv.Study(model, small.inputs, small.labels, small.groups)
    right = study.model(small.inputs).argmax(1) == small.labels
    for name, mask in small.groups.items():
        assert found[name][1] == right[mask].double().mean().item()


def test_a_draw_of_random_gates_does_not_depend_on_the_other_counts(small: mv.Study) -> None:
    table = ranking(small, progress=False)
    alone = ablation(small, table, (5,), draws=3).iloc[-1]
    among = ablation(small, table, (2, 5, 9), draws=3)
    pd.testing.assert_series_equal(among[among.gates == 5].iloc[-1], alone, check_names=False)


def test_margins_are_of_votes(small: mv.Study) -> None:
    found = margins(small)
    for name, mask in small.groups.items():
        assert found[name] == votes_margin(small.model, small)[mask].double().median().item()


@pytest.mark.parametrize("seed", gates.SHIPPED_SEEDS)
def test_early_learning_comes_before_memorization(seed: int) -> None:
    hard = curves(seed).query("reading == 'hard'").set_index(["group", "epoch"])
    wrong = hard.loc["wrong"]
    assert wrong.true.max() > 2 * wrong.given[wrong.true.idxmax()]
    assert wrong.given.iloc[-1] > 0.5 > wrong.true.iloc[-1]
    assert hard.loc["clean"].given.iloc[-1] > 0.98


@pytest.mark.parametrize("seed", gates.SHIPPED_SEEDS)
def test_the_study_is_the_network_of_the_last_epoch(seed: int) -> None:
    study = mv.demo("gates", seed)
    last = curves(seed).query("reading == 'hard' and epoch == 1000").set_index("group")
    right = PackedNetwork(study.model).predictions(study.inputs) == study.labels
    wrong = study.groups["memorized"] | study.groups["not memorized"]
    assert right[study.groups["memorized"]].all() and int(wrong.sum()) == 80
    assert not right[study.groups["not memorized"]].any()
    assert right[wrong].float().mean() == pytest.approx(last.given["wrong"], abs=1e-6)
    assert right[study.groups["test"]].float().mean() == pytest.approx(last.given["test"], abs=1e-6)
    assert (study.labels != study.true_labels).nonzero()[:, 0].tolist() == sorted(
        wrong.nonzero()[:, 0].tolist()
    )


def test_checkpoints_are_the_networks_of_their_epochs() -> None:
    study = mv.demo("gates")
    table = curves(0).query("reading == 'hard' and group == 'test'").set_index("epoch")
    model = deepcopy(study.model)
    for epoch, state in study.checkpoints.items():
        model.load_state_dict(state)
        found = soft_and_hard(model, study.inputs)["hard"] == study.labels
        share = found[study.groups["test"]].float().mean().item()
        if epoch in table.index:
            assert share == pytest.approx(table.true[epoch], abs=1e-6)
        else:
            assert epoch == 0 and share < 0.2  # all gates pass their first input on
    assert set(study.checkpoints) == {0, 50, 200, 1000}


def test_the_record_is_one_object(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {"soft_test": 0.9, "top50 memorized": 0.5, "top50 test": 0.8}
    seen = []
    monkeypatch.setattr(
        command, "record", lambda seed, progress: seen.append(seed) or {**found, "hard_test": seed}
    )
    command.main(["--json", "--seeds", "0", "1"])
    record = json.loads(capsys.readouterr().out)
    assert seen == [0, 1] and record["hard_test"] == 0.5 and record["soft_test"] == 0.9
    assert record["top50"] == {"memorized": 0.5, "test": 0.8}


def test_a_seed_that_does_not_ship_is_trained_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from memviz.demos.gates import _recipe

    monkeypatch.setenv("MEMVIZ_CACHE", str(tmp_path))
    monkeypatch.setattr(_recipe, "EPOCHS", 2)
    monkeypatch.setattr(_recipe, "CHECKPOINT_EPOCHS", (1,))
    first = gates.load(seed=77)
    trained = []
    monkeypatch.setattr(_recipe, "train_gates", lambda *a, **k: trained.append(a))
    again = gates.load(seed=77)
    assert not trained and set(again.checkpoints) == {0, 1, 2}
    for name, tensor in first.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], tensor)


def test_a_seed_is_a_whole_number() -> None:
    with pytest.raises((TypeError, ValueError), match="seed"):
        gates.load(seed=-1)
