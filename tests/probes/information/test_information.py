"""Entropy and mutual information of activations: closed forms, slow versions, bad input."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import digamma
from scipy.stats import entropy as shannon
from sklearn.feature_selection import mutual_info_regression

from memviz.engine.activations import binned_mutual_information
from memviz.probes.information import _ksg as information_ksg
from memviz.probes.information import (
    bin_ranges,
    ksg_matrix,
    ksg_mutual_information,
    quantile_codes,
    unit_entropy,
)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def correlated(rho, n, seed):
    x, y = normal(2, n, seed=seed)
    return x, rho * x + math.sqrt(1 - rho**2) * y


def slow_ksg(x, y, k):
    """Kraskov's algorithm 1 with ties counted, one point at a time."""
    total = 0.0
    for i in range(len(x)):
        in_x, in_y = ([abs(v[i] - v[j]) for j in range(len(x))] for v in (x, y))
        apart = [max(pair) for pair in zip(in_x, in_y, strict=True)]
        radius = sorted(apart[:i] + apart[i + 1 :])[k - 1]
        # Itself is among those inside, which is the + 1 of n_x + 1; at distance 0 copies count.
        inside = [
            sum(d == 0 if radius == 0 else d < radius - 1e-12 for d in distances)
            for distances in (apart, in_x, in_y)
        ]
        total += digamma(inside[0]) - digamma(inside[1]) - digamma(inside[2])
    return digamma(len(x)) + total / len(x)


def plain_ksg(x, y, k):
    """Kraskov's algorithm 1 as printed, which takes no account of ties."""
    apart_x, apart_y = ((v[:, None] - v[None]).abs() for v in (x, y))
    apart = torch.maximum(apart_x, apart_y).fill_diagonal_(math.inf)
    radius = apart.kthvalue(k, dim=1).values[:, None]
    inside = [(distances < radius).sum(1) for distances in (apart_x, apart_y)]  # and itself
    mean = sum(torch.digamma(count.double()) for count in inside).mean().item()
    return digamma(len(x)) + digamma(k) - mean


# Entropy


@pytest.mark.parametrize("bins", [2, 10, 100])
@pytest.mark.parametrize("edges", ["global", "unit"])
def test_uniform_over_the_bins_is_ln_of_them(bins, edges):
    values = torch.arange(bins).repeat(3)[:, None].float()
    assert unit_entropy(values, bins, edges).item() == pytest.approx(math.log(bins), abs=1e-12)


@pytest.mark.parametrize("p", [0.1, 0.25, 0.5])
def test_two_values_have_the_binary_entropy(p):
    values = (torch.arange(200) < 200 * p).float()[:, None] * 7 - 3
    expected = -p * math.log(p) - (1 - p) * math.log(1 - p)
    assert unit_entropy(values, 100).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("edges", ["global", "unit"])
def test_a_constant_has_none(edges):
    values = torch.stack([torch.full((20,), 2.5), torch.arange(20.0)], 1)
    found = unit_entropy(values, 10, edges)
    assert found[0] == 0 and found[1] > 0


