"""Trainings on folds: who had what, scores against a loop, folders, bad input."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

import memviz as mv
from memviz.models.vae import MLPVAE, binarized
from memviz.probes.density import (
    CrossFit,
    cross_fit,
    density_study,
    leave_one_out,
    log_likelihoods,
    log_mean_exp,
    nearest_ratio,
    neighbours,
)
from memviz.training.density import VAERecipe, train_vae
from memviz.training.density import log_likelihoods as of_vae

N = 14
INPUTS = torch.randn(N, generator=torch.Generator().manual_seed(0))


def normal(inputs: Tensor, chosen: Tensor, seed: int) -> dict[int, object]:
    """Two epochs, the second nearer to the mean of what was trained on; random by seed."""
    shift = torch.randn(1, generator=torch.Generator().manual_seed(seed))
    centre = inputs[chosen].mean()
    return {5: Normal(centre + 2 * shift, 1.0), 9: Normal(centre + shift, 0.5).log_prob(inputs)}


@pytest.fixture(scope="module")
def fits() -> CrossFit:
    return cross_fit(INPUTS, normal, examples=range(12), folds=4, repeats=3, progress=False)


def test_each_repeat_leaves_each_example_out_once_and_draws_anew(fits: CrossFit):
    held_out = ~fits.inside.view(3, 4, 12)
    assert (held_out.sum(1) == 1).all() and (held_out.sum(2) == 3).all()
    together = [(row.int().T @ row.int()) for row in held_out]
    assert not torch.equal(together[0], together[1])
    assert fits.epochs == (5, 9) and fits.log_p.shape == (12, 2, N)


def slow(log_p: np.ndarray, inside: np.ndarray) -> list[float]:
    found = []
    for values, had in zip(log_p.T, inside.T, strict=True):
        with_it = [math.exp(v) for v, h in zip(values, had, strict=True) if h]
        without = [math.exp(v) for v, h in zip(values, had, strict=True) if not h]
        gain = math.log(sum(with_it) / len(with_it)) - math.log(sum(without) / len(without))
        found.append(gain)
    return found


@pytest.mark.parametrize("epoch", [5, 9, None])
def test_m_is_that_of_a_loop(fits: CrossFit, epoch: int | None):
    table = fits.log_p[:, 0 if epoch == 5 else 1].double()
    expected = slow(table[:, :12].numpy(), fits.inside.numpy())
    scores = fits.memorization(epoch)
    np.testing.assert_allclose(scores.values, expected, rtol=1e-9, atol=1e-9)
    gains = fits.in_training(epoch) - fits.held_out(epoch)[:12]
    np.testing.assert_allclose(gains, expected, rtol=1e-9, atol=1e-9)
    with_it, without = fits.of_example(3, epoch)
    assert len(with_it) == 9 and len(without) == 3
    assert [len(part) for part in fits.of_example(13, epoch)] == [0, 12]
    held_out = fits.held_out(epoch)
    assert float(held_out[13]) == pytest.approx(float(table[:, 13].exp().mean().log()))
    assert fits.held_out_log_p(epoch) == pytest.approx(float(table[:, 12:].mean()))


def test_logs_are_averaged_when_asked(fits: CrossFit):
    values, had = fits.log_p[:, 1, :12].double(), fits.inside
    expected = [float(v[h].mean() - v[~h].mean()) for v, h in zip(values.T, had.T, strict=True)]
    np.testing.assert_allclose(fits.memorization(average="logs").values, expected, atol=1e-12)


def test_count_matched_m_is_the_mean_over_choices_of_one_training_a_repeat(fits: CrossFit):
    values = fits.log_p[:, 1, 4].double().exp().view(3, 4)
    had = fits.inside[:, 4].view(3, 4)
    choices = [row[h] for row, h in zip(values, had, strict=True)]
    gains = [(a + b + c).div(3).log() for a in choices[0] for b in choices[1] for c in choices[2]]
    without = values[~had].mean().log()
    found = fits.memorization(matched=True, draws=20_000, null_draws=0).values[4]
    assert found == pytest.approx(float(torch.stack(gains).mean() - without), abs=0.02)


def test_draws_of_an_example_depend_on_no_other_one(fits: CrossFit):
    few = CrossFit(fits.examples[5:], fits.inside[:, 5:], fits.log_p, fits.epochs, fits.folds)
    for matched in (False, True):
        whole, part = (f.memorization(matched=matched, null_draws=7) for f in (fits, few))
        assert whole.null is not None and part.null is not None
        np.testing.assert_array_equal(whole.values[5:], part.values)
        np.testing.assert_array_equal(whole.null.values[:, 5:], part.null.values)


def test_permuted_examples_have_permuted_scores():
    order = torch.randperm(N, generator=torch.Generator().manual_seed(3))

    def fit(inputs: Tensor, chosen: Tensor, seed: int) -> Normal:
        return Normal(inputs[chosen].mean(), 1.0)

    found, permuted = (leave_one_out(rows, fit).values for rows in (INPUTS, INPUTS[order]))
    np.testing.assert_allclose(permuted, found[order], atol=1e-6)


def test_trainings_are_kept_and_more_repeats_follow(tmp_path: Path, fits: CrossFit):
    run = partial(cross_fit, INPUTS, examples=range(12), folds=4, folder=tmp_path, progress=False)
    run(normal, repeats=2)
    assert len(list(tmp_path.glob("*.safetensors"))) == 8
    first = (tmp_path / "training-000000.safetensors").stat().st_mtime_ns
    again = run(normal, repeats=3)
    assert torch.equal(again.log_p, fits.log_p) and torch.equal(again.inside, fits.inside)
    assert (tmp_path / "training-000000.safetensors").stat().st_mtime_ns == first
    with pytest.raises(ValueError, match="holds trainings of another choice of examples"):
        run(normal, repeats=3, seed=1)
    with pytest.raises(ValueError, match="other inputs"):
        cross_fit(INPUTS + 1, normal, examples=range(12), folds=4, folder=tmp_path, progress=False)


def test_it_is_saved_and_read_back(tmp_path: Path, fits: CrossFit):
    fits.save(tmp_path / "fits.safetensors")
    read = CrossFit.load(tmp_path / "fits.safetensors")
    assert read.epochs == fits.epochs and torch.equal(read.log_p, fits.log_p)
    np.testing.assert_array_equal(read.memorization().values, fits.memorization().values)
    assert list(read.quantiles().columns) == [
        "q.5", "q.95", "q.999", "null q.5", "null q.95", "null q.999", "held-out log p",
    ]  # fmt: skip


IMAGES = binarized(torch.rand(16, 1, 4, 4, generator=torch.Generator().manual_seed(0)))
RECIPE = VAERecipe(partial(MLPVAE, 16, (12,), 2), (1, 4), batch_size=5, samples=8)


def test_a_vae_has_the_same_trainings_in_other_processes_and_a_study():
    run = partial(cross_fit, IMAGES, RECIPE, examples=range(12), folds=3, repeats=2)
    fits, spread = run(progress=False), run(progress=False, jobs=2)
    torch.testing.assert_close(fits.log_p, spread.log_p)
    model = RECIPE.fit(IMAGES, torch.arange(12), seed=0)
    study = density_study(model, IMAGES, {0.001: fits}, samples=8)
    margin = study.task.margin(model(**study.batch(torch.arange(16))), study.labels)
    expected = of_vae(model, IMAGES, study.inputs["noise"]) - fits.held_out()
    torch.testing.assert_close(margin.double(), expected, atol=1e-4, rtol=1e-4)
    assert {name: int(mask.sum()) for name, mask in study.groups.items()} == {
        "clean": 12,
        "test": 4,
    }
    assert "encoder.fc1" in {unit.layer for unit in mv.estimate(study).units}
    assert study.images is not None and study.images.shape == (16, 4, 4)


def test_training_leaves_the_generator_and_repeats_itself():
    before = torch.get_rng_state()
    one, other = (RECIPE(IMAGES, torch.arange(9), 3)[4] for _ in range(2))
    assert torch.equal(one, other) and torch.equal(before, torch.get_rng_state())


def test_neighbours_skip_the_image_itself_and_the_ratio_is_that_of_a_loop():
    images = torch.cat([torch.rand(6, 1, 4, 4), torch.ones(3, 1, 4, 4)])
    found = neighbours(images, images, 2, skip=torch.arange(9))
    assert (found["image"] != found["neighbour"]).all()
    twins = found[found["image"] == 8]
    assert sorted(twins["neighbour"]) == [6, 7] and (twins["distance"] == 0).all()
    held_out, generated = torch.rand(5, 1, 4, 4), torch.rand(5, 1, 4, 4)
    ratio = nearest_ratio(images, held_out, generated)
    far = [min(float((image - v).norm()) for v in held_out) for image in images]
    near = [min(float((image - v).norm()) for v in generated) for image in images]
    np.testing.assert_allclose(ratio, np.array(far) / np.array(near), rtol=1e-5)
    halved = nearest_ratio(images, held_out, generated, halve=True)
    assert halved.shape == (9,) and not torch.allclose(halved, ratio)


def flat(inputs: Tensor, chosen: Tensor, seed: int, value: float = 0.0) -> Tensor:
    return torch.full((len(inputs),), value)


def outliers(inputs: Tensor, chosen: Tensor, seed: int) -> object:
    from sklearn.ensemble import IsolationForest

    return IsolationForest(n_estimators=3).fit(inputs[:, None].numpy())


@pytest.mark.parametrize(
    ("fit", "sentence"),
    [
        (lambda inputs, chosen, seed: nn.Linear(2, 2), "Linear has no log_prob"),
        (outliers, "IsolationForest has no log_prob"),
        (partial(flat, value=math.nan), "is nan for 14 of 14 inputs, the first of them input 0"),
        (partial(flat, value=math.inf), "is inf for"),
        (lambda inputs, chosen, seed: torch.zeros(3), r"must give log p\(x\) of each, \[14\]"),
        (
            lambda inputs, chosen, seed: Normal(torch.zeros(14, 2), 1.0).log_prob(
                torch.zeros(14, 2)
            ),
            "join them: torch.distributions.Independent",
        ),
        (lambda inputs, chosen, seed: {"last": torch.zeros(14)}, "densities by epoch"),
    ],
)
def test_what_is_no_density_is_told(fit: Callable[..., object], sentence: str):
    with pytest.raises((TypeError, ValueError), match=sentence):
        cross_fit(INPUTS, fit, folds=2, repeats=1, progress=False)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: cross_fit(INPUTS, flat, folds=1), "folds is 1 for 14 examples"),
        (lambda: cross_fit(INPUTS, flat, folds=15), "folds is 15 for 14 examples"),
        (lambda: cross_fit(torch.zeros(0), flat), "give one row each"),
        (lambda: leave_one_out(INPUTS, flat, [13], pool=range(5)), "example 13 is not in the pool"),
        (lambda: leave_one_out(INPUTS, flat, epoch=4, progress=False), "there is no epoch 4"),
        (lambda: cross_fit(IMAGES * 255, RECIPE, folds=2), r"hold 255, outside \[0, 1\]"),
        (lambda: train_vae(MLPVAE(16, (3,), 2), IMAGES, learning_rate=0.0), "above 0"),
        (lambda: of_vae(MLPVAE(16, (3,), 2), IMAGES, torch.zeros(3, 2, 2)), "draw it with"),
        (lambda: log_likelihoods(object(), INPUTS), "object has no log_prob"),
        (lambda: log_likelihoods(Normal, INPUTS), r"give an instance: Normal\(...\)"),
        (lambda: cross_fit(INPUTS * math.nan, flat), "input 0 holds NaN, as do 14 of 14"),
        (lambda: cross_fit(INPUTS, flat, folder="a\x00b", progress=False), "no folder can"),
        (lambda: log_mean_exp(INPUTS, 3), "axis is 3 and the log-densities have 1"),
        (lambda: neighbours(IMAGES, IMAGES, 2, skip=torch.arange(3)), r"int64 \[16\], or -1"),
        (lambda: nearest_ratio(IMAGES, IMAGES, IMAGES[:3]), "equally many"),
        (lambda: neighbours(IMAGES, IMAGES, 16, skip=torch.arange(16)), "give fewer"),
    ],
)
def test_bad_input_gets_one_sentence(call: Callable[[], object], sentence: str):
    with pytest.raises((TypeError, ValueError), match=sentence):
        call()


def test_bad_questions_of_trainings_get_one_sentence(fits: CrossFit):
    with pytest.raises(ValueError, match="no epoch 7; choose from 5, 9"):
        fits.memorization(7)
    with pytest.raises(ValueError, match="no example 14; these trainings know 14"):
        fits.of_example(14)
    with pytest.raises(ValueError, match="choose from densities, logs"):
        fits.memorization(average="medians")
    few = cross_fit(IMAGES, flat, folds=2, repeats=1, progress=False)
    with pytest.raises(ValueError, match="trainings of rate 0.1; choose from 0.5"):
        density_study(MLPVAE(16, (3,), 2).eval(), IMAGES, {0.5: few}, rate=0.1)
    with pytest.raises(ValueError, match="know 14 examples and the study has 16"):
        density_study(MLPVAE(16, (3,), 2).eval(), IMAGES, {0.5: fits}, groups={"test": [15]})
