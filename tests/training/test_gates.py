"""Training of gate networks: the papers' optimizer, both readings measured, and going on."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from memviz.models.logic_gates import logic_dense_net
from memviz.training.gates import soft_and_hard, train_gates

X = torch.rand(40, 6, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > X[:, 1]).long()
NOISY = torch.where(torch.arange(40) < 8, 1 - Y, Y)
GROUPS = {"wrong": range(8), "clean": range(8, 30), "test": range(30, 40)}


def network() -> nn.Sequential:
    return logic_dense_net(6, [32, 16], 2, thresholds=(0.3, 0.6), tau=2.0)


def trained(model: nn.Module, **more: object) -> pd.DataFrame:
    settings = {"true_labels": Y, "examples": range(30), "epochs": 6, "batch_size": 10}
    settings |= {"progress": False, **more}
    return train_gates(model, X, NOISY, GROUPS, **settings).curves


def test_equals_adamw_written_out() -> None:
    model, by_hand = network(), network()
    trained(model, epochs=4)
    optimizer = torch.optim.AdamW(by_hand.parameters(), lr=0.02, weight_decay=0.002)
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        for batch in torch.randperm(30, generator=generator).split(10):
            optimizer.zero_grad()
            cross_entropy(by_hand(X[batch]), NOISY[batch]).backward()
            optimizer.step()
    for ours, theirs in zip(model.parameters(), by_hand.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_curves_are_the_shares_of_both_readings() -> None:
    model = network()
    curves = trained(model, measure_epochs=(2, 6))
    assert curves.epoch.unique().tolist() == [2, 6] and curves.step.max() == 18
    assert not model.training
    last = curves[curves.epoch == 6].set_index(["reading", "group"])
    with torch.no_grad():
        predicted = {"hard": model.eval()(X).argmax(1), "soft": model.train()(X).argmax(1)}
    for reading, group in last.index:
        rows = torch.tensor(GROUPS[group])
        for name, labels in {"given": NOISY, "true": Y}.items():
            share = (predicted[reading] == labels)[rows].double().mean().item()
            assert last.loc[(reading, group), name] == share


def test_soft_and_hard_leave_each_module_in_its_mode() -> None:
    model = network().eval()
    model[2].train()
    before = [module.training for module in model.modules()]
    assert set(soft_and_hard(model, X)) == {"soft", "hard"}
    assert [module.training for module in model.modules()] == before


def test_a_stopped_training_goes_on_to_the_same_curves(tmp_path: Path) -> None:
    def stop(epoch: int, model: nn.Module) -> None:
        if epoch == 3:
            raise KeyboardInterrupt

    whole = trained(network())
    model = network()
    with pytest.raises(KeyboardInterrupt):
        trained(model, folder=tmp_path, on_epoch=stop)
    pd.testing.assert_frame_equal(trained(model, folder=tmp_path), whole)
    pd.testing.assert_frame_equal(trained(network(), folder=tmp_path), whole)
    with pytest.raises(ValueError, match="has curves of the groups"):
        train_gates(network(), X, NOISY, {"other": range(3)}, folder=tmp_path, progress=False)


def test_what_is_no_gate_network_is_refused() -> None:
    with pytest.raises(ValueError, match="a Linear, has no layer of gates"):
        train_gates(nn.Linear(6, 2), X, Y, {})
    with pytest.raises(ValueError, match="group test"):
        train_gates(network(), X, Y, {"test": [99]})