@given(st.lists(st.integers(-50, 50), min_size=12, max_size=40), st.integers(2, 12))
def test_entropy_is_that_of_a_histogram(values, bins):
    found = unit_entropy(torch.tensor(values).float()[:, None], bins, "unit").item()
    if len(set(values)) == 1:
        assert found == 0
        return
    low, high = min(values), max(values)
    # In whole numbers, so that no value is rounded over an edge; the maximum is in the last bin.
    codes = [min((v - low) * bins // (high - low), bins - 1) for v in values]
    assert found == pytest.approx(shannon(np.bincount(codes)), abs=1e-9)


@pytest.mark.parametrize("bins", [7, 49, 100])
def test_whole_numbers_on_the_edges_of_bins_stay_there(bins):
    values = torch.arange(3 * bins + 1)  # three to a bin, and the maximum
    expected = shannon([3] * (bins - 1) + [4])
    for shift, scale in ((0, 1), (-40, 1), (5, 3)):
        found = unit_entropy((scale * values + shift).float()[:, None], bins)
        assert found.item() == pytest.approx(expected, abs=1e-12)


def test_arrays_give_what_tensors_give():
    values = normal(40, 3)
    assert torch.equal(unit_entropy(values.numpy(), 10), unit_entropy(values, 10))
    assert torch.equal(unit_entropy(values.tolist(), 10), unit_entropy(values, 10))
    assert torch.equal(quantile_codes(values.numpy()), quantile_codes(values))
    found = ksg_matrix(values.numpy()[::-1], progress=False)
    assert torch.allclose(found, ksg_matrix(values, progress=False), equal_nan=True)
    x, y = values[:, 0], values[:, 1].requires_grad_()
    assert ksg_mutual_information(x.numpy(), y) == ksg_mutual_information(x, y.detach())
    assert not unit_entropy(values.requires_grad_(), 10).requires_grad


def test_entropy_is_that_of_numpys_histogram():
    values = normal(300, 4)
    low, high = float(values.min()), float(values.max())
    for column, found in zip(values.T, unit_entropy(values, 20, "global"), strict=True):
        counts = np.histogram(column.numpy(), 20, (low, high))[0]
        assert found.item() == pytest.approx(shannon(counts), abs=1e-12)


@given(st.integers(-4, 4), st.integers(-8, 8))
def test_own_edges_do_not_see_scale_and_shift(power, shift):
    values = torch.randint(-60, 60, (80, 1), generator=torch.Generator().manual_seed(0)).double()
    mapped = values * 2.0**power + shift  # exact in floating point
    one, other = (unit_entropy(v, 8, "unit") for v in (values, mapped))
    assert torch.equal(one, other)


def test_global_edges_see_the_scale():
    values = normal(500, 3)
    scaled = values * torch.tensor([100.0, 1.0, 1.0])
    before, after = unit_entropy(values, 20, "global"), unit_entropy(scaled, 20, "global")
    assert (after[1:] < 0.2 * before[1:]).all()  # one loud unit makes the others look silent
    assert torch.allclose(unit_entropy(values, 20, "unit"), unit_entropy(scaled, 20, "unit"))


def test_edges_of_a_layer_are_global_ones_of_that_layer():
    values, layers = normal(200, 5) * torch.tensor([1.0, 2.0, 3.0, 50.0, 60.0]), list("aaabb")
    found = unit_entropy(values, 20, "layer", layers)
    parts = [unit_entropy(values[:, :3], 20), unit_entropy(values[:, 3:], 20)]
    assert torch.equal(found, torch.cat(parts))
    low, high = bin_ranges(values, "layer", layers)
    assert low[0] == values[:, :3].min() and high[4] == values[:, 3:].max()


# Mutual information by nearest neighbours


@pytest.mark.parametrize("scale", ["rank", "standard"])
@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9, 0.99])
def test_two_gaussians(scale, rho):
    # One draw of 2,000 has a standard deviation of up to .03, the mean of five half of that.
    draws = [correlated(rho, 2000, seed) for seed in range(5)]
    mean = np.mean([ksg_mutual_information(x, y, scale=scale) for x, y in draws])
    assert mean == pytest.approx(-0.5 * math.log(1 - rho**2), abs=0.05)


@pytest.mark.parametrize("scale", ["rank", "standard", "raw"])
@pytest.mark.parametrize("k", [1, 3, 6])
@pytest.mark.parametrize(
    "shape", ["gaussian", "heavy tails", "often 0", "line", "two values", "whole numbers", "copies"]
)
def test_ksg_equals_a_slow_one(k, scale, shape):
    x, y = correlated(0.6, 90, seed=k)
    if shape == "heavy tails":
        x, y = x**5, y**3
    if shape == "often 0":
        x, y = x.relu(), y.relu()
    if shape == "line":
        y = x + 0.01 * y
    if shape == "two values":
        x = (x > 0.3).double()
    if shape == "whole numbers":
        x, y = (2 * x).round(), (3 * y).round()
    if shape == "copies":
        x, y = x[:45].repeat(2), y[:45].repeat(2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if shape == "copies" else "error")
        found = ksg_mutual_information(x, y, k, scale)
    axes = information_ksg._scaled(torch.stack([x, y]), scale).tolist()
    assert found == pytest.approx(slow_ksg(*axes, k), abs=1e-9)


@pytest.mark.parametrize("k", [1, 3, 6])
@pytest.mark.parametrize("rho", [0.0, 0.6, 0.99])
def test_without_ties_ksg_is_that_of_kraskov(rho, k):
    x, y = correlated(rho, 300, seed=0)
    found = ksg_mutual_information(x, y, k, scale="raw")
    assert found == pytest.approx(plain_ksg(x, y, k), abs=1e-9)


@pytest.mark.parametrize("scale", ["rank", "standard", "raw"])
def test_a_pair_does_not_depend_on_a_seed_or_on_other_units(scale):
    values = torch.stack([*correlated(0.5, 200, seed=1), *(normal(2, 200, seed=2) - 0.5).relu()], 1)
    whole = ksg_matrix(values, scale=scale, seed=0, progress=False)
    assert torch.equal(
        whole.nan_to_num(-9),
        ksg_matrix(values, scale=scale, seed=7, progress=False).nan_to_num(-9),
    )
    for i in range(4):
        for j in range(i):
            for pair in ((i, j), (j, i)):
                alone = ksg_matrix(values[:, pair], scale=scale, progress=False)[0, 1]
                assert alone.item() == pytest.approx(whole[i, j].item(), abs=1e-12)


