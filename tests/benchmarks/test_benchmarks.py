"""The benchmarks answer what they promise; how fast is never tested."""

import importlib
import json

import pytest
import torch
from torch import nn

import memviz as mv
from benchmarks import __main__ as benchmarks
from benchmarks import models, page, scaling, sweep, tables, toggle
from benchmarks.greedy import captum_step
from benchmarks.greedy import measure as measure_greedy
from benchmarks.hook import best_batch, hook_logits, set_logits
from benchmarks.peers import captum_part, hook_drops
from benchmarks.samples import Agreement, LayerTimes, spread
from benchmarks.timing import Timing, in_turn, one_thread, peak_memory
from memviz.models.convnet import ConvNet
from memviz.models.mlp import MLP

OURS = ["sweep", "toggle", "estimate", "greedy", "scaling", "memory", "ceilings", "page"]


def small(name: str) -> models.Subject:
    """Small networks under the names of the large ones."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (24,), generator=generator)
    if name == "mlp":
        model: nn.Module = MLP((6, 5, 4, 3), seed=0)
        inputs, axis = torch.randn(24, 6, generator=generator), -1
        sites = {"fc1": "relu1", "fc2": "relu2"}
    else:
        model = ConvNet((3, 4, 5, 6), 7, 3, seed=0)
        inputs, axis = torch.randn(24, 1, 8, 8, generator=generator), 1
        sites = {"conv1": "relu1", "conv4": "relu4"}
    return models.Subject(name, model.eval(), inputs, labels, sites, axis, examples=10, sample=2)


@pytest.fixture
def _small(monkeypatch):
    for name in ("resnet9", "mlp"):
        monkeypatch.setitem(models.SUBJECTS, name, lambda name=name: small(name))
        monkeypatch.setitem(toggle.MODELS, name, lambda name=name: small(name))
    monkeypatch.setattr(sweep.ceilings, "measure", lambda: {"copy": 1.0})


@pytest.mark.parametrize("command", OURS)
def test_each_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as left:
        benchmarks.main([command, "--help"])
    assert left.value.code == 0
    assert f"python -m benchmarks {command}" in capsys.readouterr().out


def test_a_wrong_argument_is_refused(capsys):
    for asked in (["sweep", "--model", "resnet1000"], ["no-such-benchmark"]):
        with pytest.raises(SystemExit) as left:
            benchmarks.main(asked)
        assert left.value.code == 2
        assert asked[-1] in capsys.readouterr().err


def test_everything_that_is_run_is_a_command():
    assert {asked[0] for asked in benchmarks.EVERYTHING.values()} < set(benchmarks.COMMANDS)
    for name in OURS:
        assert callable(importlib.import_module(f"benchmarks.{name}").main)


@pytest.mark.usefixtures("_small")
def test_a_tiny_sweep_says_all_it_promises():
    found = sweep.measure("mlp", examples=8, sample=3, repeats=2, batches=(4, 8), whole=True)
    assert (found["units"], found["sampled_units"], found["examples"]) == (9, 6, 8)
    assert found["hook_batch"] in (4, 8)
    for before in ("", "replay_"):
        assert found[f"{before}equal_predictions"] is True
        assert found[f"{before}ratio_hook"] > 0 and found[f"{before}ratio_captum"] > 0
        assert found[f"{before}unit_examples_per_second"] > 0
    assert found["max_error"] <= 1e-5
    assert found["replay_bitwise"] is True and found["replay_path"] == "replay"
    assert found["captum_max_error"] < 1e-5 and found["captum_differs_in"] == []
    assert set(found["layers"]) == {"fc1", "fc2"}
    assert set(found["whole"]) >= {"replay_seconds", "auto_seconds"}
    json.dumps(found)


@pytest.mark.usefixtures("_small")
def test_tiny_clicks_and_a_tiny_greedy_step():
    clicks = toggle.measure("resnet9", examples=9, clicks=2)
    assert clicks["replay_bitwise"] is True and clicks["replay_equal_predictions"] is True
    assert clicks["max_error"] < 1e-5 and clicks["equal_predictions"] is True
    assert set(clicks["one_layer"]) == set(clicks["every_layer"]) == {"conv1", "conv4"}
    step = measure_greedy("resnet9", repeats=1, sample=2)
    assert step["units"] == 4 and step["equal_predictions"] and step["same_best_unit"]
    assert step["max_error"] < 1e-5


@pytest.mark.parametrize("name", ["mlp", "resnet9"])
def test_the_peers_find_what_the_hook_finds(name):
    chosen = small(name)
    study = chosen.study(6)
    layer = next(iter(chosen.sites))
    units = [mv.Unit(layer, 2), mv.Unit(layer, 0)]
    part = captum_part(chosen, study, units, batch=4)
    drops, largest = hook_drops(chosen, study, units, batch=4)
    assert part.drops.shape == drops.shape == (2, 6) and largest > 0
    torch.testing.assert_close(part.drops, drops)
    assert part.features == 3 and part.fixed == part.passes - 3 >= 1
    one = mv.Study(chosen.model, chosen.inputs[:1], chosen.labels[:1], {"test": range(1)})
    every = [mv.Unit(layer, index) for index in range(chosen.units()[layer])]
    expected = hook_drops(chosen, one, every, batch=1)[0][:, 0]
    torch.testing.assert_close(captum_step(chosen, one, layer), expected)


def test_the_hook_zeroes_what_memviz_ablates_and_leaves_no_trace():
    chosen = small("resnet9")
    units = [mv.Unit("conv1", 1), mv.Unit("conv4", 2)]
    inputs = chosen.inputs[:5]
    for some in (units[:1], units):
        with torch.no_grad(), mv.ablate(chosen.model, mv.UnitSet(some)) as ablated:
            expected = ablated(inputs)
        assert torch.equal(set_logits(chosen, some, inputs), expected)
    assert torch.equal(hook_logits(chosen, units[0], inputs), set_logits(chosen, units[:1], inputs))
    assert not any(module._forward_hooks for module in chosen.model.modules())


def test_the_best_batch_is_one_of_those_tried():
    batch, tried = best_batch(small("mlp"), (2, 8), repeats=1)
    assert set(tried) == {2, 8} and tried[batch] == min(tried.values())


@pytest.mark.parametrize(("name", "units"), [("resnet18", 3904), ("vit", 4608), ("mlp", 1536)])
def test_the_models_have_the_units_that_are_promised(name, units):
    chosen = models.subject(name)
    assert sum(chosen.units().values()) == units
    layer = list(chosen.sites)[-1]
    with torch.no_grad(), mv.ablate(chosen.model, f"{layer}:3") as ablated:
        expected = ablated(chosen.inputs[:2])
    assert torch.equal(hook_logits(chosen, mv.Unit(layer, 3), chosen.inputs[:2]), expected)


def test_a_layer_is_added_up_from_its_sample():
    units = [mv.Unit("fc", index) for index in spread(10, 3)]
    layer = LayerTimes(10, units)
    assert [unit.index for unit in units] == [0, 4, 9]
    layer.times["hook"].cpu = [3.0, 6.0]
    assert layer.seconds("hook") == [10.0, 20.0]
    layer.first["auto"].cpu, layer.times["auto"].cpu = [5.0], [1.0]
    assert layer.seconds("auto") == [5.0 + 9 * 0.5]


def test_agreement_sees_what_differs():
    same, near, wrong = torch.eye(3), torch.eye(3) + 1e-6, -torch.eye(3)
    agreement = Agreement()
    agreement.add(same, torch.eye(3))
    assert agreement.facts() == {"max_error": 0.0, "bitwise": True, "equal_predictions": True}
    agreement.add(near, same)
    assert not agreement.bitwise and agreement.changed == 0
    agreement.add(wrong, same)
    assert agreement.facts()["max_error"] == 2 and not agreement.facts()["equal_predictions"]


def test_times_are_kept_run_by_run_and_threads_are_put_back():
    seen = []
    timings = in_turn({"a": lambda: seen.append("a"), "b": lambda: seen.append("b")}, 2)
    assert seen == list("ababab") and len(timings["a"].cpu) == len(timings["b"].wall) == 2
    assert Timing([1.0, 3.0, 2.0], [0.0]).median == 2 and Timing([1.0, 3.0, 2.0], []).spread == 1
    before = torch.get_num_threads()
    with pytest.raises(KeyError), one_thread():
        assert torch.get_num_threads() == 1
        raise KeyError
    assert torch.get_num_threads() == before
    assert peak_memory() > 10 * 2**20


def test_a_line_is_fitted_to_what_is_linear():
    found = scaling.fit([2, 20, 200], [0.3 + 0.1 * n for n in (2, 20, 200)])
    assert found["seconds_fixed"] == 0.3 and found["seconds_for_each"] == 0.1
    assert found["largest_miss_of_the_line"] < 1e-9
    assert scaling.fit([1, 10, 100], [2.0, 200.0, 20000.0])["exponent"] == 2


@pytest.mark.usefixtures("_small")
def test_the_page_is_written_from_results(tmp_path, capsys):
    found = sweep.measure("mlp", examples=8, sample=2, repeats=1, batches=(8,))
    found |= {"ratio_hook": 12.5, "replay_ratio_hook": 2.25}
    found["others"] = {"nnsight": {"version": "9.9", "cost_of_hook": 1.1, "max_error": 0.0}}
    results = {
        "sweep-mlp": found,
        "toggle-resnet9": toggle.measure("resnet9", examples=9, clicks=2),
        "memory": {"grown_mb": 300, "replay_grown_mb": 200, "model": "a|b"},
        "estimate": {"seconds": 1.5, "digits": {"units": 320}},
        "ceilings": {"copy": 37.0, "about": found["about"]},
        "histograms": {"few bins": {"ours_ms": 1.0}, "many bins": {"ours_ms": 2.0, "ratio": 3.0}},
    }
    for name, result in results.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(result))
    benchmarks.main(["page", str(tmp_path), "--out", str(tmp_path / "performance.md")])
    text = (tmp_path / "performance.md").read_text()
    assert "| MLP | 9 × 8 |" in text and "×12.5" in text and "×2.25" in text
    assert "nnsight 9.9" in text and "a\\|b" in text and "| units | 320 |" in text
    assert "| few bins | 1 |  |" in text and "| many bins | 2 | 3 |" in text
    assert "## One step" not in text and text.index("## Memory") < text.index("## Ceilings")
    assert "### ResNet-9, units of every layer ablated, 9 examples" in text
    assert f"torch {torch.__version__}" in text and f"at `{found['about']['commit']}`:" in text
    with pytest.raises(SystemExit, match="no JSON"):
        page.main([str(tmp_path / "nothing")])


def test_a_table_is_as_wide_as_its_heads():
    lines = tables.generic({"a": {"x": 1}, "b": {"y": True}}).splitlines()
    assert lines == ["|  | x | y |", "| --- | --- | --- |", "| a | 1 |  |", "| b |  | yes |"]


def test_the_page_names_every_commit_that_was_measured():
    one = {"date": "2026-01-02", "commit": "aaa", "processor": "P", "instructions": "I", "cores": 2}
    one |= {"python": "3.11", "versions": {"torch": "2"}}
    other = {**one, "date": "2026-01-01", "commit": "bbb"}
    abouts = {"ceilings": one, "histograms": other, "neighbours": one, "click": None}
    text = page.page({name: {"about": about} if about else {} for name, about in abouts.items()})
    assert "Measured on 2026-01-01, 2026-01-02 at `aaa`, `bbb`: P (I, 2 cores)" in text
