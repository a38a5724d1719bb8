"""Measures of information on studies: planted networks, nulls, what is read, models ranked."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau
from torch import nn

import memviz as mv
from memviz.probes.information import (
    entropy,
    pair_information,
    rank_models,
    unit_entropy,
    unit_values,
)
from memviz.probes.information import figures as figures

N, UNITS = 1000, 8


def linear(weight):
    """A network whose first layer is this matrix, without a non-linearity."""
    first = nn.Linear(weight.shape[1], len(weight), bias=False)
    first.weight.data = weight
    return nn.Sequential(first, nn.Linear(len(weight), 2)).eval()


@pytest.fixture(scope="module")
def inputs():
    """A binary cue, then independent features."""
    generator = torch.Generator().manual_seed(0)
    cue = (torch.rand(N, 1, generator=generator) < 0.5).float()
    return torch.cat([cue, torch.randn(N, UNITS, generator=generator)], 1)


@pytest.fixture(scope="module")
def heuristic(inputs):
    """Planted: each unit is the cue, times a weight of its own."""
    weight = torch.zeros(UNITS, UNITS + 1)
    weight[:, 0] = torch.linspace(-2, 2, UNITS)
    return mv.Study(linear(weight), inputs, torch.zeros(N), {"all": range(N)})


@pytest.fixture(scope="module")
def diverse(inputs):
    """Planted: each unit is a feature of its own."""
    weight = torch.cat([torch.zeros(UNITS, 1), torch.eye(UNITS)], 1)
    return mv.Study(linear(weight), inputs, torch.zeros(N), {"all": range(N)})


@pytest.fixture
def perceptron(inputs):
    generator = torch.Generator().manual_seed(1)
    model = nn.Sequential(
        nn.Linear(UNITS + 1, 12), nn.ReLU(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 2)
    ).eval()
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) / 2
    model[0].bias.data[3] = -50  # dead
    return mv.Study(model, inputs[:300], torch.zeros(300), {"all": range(300)})


# What was planted is found


@pytest.mark.parametrize("edges", ["global", "layer", "unit"])
def test_a_cue_in_every_unit_leaves_ln_2(heuristic, diverse, edges):
    planted = entropy(heuristic, edges=edges, progress=False)
    assert (planted.values <= math.log(2) + 1e-9).all()
    assert planted.mean < entropy(diverse, edges=edges, progress=False).mean - 1


@pytest.mark.parametrize(("estimator", "room"), [("binned", 0.01), ("ksg", 0.05)])
def test_a_cue_in_every_unit_is_shared_by_every_pair(heuristic, diverse, estimator, room):
    planted = pair_information(heuristic, estimator=estimator, null_draws=1, progress=False)
    assert planted.mean == pytest.approx(math.log(2), abs=room)
    apart = pair_information(diverse, estimator=estimator, null_draws=5, progress=False)
    # The mean of 28 independent pairs has a standard deviation of .004 by KSG.
    assert apart.mean == pytest.approx(apart.null_mean, abs=0.01 if estimator == "binned" else 0.02)
    assert planted.null_mean < 0.05 < planted.mean
    if estimator == "ksg":
        assert apart.mean == pytest.approx(0, abs=0.02)


def test_the_null_of_pairs_has_the_bias_of_bins(diverse):
    found = pair_information(diverse, bins=8, null_draws=20, progress=False)
    assert found.null.shape == (20, UNITS, UNITS)
    assert found.null_mean == pytest.approx(7**2 / (2 * N), rel=0.1)


def test_the_null_of_entropy_is_a_random_network(heuristic):
    found = entropy(heuristic, null_draws=3, bins=20, progress=False)
    assert found.null.values.shape == (3, UNITS)
    # Random weights mix nine features, which is far more than one cue.
    assert found.null_mean > found.mean + 1
    assert (found.null.values[0] != found.null.values[1]).all()


def batch_normed(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 3),
            nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(128, 3),
        ).eval()  # fmt: skip


@pytest.mark.parametrize("edges", ["global", "layer", "unit"])
@pytest.mark.parametrize("given", [False, True])
def test_the_null_has_batch_norm_that_is_measured_on_the_examples(edges, given):
    """As plain PyTorch has it: the same weights, batch norm in train mode, all in one batch."""
    images = 0.2 * torch.rand(80, 1, 8, 8, generator=torch.Generator().manual_seed(0)) + 3
    study = mv.Study(batch_normed(5), images, torch.zeros(80), {"all": range(80)})
    found = entropy(
        study, bins=10, edges=edges, null_draws=2, initial=batch_normed if given else None,
        progress=False,
    )  # fmt: skip
    for seed, null in enumerate(found.null.values):
        plain = batch_normed(seed).train()
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(seed)
            for module in () if given else (plain[0], plain[3]):
                module.reset_parameters()
            first = plain[:3](images)
            both = [first.mean((2, 3)), plain[3:6](first).mean((2, 3))]
        expected = unit_entropy(torch.cat(both, 1), 10, edges, ["0"] * 6 + ["3"] * 8)
        # The running variance is the unbiased one: a value on an edge may change its bin.
        np.testing.assert_allclose(null, expected.numpy(), atol=0.1)
    assert found.null_mean > 1 and "batch norm measured on the same examples" in found.null.words


def test_the_null_of_the_digits_is_above_their_entropy():
    """Without measured batch norm it was below, and the conclusion the opposite."""
    digits = mv.demo("digits")
    found = entropy(digits, ["conv4"], digits.group("test"), null_draws=2, progress=False)
    assert found.mean == pytest.approx(3.03, abs=0.01)
    assert found.null_mean == pytest.approx(3.75, abs=0.05)


def test_the_null_leaves_constant_units_out_as_the_mean_does(inputs):
    model = nn.Sequential(nn.Linear(UNITS + 1, 5), nn.ReLU(), nn.Linear(5, 2)).eval()
    study = mv.Study(model, inputs.abs(), torch.zeros(N), {"all": range(N)})

    def half_dead(seed):
        drawn = nn.Sequential(nn.Linear(UNITS + 1, 5), nn.ReLU(), nn.Linear(5, 2))
        drawn[0].weight.data.abs_()
        drawn[0].bias.data = torch.tensor([0.0, -99, 0, -99, 0])
        return drawn.eval()

    found = entropy(study, initial=half_dead, null_draws=3, progress=False)
    live = found.null.values[:, [0, 2, 4]]
    assert (found.null.values[:, [1, 3]] == 0).all() and (live > 1).all()
    assert found.null_mean == pytest.approx(live.mean())
    assert found.by_layer.loc["0", "null"] == pytest.approx(live.mean())
    np.testing.assert_array_equal(np.sort(found.live_null(np.ones(5, bool))), np.sort(live.ravel()))


# What is read


def test_the_values_are_those_of_a_hook(perceptron):
    seen = {}
    hooks = [
        perceptron.model[place].register_forward_hook(
            lambda module, given, out, place=place: seen.__setitem__(place, out.detach())
        )
        for place in range(4)
    ]
    perceptron.model(perceptron.inputs)
    for hook in hooks:
        hook.remove()
    before = unit_values(perceptron, where="before", progress=False)
    after = unit_values(perceptron, where="after", progress=False)
    assert torch.allclose(before.values, torch.cat([seen[0], seen[2]], 1), atol=1e-6)
    assert torch.allclose(after.values, torch.cat([seen[1], seen[3]], 1), atol=1e-6)
    assert [layer.site for layer in before.layers] == ["linear", "linear"]
    assert [layer.site for layer in after.layers] == ["linear > relu", "linear > relu"]


def test_a_conv_unit_is_its_mean_over_positions():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)).eval()
    images = torch.randn(20, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    study = mv.Study(model, images, torch.zeros(20), {"all": range(20)})
    found = unit_values(study, ["0"], progress=False).values
    assert torch.allclose(found, model[:2](images).mean((2, 3)).detach(), atol=1e-6)


def test_labels_are_not_looked_at(perceptron):
    other = replace(perceptron, labels=torch.arange(300) % 2)
    for measure in (entropy, pair_information):
        one, two = (measure(study, progress=False).values for study in (perceptron, other))
        assert np.array_equal(one, two, equal_nan=True)


def test_no_trace_is_left(perceptron):
    weights = {name: value.clone() for name, value in perceptron.model.state_dict().items()}
    state = torch.random.get_rng_state()
    one = entropy(perceptron, progress=False)
    pairs = pair_information(perceptron, progress=False)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(weights[k], v) for k, v in perceptron.model.state_dict().items())
    assert not any(module._forward_hooks for module in perceptron.model.modules())
    assert np.array_equal(one.null.values, entropy(perceptron, progress=False).null.values)
    again = pair_information(perceptron, progress=False)
    assert np.array_equal(pairs.null, again.null, equal_nan=True)


# Results


def test_dead_units_are_counted_apart(perceptron):
    found = entropy(perceptron, bins=20, progress=False)
    dead = found.units.index(mv.Unit("0", 3))
    assert found.constant[dead] and found.values[dead] == 0
    assert found.mean == pytest.approx(found.values[~found.constant].mean())
    assert found.by_layer.loc["0", "constant"] >= 1
    assert f"{found.constant.sum()} of 18 units are constant" in repr(found)
    pairs = pair_information(perceptron, progress=False)
    live = 18 - int(pairs.constant.sum())
    assert pairs.constant[dead] and len(pairs.pairs()) == live * (live - 1) // 2
    assert pairs.scores().values[dead] == 0


def test_means_are_those_of_a_loop(perceptron):
    found = pair_information(perceptron, where="before", null_draws=2, progress=False)
    live = [i for i in range(18) if not found.constant[i]]
    pairs = {(i, j): found.values[i, j] for i, j in itertools.combinations(live, 2)}
    assert found.mean == pytest.approx(np.mean(list(pairs.values())))
    first = [value for (i, j), value in pairs.items() if i < 12 and j < 12]
    assert found.by_layer.loc["0", "mutual information"] == pytest.approx(np.mean(first))
    scores = found.scores()
    for unit in live:
        mine = [value for pair, value in pairs.items() if unit in pair]
        assert scores.values[unit] == pytest.approx(np.mean(mine))
    assert scores.null.values.shape == (2, 18)
    frame = found.frame
    assert len(frame) == 18 * 17 // 2
    row = frame[(frame["layer"] == "0") & (frame["unit"] == 2) & (frame["other layer"] == "2")]
    assert row["value"].to_numpy() == pytest.approx(found.values[2, 12:])


def test_entropy_is_that_of_the_values(perceptron):
    values = unit_values(perceptron, where="before", progress=False)
    for edges in ("global", "layer", "unit"):
        found = entropy(
            perceptron, where="before", edges=edges, bins=30, null_draws=0, progress=False
        )
        assert found.null is None and math.isnan(found.null_mean)
        expected = unit_entropy(values.values, 30, edges, values.names)
        assert np.array_equal(found.values, expected.numpy())
        assert (found.ranges[0] <= found.reached[0]).all()
        assert (found.ranges[1] >= found.reached[1]).all()


def test_sub_sampled_units_are_said_and_seeded(perceptron):
    found = pair_information(perceptron, per_layer=4, null_draws=0, progress=False)
    assert len(found.units) == 8 and "8 of 18 units" in repr(found) and "seed 0" in repr(found)
    again = pair_information(perceptron, per_layer=4, null_draws=0, progress=False)
    other = pair_information(perceptron, per_layer=4, null_draws=0, seed=1, progress=False)
    assert found.units == again.units != other.units
    whole = pair_information(perceptron, null_draws=0, progress=False)
    rows = [whole.units.index(unit) for unit in found.units]
    assert np.array_equal(whole.values[np.ix_(rows, rows)], found.values, equal_nan=True)


# Models ranked


def test_the_rank_of_models():
    found = rank_models({"a": 0.2, "b": 0.3, "c": 0.7}, {"c": 0.5, "b": 0.6, "a": 0.6001})
    assert found.tau == 1 and found.p == pytest.approx(2 / 6)
    assert list(found.frame.index) == ["a", "b", "c"]
    assert rank_models({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 2, "c": 3}, "high").tau == 1
    five = {k: float(k) for k in range(5)}
    assert rank_models(five, five, "high").p == pytest.approx(2 / math.factorial(5))


def test_the_distribution_is_that_of_all_orders():
    names = range(5)
    found = rank_models({k: k for k in names}, {k: k**2 for k in names}).distribution
    taus = [kendalltau(names, order)[0] for order in itertools.permutations(names)]
    for tau, share in found.items():
        assert share == pytest.approx(np.isclose(taus, tau).mean())
    assert found.sum() == pytest.approx(1)


def test_ties_are_judged_by_all_orders():
    found = rank_models({"a": 1, "b": 2, "c": 2, "d": 4}, {"a": 9, "b": 8, "c": 7, "d": 1})
    assert "with ties" in found.how and 0 < found.tau < 1
    orders = list(itertools.permutations([9, 8, 7, 1]))
    taus = np.array([kendalltau([-1, -2, -2, -4], order)[0] for order in orders])
    assert found.p == pytest.approx((np.abs(taus) >= found.tau - 1e-9).mean())


# Figures


def test_figures_are_drawn(perceptron, tmp_path):
    found = entropy(perceptron, bins=20, progress=False)
    pairs = pair_information(perceptron, progress=False)
    family = {
        edges: {
            share: [entropy(perceptron, bins=20, edges=edges, progress=False)] for share in (0, 1)
        }
        for edges in ("global", "unit")
    }
    ranking = rank_models({"$a": 0.2, "b": 0.3, "c": 0.7}, {"$a": 0.6, "b": 0.5, "c": 0.4})
    drawn = {
        "boxes": found.plot(),
        "bars": found.plot(5),
        "density": pairs.plot(),
        "densities": figures.pair_density({"$one": pairs, "two": pairs}),
        "one edge mode": figures.entropy_by_model(family["unit"], "wrong labels"),
        "edge modes": figures.entropy_under_edges(family, "wrong labels"),
        "ranking": ranking.plot(),
    }
    for name, figure in drawn.items():
        figure.savefig(tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 1000
    assert len(drawn["edge modes"].axes) == 6
    other = {0: family["global"][0], 1: family["unit"][1]}
    with pytest.raises(ValueError, match="differ in bins or edges"):
        figures.entropy_by_model(other)


# Bad input


def test_bad_input_gets_one_sentence(perceptron, inputs):
    cases = [
        (lambda: entropy(perceptron, bins=500), "300 examples for 500 bins"),
        (lambda: entropy(perceptron, where="at"), "use 'after' or 'before'"),
        (lambda: entropy(perceptron, edges="own"), "edges is 'own'; choose from global"),
        (lambda: pair_information(perceptron, estimator="knn"), "choose from binned, ksg"),
        (lambda: pair_information(perceptron, per_layer=0), "at least 1 unit of each layer"),
        (
            lambda: pair_information(perceptron, ["0"], per_layer=1),
            "only one unit, but a pair needs two",
        ),
        (lambda: rank_models({"a": 1, "b": 2}, {"a": 1, "b": 2}), "same models, at least three"),
        (lambda: rank_models(dict.fromkeys("abc", 1), dict.fromkeys("abc", 2)), "the same for all"),
        (
            lambda: entropy(perceptron, ["0"], initial=lambda _: linear(torch.ones(3, UNITS + 1))),
            "initial returned a network of 3 units, but the study's has 12",
        ),
    ]
    for call, words in cases:
        with pytest.raises(ValueError, match=words):
            call()
    with pytest.raises(KeyError, match="no layer 'fc9'"):
        entropy(perceptron, ["fc9"])


def test_nan_names_unit_and_example(inputs):
    weight = torch.cat([torch.zeros(UNITS, 1), torch.eye(UNITS)], 1)
    weight[:, 2] = 0  # NaN times 0 is NaN, in every unit
    study = mv.Study(linear(weight), inputs.clone(), torch.zeros(N), {"all": range(N)})
    study.inputs[7, 2] = math.nan  # a study itself refuses such inputs
    with pytest.raises(ValueError, match="unit 0:0 is NaN or infinite on example 7"):
        entropy(study, progress=False)


def test_a_model_that_cannot_be_drawn_anew(inputs):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(UNITS + 1))
            self.fc, self.head = nn.Linear(UNITS + 1, 5), nn.Linear(5, 2)

        def forward(self, x):
            return self.head(self.fc(x * self.scale))

    study = mv.Study(Own().eval(), inputs, torch.zeros(N), {"all": range(N)})
    with pytest.raises(
        ValueError, match="module 'model' has no reset_parameters, .* give initial="
    ):
        entropy(study, progress=False)
    assert entropy(study, null_draws=0, progress=False).null is None
    found = entropy(study, initial=lambda seed: Own().eval(), null_draws=1, progress=False)
    assert found.null.values.shape == (1, 5)