# Ties


@pytest.mark.parametrize("values", [2, 5, 20])
def test_a_copied_discrete_unit_has_its_entropy(values):
    x = torch.arange(2000).double() % values
    for scale in ("rank", "standard", "raw"):
        found = ksg_mutual_information(x, -3 * x + 1, scale=scale)
        assert found == pytest.approx(math.log(values), abs=0.01)


def test_a_discrete_unit_and_a_continuous_one():
    # A fair bit shifts a uniform variable by half its width: half of the bit can be read from it.
    x, y = (
        torch.arange(4000).double() % 2,
        torch.rand(4000, generator=torch.manual_seed(0)).double(),
    )
    assert ksg_mutual_information(x, y + x / 2) == pytest.approx(math.log(2) / 2, abs=0.05)
    assert ksg_mutual_information(x, y) == pytest.approx(0, abs=0.03)


def test_two_units_behind_a_relu_share_what_a_fine_histogram_says():
    x, y = correlated(0.9, 4000, seed=0)
    x, y = (x - 0.5).relu(), (y - 0.5).relu()
    # Slightly above it: the mass at 0 is a single bin, and the rest is cut into many.
    codes = torch.stack([(v > 0) * (1 + (v * 6).long()).clamp(max=15) for v in (x, y)])
    binned = binned_mutual_information(codes, 16, progress=False)[0, 1].item()
    for scale in ("rank", "standard", "raw"):
        assert ksg_mutual_information(x, y, scale=scale) == pytest.approx(binned, abs=0.06)


