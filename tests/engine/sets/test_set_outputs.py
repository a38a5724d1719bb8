"""Outputs of many sets: replay's, whatever was asked before, and by less arithmetic."""

import numpy as np
import pytest
import torch
from torch import nn

import memviz as mv
from memviz.engine.record import CancelledError, intervention
from memviz.engine.sets import SetOutputs, random_units
from memviz.engine.sets import _outputs as outputs
from tests.support.nets import InPlace, Views

SETS = ["", "a:3", "a:0,2 b:1-3", "b:4,5", "a:1 b:0 c:2", "c:0-4", "a:0-11"]


@pytest.fixture
def study() -> mv.Study:
    torch.manual_seed(0)
    layers = {
        "a": nn.Conv2d(1, 12, 3, padding=1),
        "norm": nn.BatchNorm2d(12),
        "relu": nn.ReLU(),
        "b": nn.Conv2d(12, 8, 3, padding=1),
        "act": nn.ReLU(),
        "flat": nn.Flatten(),
        "c": nn.Linear(8 * 36, 6),
        "last": nn.ReLU(),
        "head": nn.Linear(6, 3),
    }
    model = nn.Sequential()
    for name, layer in layers.items():
        model.add_module(name, layer)
    groups = {"memorized": range(6), "clean": range(6, 20)}
    return mv.Study(model.eval(), torch.randn(20, 1, 6, 6), torch.arange(20) % 3, groups)


@pytest.mark.parametrize("how", ["zero", "mean", "resample"])
def test_as_a_replay(study: mv.Study, how: str) -> None:
    replay, sets = mv.Replay(study), SetOutputs(mv.Replay(study), intervention(how))
    for units in SETS:
        wanted = replay.outputs(units, how)
        assert torch.allclose(sets.of(units), wanted, atol=1e-5 * float(wanted.abs().max()))


@pytest.mark.parametrize("net", [InPlace, Views])
def test_of_any_net(net: type[nn.Module]) -> None:
    torch.manual_seed(1)
    model, inputs = net().eval(), torch.randn(5, 3, 8, 8)
    study = mv.Study(model, inputs, torch.zeros(5), {"memorized": [0], "clean": range(1, 5)})
    replay = mv.Replay(study)
    everything = mv.UnitSet({layer.name: [0, 2] for layer in replay.layers if not layer.is_output})
    sets = SetOutputs(mv.Replay(study), intervention("zero"))
    for seed in range(4):
        units = random_units(replay.layers, everything, seed)
        assert torch.allclose(sets.of(units), replay.outputs(units), rtol=1e-4, atol=1e-5)


def test_a_set_depends_on_no_set_before_it(study: mv.Study) -> None:
    one, two = (SetOutputs(mv.Replay(study), intervention("zero")) for _ in range(2))
    forward = {units: one.of(units) for units in SETS}
    backward = {units: two.of(units) for units in SETS[::-1]}
    assert all(torch.equal(forward[units], backward[units]) for units in SETS)


def test_draws_update_the_record(study: mv.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    run = outputs.run
    monkeypatch.setattr(outputs, "run", lambda *given: runs.append(1) or run(*given))
    draws = mv.readout(study, "a:0,1 b:3", random_draws=7).random
    assert len(runs) == 7 and len(draws["clean"]) == 7


def test_new_weights_and_a_stop(study: mv.Study) -> None:
    sets = SetOutputs(mv.Replay(study), intervention("zero"))
    before = sets.of("a:3")
    with torch.no_grad():
        study.model.get_submodule("b").weight.mul_(2)
    after = sets.of("a:3")
    assert not torch.equal(before, after)
    assert torch.allclose(after, mv.Replay(study).outputs("a:3"), rtol=1e-4, atol=1e-5)
    with pytest.raises(CancelledError, match="nothing has changed"):
        sets.of("a:3", lambda: True)
    assert torch.equal(sets.of("a:3"), after)
    with pytest.raises(IndexError, match="12"):
        sets.of("a:12")


def test_a_curve_has_no_null_where_its_layers_have_no_other_units() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.ReLU(), torch.nn.Linear(2, 3))
    groups = {"memorized": range(4), "clean": range(4, 20)}
    study = mv.Study(model.eval(), torch.randn(20, 4), torch.zeros(20), groups)
    ranking = mv.sweep(study, progress=False).scores()
    curve = mv.ablation_curve(study, ranking, [0, 1, 2], random_draws=3, progress=False)
    assert np.isfinite(curve.random[:, :2]).all()
    assert np.isnan(curve.random[:, 2]).all() and np.isnan(curve.random_mean[2]).all()
    assert len(curve.plot().axes) == 1
