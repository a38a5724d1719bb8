"""The sweep of a hard network on packed bits, against hooks on the float network."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import memviz as mv
from memviz.models.logic_gates import (
    INTERVENTIONS,
    DenseGates,
    GroupSum,
    PackedNetwork,
    PackedSweep,
    Thresholds,
    TreeConv,
    live_gates,
    logic_dense_net,
)


def dense() -> nn.Sequential:
    model = logic_dense_net(6, [12, 14, 12], 3, thresholds=(0.3, 0.6), init="gaussian", tau=2.5)
    model[3].wires[1, :3] = model[3].wires[0, :3]  # both wires of these are one input
    return model.eval()


def trees() -> nn.Sequential:
    return nn.Sequential(
        Thresholds([0.3, 0.6]),
        TreeConv(4, 3, window=3, depth=3, padding=1, init="gaussian", seed=1),
        nn.MaxPool2d(3),
        TreeConv(3, 4, window=2, depth=2, padding=1, init="gaussian", seed=2),
        nn.MaxPool2d(2),
        nn.Flatten(),
        DenseGates(4, 9, init="gaussian", seed=3),
        GroupSum(3, 1.5),
    ).eval()


def _study(net: Callable[[], nn.Sequential], n: int = 70) -> mv.Study:
    model = net()
    shape = (2, 7, 6) if net is trees else (6,)
    inputs = torch.rand(n, *shape, generator=torch.Generator().manual_seed(0))
    groups = {"memorized": range(n // 2), "clean": range(n // 2, n)}
    return mv.Study(model, inputs, torch.arange(n) % 3, groups)


@pytest.mark.parametrize("net", [dense, trees])
@pytest.mark.parametrize("how", INTERVENTIONS)
def test_every_gate_on_every_example_is_as_the_hook_loop_has_it(
    net: Callable[[], nn.Sequential], how: str
) -> None:
    study = _study(net)
    effects = mv.sweep(study, how=how, progress=False)
    hooks = mv.sweep(study, how=how, engine="hook", progress=False)
    assert (effects.engine, hooks.engine, effects.why) == ("packed", "hook", "")
    assert effects.exact.all()
    assert torch.equal(effects.margin_change, hooks.margin_change)
    assert torch.equal(effects.correct, hooks.correct)
    torch.testing.assert_close(effects.loss_change, hooks.loss_change)
    assert effects.margin_change.any()
    live = live_gates(study.model)
    dead = torch.tensor([not live[unit.layer][unit.index] for unit in effects.units])
    assert not effects.margin_change[dead].any()


@pytest.mark.parametrize("net", [dense, trees])
def test_votes_are_those_of_the_float_and_of_the_packed_network(
    net: Callable[[], nn.Sequential],
) -> None:
    study = _study(net, n=65)
    sweep = PackedSweep(study.model, study.inputs)
    assert torch.equal(sweep.votes, PackedNetwork(study.model).votes(study.inputs))
    last = study.model[-1]
    assert torch.equal(sweep.votes, last.votes(study.model(study.inputs)))


def test_an_answer_does_not_depend_on_who_else_was_asked(tmp_path: Path) -> None:
    study = _study(dense)
    effects = mv.sweep(study, progress=False)
    order = torch.randperm(70, generator=torch.Generator().manual_seed(1))[:66]
    some = mv.sweep(study, "3.gates:4,9", order, progress=False)
    rows = [effects.units.index(unit) for unit in some.units]
    assert some.engine == "packed"
    assert torch.equal(some.margin_change, effects.margin_change[rows][:, order])
    alone = mv.sweep(study, "3.gates:4", [7], progress=False)
    assert torch.equal(alone.margin_change, effects.margin_change[rows[:1]][:, [7]])
    # With little memory the examples come 64 at a time.
    little = mv.sweep(study, memory=1, progress=False)
    torch.testing.assert_close(little.margin_change, effects.margin_change)
    top = mv.sweep(study, top=5, path=tmp_path / "sweep.safetensors", progress=False)
    assert int(top.exact.sum()) == 5
    again = mv.sweep(study, path=tmp_path / "sweep.safetensors", progress=False)
    assert torch.equal(again.margin_change, effects.margin_change)


def test_margins_are_votes_over_tau() -> None:
    study = _study(dense)
    effects, last = mv.sweep(study, progress=False), study.model[-1]
    before = last.votes(effects.margin)
    after = last.votes(effects.margin + effects.margin_change)
    votes = PackedSweep(study.model, study.inputs).votes
    own = votes.gather(1, study.labels[:, None])[:, 0]
    others = votes.scatter(1, study.labels[:, None], -1).amax(1)
    assert torch.equal(before, own - others)
    assert torch.equal(after - before, last.votes(effects.margin_change))
    # One gate of the last layer is one vote.
    rows = [k for k, unit in enumerate(effects.units) if unit.layer == "4.gates"]
    assert int(last.votes(effects.margin_change[rows]).abs().max()) == 1


def test_it_stands_back_where_the_model_is_more_than_its_circuit() -> None:
    study = _study(dense)
    plain = mv.sweep(study, "3.gates:0", progress=False)
    with mv.ablate(study.model, "4.gates:0,1,2,3"):
        ablated = mv.sweep(study, "3.gates:0", progress=False)
    assert plain.engine == "packed" != ablated.engine
    assert not torch.equal(plain.margin, ablated.margin)
    half = mv.Study(study.model.half(), study.inputs.half(), study.labels, study.groups)
    assert mv.sweep(half, "3.gates:0", progress=False).engine != "packed"


def test_an_answer_that_disagrees_with_hooks_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    study = _study(dense)
    right = mv.sweep(study, progress=False)
    ablated = PackedSweep.ablated
    monkeypatch.setattr(PackedSweep, "ablated", lambda *given: ablated(*given) + 1)
    effects = mv.sweep(study, progress=False)
    assert effects.engine != "packed"
    assert "packed bits are off by" in effects.why
    torch.testing.assert_close(effects.margin_change, right.margin_change)


def test_what_it_cannot_be_asked_gets_one_sentence() -> None:
    model = dense()
    x = torch.rand(3, 6)
    sweep = PackedSweep(model, x)
    with pytest.raises(ValueError, match="how is 'mean'; gates are replaced by 'zero', "):
        sweep.ablated("2.gates", [0], "mean")
    with pytest.raises(KeyError, match=r"no layer '2'.*'2.gates', '3.gates', '4.gates'"):
        sweep.ablated("2", [0], "zero")
    with pytest.raises(IndexError, match="gates 0 to 11, and no 12"):
        sweep.ablated("2.gates", [12], "zero")
    with pytest.raises(ValueError, match=r"training mode.*model.eval\(\)"):
        PackedSweep(model.train(), x)
    with pytest.raises(ValueError, match=r"'1' \(Linear\) does not work on bits"):
        PackedSweep(nn.Sequential(Thresholds([0.5]), nn.Linear(6, 6), GroupSum(2, 1.0)).eval(), x)
    with pytest.raises(ValueError, match="must be bits"):
        PackedSweep(nn.Sequential(DenseGates(6, 6), GroupSum(2, 1.0)).eval(), x)
