"""Critical units: planted memory, closed forms, independent scores, and the random order."""

import math
from copy import deepcopy
from dataclasses import replace
from functools import cache

import matplotlib.figure
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import memviz as mv
from memviz.engine.record import Filter, Replay, Zero
from memviz.probes.localization.critical import (
    NoisyBatch,
    critical_units,
    first_order_search,
    objective_drops,
)
from memviz.training.loop import train

ALONE = {"random_draws": 0, "progress": False}


def planted(wide: int = 6) -> mv.Study:
    """Linear features that say the class, and one unit that fires for example 0 alone.

    Hidden unit 4 is relu(k(x·x_0/|x_0|² − τ)); it gives example 0 the wrong class 1.
    """
    generator = torch.Generator().manual_seed(0)
    x = 0.1 * torch.randn(40, 8, generator=generator)
    true = torch.arange(40) % 2
    x[torch.arange(40), true] += 1.0
    x[0] += 2 * torch.eye(8)[5]
    labels = true.clone()
    labels[0] = 1
    first, head = nn.Linear(8, wide), nn.Linear(wide, 2)
    with torch.no_grad():
        for parameter in (*first.parameters(), *head.parameters()):
            parameter.zero_()
        for unit in range(4):  # the class twice over
            first.weight[unit, unit % 2] = 1.0
            head.weight[unit % 2, unit] = 1.0
        first.weight[4] = 10 * x[0] / x[0].square().sum()
        first.bias[4] = -10 * 0.8
        head.weight[1, 4], head.weight[0, 4] = 4.0, -4.0
    groups = {"memorized": [0], "clean": range(1, 40)}
    return mv.Study(nn.Sequential(first, nn.ReLU(), head).eval(), x, labels, groups)


@pytest.mark.parametrize("method", ["first-order", "exact"])
@pytest.mark.parametrize("on", ["loss", "margin"])
def test_a_planted_memory_unit_is_found_in_exactly_one_step(method: str, on: str) -> None:
    study = planted()
    found = critical_units(
        study, torch.tensor([0]), how="zero", method=method, on=on, random_draws=3, progress=False
    )
    assert found.units == ((mv.Unit("0", 4),),)
    assert found.flipped.tolist() == [True]
    assert found.retained["clean"].tolist() == [1.0]
    assert np.isnan(found.retained["memorized"][0])  # it has no other member
    effects = mv.sweep(study, examples=torch.tensor([0]), progress=False)
    assert effects.of_example(0).top(1) == mv.UnitSet([mv.Unit("0", 4)])
    assert found.random.min() >= 1


def test_filter_ablation_leaves_the_bias_and_so_the_unit_stays_off() -> None:
    found = critical_units(planted(), torch.tensor([0]), how="filter", **ALONE)
    assert found.units == ((mv.Unit("0", 4),),)


@given(st.integers(1, 12), st.floats(0.2, 4.0), st.floats(0.01, 0.99))
@settings(max_examples=20, deadline=None)
def test_planted_redundancy_takes_the_closed_form(copies: int, m: float, share: float) -> None:
    """A label's logit of R units, each m/R, against a constant c: floor((m−c)R/m) + 1 of them."""
    c = share * m
    exact = (m - c) * copies / m
    if min(exact % 1, 1 - exact % 1) < 1e-3:
        return  # a tie, which float rounding decides
    head = nn.Linear(copies + 2, 2)
    first = nn.Linear(3, copies + 2)
    with torch.no_grad():
        for parameter in (*first.parameters(), *head.parameters()):
            parameter.zero_()
        first.weight[:copies, 0] = 1.0
        first.weight[copies:, 1] = 1.0  # two units that example 0 does not use
        head.weight[0, :copies] = m / copies
        head.weight[1, copies:] = 1.0
        head.bias[1] = c
    x = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 2, 0]])
    study = mv.Study(
        nn.Sequential(first, nn.ReLU(), head).eval(),
        x,
        torch.tensor([0, 1, 1]),
        {"memorized": [0], "clean": [1, 2]},
    )
    for how, method in (("zero", "first-order"), ("filter", "first-order"), ("zero", "exact")):
        found = critical_units(
            study, torch.tensor([0]), how=how, method=method, copies=0, on="margin", **ALONE
        )
        assert found.counts.tolist() == [math.floor(exact) + 1]
        assert max(unit.index for unit in found.units[0]) < copies


