"""M where it is known: Gaussians, kernel densities, duplicates, chance alone."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MultivariateNormal, Normal

from memviz.probes.density import cross_fit, leave_one_out, log_mean_exp

COVARIANCE = torch.tensor([[2.0, 0.6], [0.6, 0.5]], dtype=torch.float64)


def gaussian(inputs: Tensor, chosen: Tensor, seed: int) -> MultivariateNormal:
    return MultivariateNormal(inputs[chosen].mean(0), COVARIANCE)


def kernel(inputs: Tensor, chosen: Tensor, seed: int, width: float = 0.3) -> object:
    from sklearn.neighbors import KernelDensity

    return KernelDensity(bandwidth=width).fit(inputs[chosen].numpy())


@pytest.fixture
def points() -> Tensor:
    return torch.randn(30, 2, generator=torch.Generator().manual_seed(0)).double()


def test_a_gaussian_with_fitted_mean_has_the_closed_form(points: Tensor):
    n = len(points)
    scores = leave_one_out(points, gaussian)
    gaps = points - points.mean(0)
    squared = (gaps @ COVARIANCE.inverse() * gaps).sum(1)
    expected = 0.5 * squared * ((n / (n - 1)) ** 2 - 1)
    np.testing.assert_allclose(scores.values, expected, atol=1e-12)
    assert scores.values.min() >= 0


def test_a_kernel_density_has_the_closed_form(points: Tensor):
    n = len(points)
    scores = leave_one_out(points, kernel, [3, 0])
    values = torch.exp(-torch.cdist(points, points).square() / (2 * 0.3**2))  # K(0) = 1
    others = values.sum(1) - 1
    expected = math.log((n - 1) / n) + torch.log1p(1 / others)
    np.testing.assert_allclose(scores.values, expected[[3, 0]], atol=1e-10)


@pytest.mark.parametrize("copies", [2, 5])
def test_exact_copies_far_from_all_else_hide_each_other(points: Tensor, copies: int):
    inputs = torch.cat([points, torch.full((copies, 2), 100.0).double()])
    n = len(inputs)
    expected = math.log(copies / (copies - 1)) + math.log((n - 1) / n)
    scores = leave_one_out(inputs, kernel, [n - 1, 0])
    assert scores.values[0] == pytest.approx(expected, abs=1e-9)


def test_one_alone_is_remembered_without_bound(points: Tensor):
    inputs = torch.cat([points, torch.full((1, 2), 100.0).double()])
    found = leave_one_out(inputs, kernel).values
    assert found[-1] > 10_000 > 20 > found[:-1].max()


def test_mixtures_of_scikit_learn_remember_an_outlier(points: Tensor):
    from sklearn.mixture import GaussianMixture

    inputs = torch.cat([points, torch.tensor([[9.0, 9.0]]).double()])

    def fit(inputs: Tensor, chosen: Tensor, seed: int) -> GaussianMixture:
        return GaussianMixture(2, random_state=seed).fit(inputs[chosen].numpy())

    fits = cross_fit(inputs, fit, folds=8, repeats=3, progress=False)
    assert fits.memorization().top(1, of="examples").tolist() == [30]


def test_a_table_of_frequencies_gives_log_of_counts():
    values = torch.tensor([0, 0, 0, 1, 1, 2])

    def fit(inputs: Tensor, chosen: Tensor, seed: int) -> Categorical:
        return Categorical(torch.bincount(inputs[chosen], minlength=3) / len(chosen))

    scores = leave_one_out(values, fit, [0, 3])
    expected = [math.log(3 / 6) - math.log(2 / 5), math.log(2 / 6) - math.log(1 / 5)]
    np.testing.assert_allclose(scores.values, expected, rtol=1e-6)


def by_folds(inputs: Tensor, chosen: Tensor, seed: int) -> Tensor:
    """An isolated pair: p is 3 where one of the two is in training, else 1."""
    has = torch.isin(torch.tensor([0, 1]), chosen).any()
    return torch.full((len(inputs),), float(torch.tensor(3.0 if has else 1.0).log()))


def test_a_pair_cut_apart_by_folds_has_the_mixture_of_both():
    n, folds = 20, 5
    fits = cross_fit(torch.zeros(n, 1), by_folds, folds=folds, repeats=2000, progress=False)
    both_out = (n / folds - 1) / (n - 1)
    expected = math.log((1 - both_out) * 3 + both_out * 1)
    assert float(fits.held_out()[0]) == pytest.approx(expected, abs=0.02)


def chance(inputs: Tensor, chosen: Tensor, seed: int, spread: float) -> Tensor:
    """Log-densities that have nothing to do with what was trained on."""
    return spread * torch.randn(len(inputs), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("spread", "bias"), [(1.0, 0.07), (2.0, 0.42), (5.0, 2.65)])
def test_more_values_in_than_out_bias_m_and_the_null_shows_it(spread: float, bias: float):
    fits = cross_fit(torch.zeros(2000), partial(chance, spread=spread), progress=False)
    scores = fits.memorization()
    assert scores.null is not None
    error = 4 * scores.values.std() / 2000**0.5 + 0.006
    assert scores.values.mean() == pytest.approx(bias, abs=error)
    assert scores.null.mean.mean() == pytest.approx(scores.values.mean(), abs=error)
    matched = fits.memorization(matched=True)
    assert matched.null is not None
    assert matched.values.mean() == pytest.approx(0, abs=error)
    assert matched.null.mean.mean() == pytest.approx(0, abs=error)


def test_the_average_is_of_densities_inside_the_logarithm():
    values = torch.tensor([[0.1, 0.3], [0.5, 0.1]]).log()
    assert log_mean_exp(values).exp().tolist() == pytest.approx([0.3, 0.2])
    assert log_mean_exp(values, 1).exp().tolist() == pytest.approx([0.2, 0.3])
    assert float(log_mean_exp(torch.full((3,), -torch.inf))) == -math.inf
    with pytest.raises(ValueError, match="no log-density to average"):
        log_mean_exp(torch.zeros(0))


def test_independent_columns_are_one_density():
    inputs = torch.randn(12, 3)

    def fit(inputs: Tensor, chosen: Tensor, seed: int) -> Independent:
        return Independent(Normal(inputs[chosen].mean(0), 1.0), 1)

    n, gaps = 12, inputs - inputs.mean(0)
    expected = 0.5 * gaps.square().sum(1) * ((n / (n - 1)) ** 2 - 1)
    np.testing.assert_allclose(leave_one_out(inputs, fit).values, expected, atol=1e-5)