@pytest.mark.parametrize("copies", [2, 4, 8])
def test_repeated_examples_are_told(copies):
    values = normal(400 // copies, 3).repeat(copies, 1)
    with pytest.warns(UserWarning, match="400 of the 400 examples have the same values as another"):
        found = ksg_matrix(values, progress=False)
    assert found[0, 1] > 0.2  # what the warning is about
    with pytest.warns(UserWarning, match="makes the mutual information too high, so keep one of"):
        ksg_mutual_information(values[:, 0], values[:, 1])
    few = torch.cat([normal(396, 3), normal(2, 3, seed=1).repeat(2, 1)])
    assert ksg_matrix(few, progress=False)[0, 1].abs() < 0.2  # 4 in 400: no warning


def test_units_that_are_often_equal_are_not_called_repeated():
    silent = (normal(300, 2) - 1).relu()
    for values in (silent, (silent > 0).double(), torch.stack([silent[:, 0]] * 2, 1)):
        ksg_matrix(values, progress=False)  # a warning would be an error


def test_differences_below_float32_are_seen():
    x, y = correlated(0.9, 300, seed=0)
    near = ksg_mutual_information(1 + 1e-12 * x, y)
    assert near == pytest.approx(ksg_mutual_information(x, y), abs=0.02)
    assert unit_entropy((1 + 1e-12 * torch.arange(10.0).double())[:, None], 10) > 2.2


def test_ksg_equals_scikit_learn():
    x, y = correlated(0.8, 700, seed=3)
    theirs = mutual_info_regression(x[:, None].numpy(), y.numpy(), random_state=0)[0]
    assert ksg_mutual_information(x, y, scale="standard") == pytest.approx(theirs, abs=2e-3)


def test_the_matrix_holds_each_pair():
    values = normal(120, 4) + normal(120, 1, seed=5)
    found = ksg_matrix(values, scale="raw", progress=False)
    for i in range(4):
        for j in range(i):
            pair = ksg_mutual_information(values[:, i], values[:, j], scale="raw")
            assert found[i, j] == found[j, i] == pytest.approx(pair, abs=1e-9)
    assert found.diagonal().isnan().all()


@pytest.mark.parametrize("scale", ["rank", "standard", "raw"])
def test_two_independent_units_behind_a_relu(scale):
    # Without a jitter the released estimator gives about -4.4 nats here.
    draws = [(normal(2, 1000, seed=seed) - 1.2).relu() for seed in range(5)]
    assert abs(np.mean([ksg_mutual_information(*d, scale=scale) for d in draws])) < 0.05


def test_ranks_do_not_see_a_monotone_map():
    x, y = correlated(0.9, 500, seed=1)
    found = ksg_mutual_information(x, y)
    assert ksg_mutual_information(x.exp(), 100 * y**3 - 5) == found
    assert ksg_mutual_information(-x, y) == pytest.approx(found, abs=0.05)


def test_scales_do_what_they_say():
    x, y = correlated(0.6, 500, seed=2)
    raw = ksg_mutual_information(x, y, scale="raw")
    assert abs(ksg_mutual_information(100 * x, y, scale="raw") - raw) > 0.05
    standard = ksg_mutual_information(x, y, scale="standard")
    assert ksg_mutual_information(100 * x, y, scale="standard") == pytest.approx(standard, abs=1e-6)


def test_a_copied_binary_cue_has_ln_2():
    cue = (torch.arange(2000) % 2).double()
    found = ksg_matrix(torch.stack([cue, -3 * cue, 5 * cue], 1), progress=False)
    assert found.nanmean().item() == pytest.approx(math.log(2), abs=0.001)


def test_a_constant_unit_tells_nothing():
    values = torch.cat([normal(60, 2), torch.full((60, 1), 3.0)], 1)
    found = ksg_matrix(values, progress=False)
    assert found[2, 0] == found[0, 2] == 0 and found[2, 2].isnan()
    assert found[0, 1] == ksg_matrix(values, progress=False)[0, 1]


# Bins for pairs


def test_quantile_bins_are_equally_full():
    codes = quantile_codes(normal(800, 3) ** 3, 8)
    assert (torch.stack([row.bincount(minlength=8) for row in codes]) == 100).all()


def test_equal_values_share_a_bin():
    values = (normal(1000, 2) - 0.8).relu()  # four in five are 0
    codes = quantile_codes(values, 8)
    for row, column in zip(codes, values.T, strict=True):
        assert len(row[column == 0].unique()) == 1
        assert not torch.isin(row[column > 0], row[column == 0]).any()


@given(st.integers(0, 1000))
def test_quantile_bins_do_not_see_a_monotone_map(seed):
    values = normal(50, 2, seed=seed)
    assert torch.equal(quantile_codes(values), quantile_codes(torch.tanh(values) * 9 + 1))


@pytest.mark.parametrize(("n", "bins"), [(500, 10), (2000, 10), (2000, 8)])
def test_the_bias_of_bins_is_the_one_that_is_told(n, bins):
    codes = quantile_codes(normal(n, 30), bins)
    found = binned_mutual_information(codes, bins, progress=False)
    mean = found[~torch.eye(30, dtype=torch.bool)].mean().item()
    assert mean == pytest.approx((bins - 1) ** 2 / (2 * n), rel=0.1)


# Bad input


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: unit_entropy(torch.zeros(7, 2), 10), "7 examples for 10 bins; give at least 10"),
        (lambda: unit_entropy(torch.zeros(7, 2), 1), "bins is 1; it must be at least 2"),
        (lambda: unit_entropy(torch.tensor([[0.0], [math.nan]]), 2), "unit 0 is NaN .* example 1"),
        (lambda: unit_entropy(torch.zeros(7), 2), "give floats .*examples, units"),
        (lambda: unit_entropy(torch.zeros(7, 2), 2, "all"), "edges is 'all'; choose from global"),
        (lambda: unit_entropy(torch.zeros(7, 2), 2, "layer"), "name the layer of each"),
        (
            lambda: unit_entropy(torch.zeros(7, 2), 2, "layer", ["a"]),
            "1 layers are given for 2 units",
        ),
        (lambda: quantile_codes(torch.zeros(5, 2), 8), "5 examples for 8 bins"),
        (lambda: ksg_matrix(torch.zeros(3, 2), 3), "k is 3 for 3 examples; use 1 to 2"),
        (lambda: ksg_matrix(torch.zeros(9, 2), scale="z"), "scale is 'z'; choose from rank"),
        (lambda: ksg_matrix(torch.full((9, 2), math.inf)), "unit 0 is NaN or infinite"),
        (lambda: ksg_mutual_information(torch.zeros(9), torch.zeros(8)), r"\[9\] and y \[8\]"),
        (lambda: ksg_mutual_information(["a", "b"], torch.zeros(2)), "x is list, not all numbers"),
        (lambda: ksg_matrix(torch.zeros(9, 2), 2.5), "k is 2.5; give a whole number"),
        (lambda: unit_entropy(torch.zeros(7, 2), 2.0), "bins is 2.0; give a whole number"),
        (lambda: unit_entropy(torch.zeros(7, 2).long(), 2), "values is torch.int64 .*of floats"),
        (lambda: unit_entropy(np.array([["a"]]), 2), "values is ndarray, not all numbers"),
        (lambda: unit_entropy(torch.zeros(7, 2, device="meta"), 2), "on the meta device"),
        (lambda: unit_entropy(torch.zeros(7, 2).to_sparse(), 2), "give a dense tensor"),
        (lambda: unit_entropy(torch.tensor([[0.0], [1e305]]).double() * 10, 2), "NaN or inf"),
        (lambda: unit_entropy(np.array([[0.0], [2e305]]), 2), r"unit 0 is 2e\+305 on example 1"),
    ],
)
def test_bad_input_gets_one_sentence(call, words):
    with pytest.raises(ValueError, match=words):
        call()