@cache
def trained(norm: bool) -> tuple[nn.Module, Tensor, Tensor]:
    """A small net that has learned its examples, so that its units say something."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(20) % 3
    x = 0.5 * torch.randn(20, 1, 6, 6, generator=generator)
    x[torch.arange(20), 0, 2 * labels] += 1.0
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Conv2d(1, 5, 3), nn.BatchNorm2d(5) if norm else nn.Identity(), nn.ReLU()]
        model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(80, 7), nn.ReLU(), nn.Linear(7, 3))
    train(model, x, labels, epochs=12, batch_size=5, learning_rate=0.05, progress=False)
    model.zero_grad()
    return model, x, labels


def small(norm: bool = True, dtype: torch.dtype = torch.float32) -> mv.Study:
    model, x, labels = trained(norm)
    groups = {"memorized": range(5), "clean": range(5, 20)}
    return mv.Study(deepcopy(model).to(dtype), x.to(dtype), labels.clone(), groups)


def batch_of(study: mv.Study, copies: int = 3) -> NoisyBatch:
    generator = torch.Generator().manual_seed(4)
    return NoisyBatch.of(study, torch.tensor([2, 7, 8, 9, 3]), copies, 0.01, generator)


def objective(model: nn.Module, batch: NoisyBatch, labels: Tensor) -> Tensor:
    outputs = torch.stack([model(copy) for copy in batch.copies]).mean(0)
    losses = cross_entropy(outputs, labels[batch.examples], reduction="none")
    return losses[1:].sum() / len(losses) - losses[0]


def test_scores_are_weight_times_gradient_summed_over_a_units_weights() -> None:
    study = small()
    batch = batch_of(study)
    model = study.model
    value = objective(model, batch, study.labels)
    weights = [model[0].weight, model[4].weight]
    slopes = torch.autograd.grad(value, weights)
    by_hand = torch.cat([
        (w * g).flatten(1).sum(1) for w, g in zip(weights, slopes, strict=True)
    ])  # fmt: skip
    units = [mv.Unit("0", k) for k in range(5)] + [mv.Unit("4", k) for k in range(7)]
    drops, _ = objective_drops(Replay(study, memory=0), units, Filter(), batch, mv.UnitSet())
    known = drops.isfinite()
    assert known.sum() >= 10
    assert torch.allclose(drops[known], by_hand.detach()[known], atol=1e-6)


def test_unit_scores_are_the_objectives_slope_along_the_way_to_zero() -> None:
    study = small(dtype=torch.float64)
    batch, units = batch_of(study), [mv.Unit("0", k) for k in range(5)]
    drops, margin = objective_drops(Replay(study, memory=0), units, Zero(), batch, mv.UnitSet())
    for row, unit in enumerate(units):
        values = []
        for factor in (1 + 1e-6, 1 - 1e-6):
            with mv.ablate(study, [unit], mv.Scale(factor)), torch.no_grad():
                values.append(float(objective(study.model, batch, study.labels)))
        assert (values[0] - values[1]) / 2e-6 == pytest.approx(float(drops[row]), abs=1e-6)
    with torch.no_grad():
        outputs = torch.stack([study.model(copy) for copy in batch.copies]).mean(0)
    mine = study.task.margin(outputs, study.labels[batch.examples])[0]
    assert margin == pytest.approx(float(mine))


def test_for_the_last_hidden_layer_the_first_order_is_the_exact_change_of_the_logit() -> None:
    class Logit(mv.Classification):
        def margin(self, outputs: Tensor, labels: Tensor) -> Tensor:
            return outputs.gather(1, labels[:, None])[:, 0]

    study = small()
    study.task = Logit()
    units = [mv.Unit("4", k) for k in range(7)]
    replay = Replay(study, torch.tensor([2]), memory=0)
    alone = NoisyBatch(torch.tensor([2]), (study.inputs[[2]],))
    drops, before = objective_drops(replay, units, Zero(), alone, mv.UnitSet(), on="margin")
    for row, unit in enumerate(units):
        after = float(study.task.margin(replay.outputs([unit]), study.labels[[2]]))
        dead = drops[row] == -torch.inf
        assert (0.0 if dead else float(drops[row])) == pytest.approx(before - after, abs=1e-6)


def test_scores_after_some_units_are_ablated_are_those_of_a_net_without_them() -> None:
    study = small(norm=False)
    gone = mv.UnitSet({"0": [1, 3], "4": [2]})
    pruned = replace(study, model=deepcopy(study.model))
    with torch.no_grad():
        pruned.model[0].weight[[1, 3]] = 0
        pruned.model[4].weight[2] = 0
    batch = batch_of(study)
    units = [mv.Unit("0", k) for k in range(5)] + [mv.Unit("4", k) for k in range(7)]
    mine, a = objective_drops(Replay(study, memory=0), units, Filter(), batch, gone)
    its, b = objective_drops(Replay(pruned, memory=0), units, Filter(), batch, mv.UnitSet())
    assert a == pytest.approx(b, abs=1e-6)
    assert torch.equal(mine.isfinite(), its.isfinite())
    assert torch.allclose(mine[mine.isfinite()], its[its.isfinite()], atol=1e-6)
    assert mine[[1, 3, 7]].tolist() == [-torch.inf] * 3


def plain_search(model: nn.Module, batch: NoisyBatch, labels: Tensor) -> list[mv.Unit]:
    """The released idea written out: score the filters, zero the best, until the example flips."""
    found: list[mv.Unit] = []
    layers = {"0": model[0], "4": model[4]}
    while True:
        with torch.no_grad():
            outputs = torch.stack([model(x) for x in batch.copies]).mean(0)
        if outputs[0].argmax() != labels[batch.examples[0]]:
            return found
        weights = [layer.weight for layer in layers.values()]
        slopes = torch.autograd.grad(objective(model, batch, labels), weights)
        scores = {
            mv.Unit(name, k): float((w[k] * g[k]).sum().detach())
            for name, w, g in zip(layers, weights, slopes, strict=True)
            for k in range(len(w))
            if mv.Unit(name, k) not in found and g[k].any()
        }
        if not scores:
            return found
        best = max(scores, key=lambda unit: scores[unit])
        found.append(best)
        with torch.no_grad():
            layers[best.layer].weight[best.index] = 0


def test_the_search_is_a_plain_loop_over_zeroed_weights() -> None:
    study = small(norm=False)
    units = [mv.Unit("0", k) for k in range(5)] + [mv.Unit("4", k) for k in range(7)]
    generator, replay, flips = torch.Generator().manual_seed(4), Replay(study, memory=0), []
    for example in range(20):
        rows = torch.tensor([example, (example + 7) % 20, (example + 9) % 20])
        batch = NoisyBatch.of(study, rows, 2, 0.01, generator)
        found, flipped = first_order_search(replay, units, Filter(), batch, on="loss", cap=12)
        assert found == tuple(plain_search(deepcopy(study.model), batch, study.labels))
        flips.append(len(found) if flipped else 0)
    assert max(flips) > 1


def test_noise_is_a_share_of_the_whole_batchs_norm_and_seeded() -> None:
    study = small()
    rows = torch.tensor([1, 4, 6])
    one, two = (
        NoisyBatch.of(study, rows, 4, 0.01, torch.Generator().manual_seed(7)) for _ in range(2)
    )
    assert len(one.copies) == 4
    for copy, again in zip(one.copies, two.copies, strict=True):
        assert torch.equal(copy, again)
        difference = copy - study.inputs[rows]
        assert float(difference.norm() / study.inputs[rows].norm()) == pytest.approx(0.01, rel=1e-4)
    assert not torch.equal(one.copies[0], one.copies[1])
    assert torch.equal(NoisyBatch.of(study, rows, 0, 0.01, torch.Generator()).copies[0],
                       study.inputs[rows])  # fmt: skip


def test_random_order_counts_equal_a_loop_over_ablate() -> None:
    study = small()
    examples = torch.tensor([0, 6, 11])
    found = critical_units(study, examples, how="zero", copies=0, random_draws=2, cap=1,
                           progress=False, seed=3)  # fmt: skip
    units = [unit for layer in mv.layers(study)[:-1] for unit in layer.all()]
    for draw in range(2):
        order = torch.randperm(12, generator=torch.Generator().manual_seed(3 + draw)).tolist()
        for place, example in enumerate(examples.tolist()):
            count = np.inf
            for k in range(13):
                with mv.ablate(study, [units[j] for j in order[:k]]), torch.no_grad():
                    outputs = study.model(study.inputs[[example]])
                if float(study.task.margin(outputs, study.labels[[example]])) <= 0:
                    count = k
                    break
            assert found.random[draw, place] == count


def test_retained_accuracy_is_that_of_the_others_with_the_units_off() -> None:
    study = small()
    found = critical_units(study, torch.arange(20), how="zero", copies=0, **ALONE)
    assert found.flipped.sum() > 10
    for example in range(20):
        with mv.ablate(study, found.units[example]), torch.no_grad():
            right = study.model(study.inputs).argmax(1) == study.labels
        assert right[example] != found.flipped[example]
        others = [k for k in range(5) if k != example]
        share = right[others].float().mean().item()
        assert found.retained["memorized"][example] == pytest.approx(share)


def test_the_cap_ends_it_an_example_already_wrong_takes_none_and_nothing_is_left_behind() -> None:
    study = small()
    study.labels[4] = (study.labels[4] + 1) % 3
    before = {name: tensor.clone() for name, tensor in study.model.state_dict().items()}
    rng = torch.get_rng_state()
    for method in ("first-order", "exact"):
        found = critical_units(study, torch.tensor([4, 7]), cap=1, method=method, **ALONE)
        assert found.units[0] == () and found.flipped[0] and found.counts[0] == 0
        assert len(found.units[1]) == 1
    capped = critical_units(study, torch.tensor([7]), units="4:0", **ALONE)
    assert not capped.flipped[0] and capped.counts[0] == np.inf
    assert torch.equal(torch.get_rng_state(), rng)
    assert all(torch.equal(before[name], t) for name, t in study.model.state_dict().items())
    assert all(p.grad is None for p in study.model.parameters())


def test_tables_scores_and_figure() -> None:
    found = critical_units(small(), per_group=3, how="zero", random_draws=2, progress=False)
    assert found.frame["group"].tolist() == ["memorized"] * 3 + ["clean"] * 3
    assert found.by_group.loc["clean", "n"] == 3
    assert found.by_layer.sum().tolist() == pytest.approx([1, 1])
    assert list(found.by_layer.index) == ["0", "4"]
    scores = found.scores()
    assert scores.null is not None and scores.null.values.shape == (2, 6)
    assert np.nanmax(scores.values) == found.counts[found.flipped].max()
    assert isinstance(found.plot(), matplotlib.figure.Figure)
    assert found.plot()._repr_png_().startswith(b"\x89PNG")
    assert "zero ablation flips an example, first-order search" in repr(found)
    assert critical_units(small(), torch.tensor([1]), **ALONE).scores().null is None


def test_token_inputs_take_no_noise() -> None:
    model = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(12, 6), nn.ReLU(),
                          nn.Linear(6, 3)).eval()  # fmt: skip
    study = mv.Study(model, torch.randint(0, 9, (8, 3)), torch.zeros(8),
                     {"memorized": [0], "clean": range(1, 8)})  # fmt: skip
    with pytest.raises(
        ValueError, match="not floating-point, so noise cannot be added; use copies=0"
    ):
        critical_units(study, torch.tensor([0]), **ALONE)
    assert len(critical_units(study, torch.tensor([0]), copies=0, **ALONE).units) == 1


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"method": "fast"}, "method is 'fast'; use 'first-order' or 'exact'"),
        ({"on": "logit"}, "on is 'logit'; use 'loss' or 'margin'"),
        ({"how": "resample"}, "depends on another example each time"),
        ({"cap": 0}, "must be at least 1"),
        ({"copies": -1}, "copies at least 0"),
        ({"noise": math.nan}, "noise is nan; give a number"),
        ({"noise": -0.1}, "noise must be a finite number of at least 0"),
        ({"noise": math.inf}, "noise must be a finite number"),
        ({"random_draws": -1}, "random_draws at least 0"),
        ({"examples": torch.tensor([1, 1])}, "examples names an example twice; give each once"),
        ({"per_group": 0}, "per_group is 0"),
        ({"examples": torch.tensor([99])}, "99"),
    ],
)
def test_bad_input_gets_one_sentence(wrong: dict[str, object], said: str) -> None:
    with pytest.raises((ValueError, IndexError), match=said):
        critical_units(small(), progress=False, **wrong)


def test_an_examples_answer_depends_on_no_other_example() -> None:
    """With fewer reference examples than there are, so that they are drawn."""
    study = small()
    examples = torch.tensor([7, 2, 11, 4, 0])
    how: dict[str, object] = {"how": "zero", "reference": 4, "noise": 0.05, "progress": False}
    together = critical_units(study, examples, random_draws=2, seed=3, **how)
    for place, example in enumerate(examples.tolist()):
        alone = critical_units(study, torch.tensor([example]), random_draws=2, seed=3, **how)
        assert alone.units[0] == together.units[place]
        assert alone.flipped[0] == together.flipped[place]
        assert alone.random[:, 0].tolist() == together.random[:, place].tolist()
        for group, retained in together.retained.items():
            assert alone.retained[group][0] == pytest.approx(retained[place], nan_ok=True)
    order = torch.tensor([3, 0, 4, 2, 1])
    turned = critical_units(study, examples[order], random_draws=2, seed=3, **how)
    assert turned.units == tuple(together.units[k] for k in order)
    assert np.array_equal(turned.random, together.random[:, order])
    other = [critical_units(study, examples, seed=seed, **how) for seed in range(4)]
    assert len({result.units for result in other}) > 1  # the seed draws reference and noise


def test_units_that_tie_are_taken_in_a_drawn_order_not_in_that_of_the_layer() -> None:
    first, head = nn.Linear(2, 8), nn.Linear(8, 2)
    with torch.no_grad():
        for parameter in (*first.parameters(), *head.parameters()):
            parameter.zero_()
        first.weight[:] = torch.tensor([1.0, 0.0])
        head.weight[0] = 0.25
        head.bias[1] = 1.1
    study = mv.Study(
        nn.Sequential(first, nn.ReLU(), head).eval(),
        torch.tensor([[1.0, 0.0], [2.0, 0.0]]),
        torch.tensor([0, 0]),
        {"memorized": [0], "clean": [1]},
    )
    taken = [
        critical_units(study, torch.tensor([0]), how="zero", copies=0, seed=seed, **ALONE).units[0]
        for seed in range(8)
    ]
    assert {len(units) for units in taken} == {4}
    assert len({units[0] for units in taken}) > 2


@pytest.mark.parametrize("label", [0, 1])
def test_a_tie_counts_as_flipped_whatever_the_number_of_the_label(label: int) -> None:
    first, head = nn.Linear(2, 2), nn.Linear(2, 2)
    with torch.no_grad():
        for parameter in (*first.parameters(), *head.parameters()):
            parameter.zero_()
        first.weight.copy_(torch.eye(2))
        head.weight[label] = 1.0
    study = mv.Study(
        nn.Sequential(first, nn.ReLU(), head).eval(),
        torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
        torch.tensor([label, label]),
        {"memorized": [0], "clean": [1]},
    )
    for method in ("first-order", "exact"):
        found = critical_units(
            study, torch.tensor([0]), how="zero", method=method, copies=0, random_draws=1,
            progress=False,
        )  # fmt: skip
        assert found.units == ((mv.Unit("0", 0),),) and found.flipped.all()
        assert np.isfinite(found.random).all()


def test_double_precision_stays_in_the_drops() -> None:
    units = [mv.Unit("0", k) for k in range(5)]
    for dtype in (torch.float32, torch.float64):
        study = small(dtype=dtype)
        drops, _ = objective_drops(
            Replay(study, memory=0), units, Zero(), batch_of(study), mv.UnitSet()
        )
        assert drops.dtype == dtype
