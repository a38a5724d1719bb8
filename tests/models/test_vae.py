"""VAE: the importance-weighted likelihood where it is known, and its noise."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from memviz.models.vae import MLPVAE, VAE, ConvVAE, binarized, noise

PIXELS, LATENT, SIGMA = 6, 2, 0.5


class Linear(VAE):
    """x = W z + noise, with orthogonal columns of W, so that the posterior is diagonal."""

    def __init__(self, narrower: float = 1.0) -> None:
        super().__init__()
        self.latent = LATENT
        square = torch.randn(PIXELS, PIXELS, generator=torch.Generator().manual_seed(1))
        columns = torch.linalg.qr(square.double())[0][:, :LATENT]
        self.weight, self.narrower = columns * torch.tensor([2.0, 0.75]), narrower

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        variance = 1 / (1 + self.weight.square().sum(0) / SIGMA**2)
        mean = images @ self.weight * variance / SIGMA**2
        return mean, (variance * self.narrower).log().expand_as(mean)

    def decode(self, z: Tensor) -> Tensor:
        return z @ self.weight.T

    def log_likelihood(self, images: Tensor, z: Tensor) -> Tensor:
        gaps = images[:, None] - self.decode(z)
        constant = PIXELS * math.log(2 * math.pi * SIGMA**2)
        return -0.5 * (gaps.square().sum(-1) / SIGMA**2 + constant)

    def exact(self, images: Tensor) -> Tensor:
        covariance = self.weight @ self.weight.T + SIGMA**2 * torch.eye(PIXELS)
        return MultivariateNormal(torch.zeros(PIXELS).double(), covariance).log_prob(images)


@pytest.fixture
def rows() -> Tensor:
    return torch.randn(40, PIXELS, generator=torch.Generator().manual_seed(0)).double()


def test_with_the_exact_posterior_weights_are_constant_and_one_sample_is_enough(rows: Tensor):
    model = Linear()
    drawn = noise(range(40), 5, LATENT).double()
    weights = model.log_weights(rows, drawn)
    assert weights.std(1).max() < 1e-13
    torch.testing.assert_close(model(rows, drawn[:, :1]), model.exact(rows), rtol=0, atol=1e-12)
    torch.testing.assert_close(
        model.elbo(rows, noise(range(40), 4000, LATENT).double()).mean(),
        model.exact(rows).mean(),
        rtol=0,
        atol=0.05,
    )


def test_with_another_proposal_it_grows_towards_the_truth_from_below(rows: Tensor):
    model, drawn = Linear(narrower=0.2), noise(range(40), 4096, LATENT).double()
    # The mean over disjoint sets of samples of an example.
    gaps = [
        float(
            (
                model(rows.repeat_interleave(4096 // count, 0), drawn.view(-1, count, LATENT))
                - model.exact(rows).repeat_interleave(4096 // count)
            ).mean()
        )
        for count in (1, 16, 256)
    ]
    assert gaps[0] < gaps[1] < gaps[2] < 0
    # The divergence of the proposal from the posterior: the bound of a single sample.
    divergence = 0.5 * LATENT * (0.2 - 1 - math.log(0.2))
    assert gaps[0] == pytest.approx(-divergence, abs=0.03)


def test_a_proposal_fitted_to_each_image_is_the_posterior(rows: Tensor):
    model, exact = Linear(narrower=0.2), Linear()
    fitted = model.refined(rows, noise(range(40), 64, LATENT, seed=1).double(), steps=1000)
    variances = fitted[1].exp() / exact.encode(rows)[1].exp()
    assert variances.mean() == pytest.approx(1, abs=0.05)  # not .2, as the encoder says
    drawn = noise(range(40), 16, LATENT).double()
    far, near = (model(rows, drawn, q) - model.exact(rows) for q in (None, fitted))
    assert near.abs().mean() < 0.1 * far.abs().mean()


def test_fitting_one_image_sees_no_other_and_no_weight():
    model = MLPVAE(16, (8,), 2, seed=3).double().eval()
    images, drawn = binarized(torch.rand(5, 1, 4, 4)).double(), noise(range(5), 7, 2).double()
    together = model.refined(images, drawn, steps=30)
    alone = model.refined(images[3:4], drawn[3:4], steps=30)
    torch.testing.assert_close(torch.stack(alone)[:, 0], torch.stack(together)[:, 3])
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    with torch.no_grad():
        quiet = model.refined(images, drawn, steps=30)
    torch.testing.assert_close(torch.stack(quiet), torch.stack(together), rtol=0, atol=0)


@pytest.mark.parametrize(
    "make", [lambda: MLPVAE(16, (8,), 2, seed=3), lambda: ConvVAE(4, (3, 5), 2, seed=3)]
)
def test_log_p_is_that_of_a_loop_over_samples(make: Callable[[], VAE]):
    model = make().double().eval()
    images = binarized(torch.rand(3, 1, 4, 4)).double()
    drawn = noise(range(3), 7, 2).double()
    with torch.no_grad():
        fast = model(images, drawn)
        for k, image in enumerate(images):
            mean, log_variance = model.encode(image[None])
            densities = []
            for e in drawn[k]:
                z = mean[0] + log_variance[0].exp().sqrt() * e
                p = model.decode(z[None, None])[0, 0].sigmoid()
                bits = torch.where(image.flatten() == 1, p, 1 - p).prod()
                prior = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum()
                scale = log_variance[0].exp().sqrt()
                proposal = torch.distributions.Normal(mean[0], scale).log_prob(z).sum()
                densities.append(bits * (prior - proposal).exp())
            assert float(fast[k]) == pytest.approx(float(torch.stack(densities).mean().log()))


def test_noise_and_binarization_depend_on_seed_and_example_alone():
    assert torch.equal(noise([5, 2], 8, 3)[1], noise([2], 8, 3)[0])
    assert torch.equal(noise([2], 3, 3), noise([2], 8, 3)[:, :3])
    assert not torch.equal(noise([2], 3, 3), noise([2], 3, 3, seed=1))
    grey = torch.rand(6, 2, 2)
    assert torch.equal(binarized(grey)[[4, 1]], binarized(grey[[4, 1]], [4, 1]))
    shares = binarized(torch.full((400, 10, 10), 0.3)).mean()
    assert float(shares) == pytest.approx(0.3, abs=0.01)


def test_generated_images_are_in_range_and_seeded():
    for model in (MLPVAE(16, (8,), 2, seed=3), ConvVAE(4, (3, 5), 2, seed=3)):
        images = model.generate(5, seed=1)
        assert images.shape == (5, 16) and 0 <= images.min() and images.max() <= 1
        torch.testing.assert_close(images[:2], model.generate(2, seed=1))


def test_seeded_weights_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    one, other = MLPVAE(16, (8,), 2, seed=3), MLPVAE(16, (8,), 2, seed=3)
    assert torch.equal(one.pixels.weight, other.pixels.weight)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: MLPVAE(4, (), 2), "at least one hidden layer"),
        (lambda: ConvVAE(6, (2, 2), 2), "multiple of 4"),
        (lambda: binarized(torch.full((2, 4), 255.0)), r"hold 255, outside \[0, 1\]"),
        (lambda: binarized(torch.full((2, 4), torch.nan)), "hold nan"),
        (lambda: binarized(torch.zeros(4)), r"give \[n, ...\]"),
        (lambda: binarized(torch.zeros(2, 4), [1]), "names 1 and there are 2 images"),
        (lambda: noise([0], 0, 2), "samples is 0"),
        (lambda: noise([0], 10**9, 2), "some examples at a time"),
    ],
)
def test_bad_input_gets_one_sentence(call: Callable[[], object], sentence: str):
    with pytest.raises(ValueError, match=sentence):
        call()
