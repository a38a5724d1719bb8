"""Variational autoencoders of binary images: log p(x) by importance sampling, with fixed noise."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memviz.checks import Count, IndicesLike, Positive, Seed, as_indices, checked

_LOG_2PI = math.log(2 * math.pi)
_MOST = 2**29  # numbers drawn at once, 2 GB

Proposal = tuple[Tensor, Tensor]  # Mean and log variance of q(z|x), [n, latent] each.


class VAE(nn.Module, ABC):
    """An encoder q(z|x), a Bernoulli decoder p(x|z) and the prior N(0, I).

    Called with images and noise it returns log p(x), estimated with the encoder as the proposal
    (Burda et al. 2016, equation 8)::

        log p(x) = logsumexp_j [log p(x|z_j) + log p(z_j) - log q(z_j|x)] - log N,  z_j ~ q(z|x)

    The noise is an input, not drawn within, so that an example's value depends on no other one: see
    :func:`noise`. Subclasses define ``encode`` and ``decode``.

    Attributes
    ----------
    latent : int
        Size of z.
    """

    latent: int

    @abstractmethod
    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(z|x), ``[n, latent]`` each."""

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """Logits of the pixels, ``[n, samples, pixels]``, of latents ``[n, samples, latent]``."""

    def log_likelihood(self, images: Tensor, z: Tensor) -> Tensor:
        """Log p(x|z) in nats, ``[n, samples]``, of latents ``[n, samples, latent]``."""
        logits = self.decode(z)
        # The cross-entropy of pixels x, without a copy of x for each sample.
        return (logits * images.flatten(1)[:, None] - F.softplus(logits)).sum(-1)

    def log_weights(
        self, images: Tensor, noise: Tensor, proposal: Proposal | None = None
    ) -> Tensor:
        """Log of the importance weights p(x|z) p(z) / q(z|x), ``[n, samples]``.

        Parameters
        ----------
        images : ``[n, ...]``, from 0 to 1
        noise : standard normal ``[n, samples, latent]``
        proposal : mean and log variance of q(z|x), ``[n, latent]`` each, optional
            The encoder's, unless given; see :meth:`refined`.
        """
        mean, log_variance = self.encode(images) if proposal is None else proposal
        deviation = (0.5 * log_variance).exp()
        z = mean[:, None] + deviation[:, None] * noise
        log_prior = -0.5 * (z.square() + _LOG_2PI).sum(-1)
        log_proposal = -0.5 * (noise.square() + _LOG_2PI + log_variance[:, None]).sum(-1)
        return self.log_likelihood(images, z) + log_prior - log_proposal

    def forward(self, images: Tensor, noise: Tensor, proposal: Proposal | None = None) -> Tensor:
        """Log p(x) in nats, ``[n]``; a lower bound in the mean, that closes as samples grow."""
        return self.log_weights(images, noise, proposal).logsumexp(1) - math.log(noise.shape[1])

    def elbo(self, images: Tensor, noise: Tensor, proposal: Proposal | None = None) -> Tensor:
        """The evidence lower bound in nats, ``[n]``, its divergence from the prior exact."""
        mean, log_variance = self.encode(images) if proposal is None else proposal
        z = mean[:, None] + (0.5 * log_variance).exp()[:, None] * noise
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
        return self.log_likelihood(images, z).mean(1) - divergence

    @checked
    def refined(
        self, images: Tensor, noise: Tensor, *, steps: Count = 200, rate: Positive = 0.05
    ) -> Proposal:
        """A proposal fitted to each image: mean and log variance of q(z|x), ``[n, latent]`` each.

        An encoder fits held-out images less well than those it was trained on, so that their log
        p(x) is underestimated by more. Here each image starts from the encoder's q(z|x) and takes
        ``steps`` of Adam on its own evidence lower bound; weights stay as they are, and no image
        sees another one.

        Parameters
        ----------
        images : ``[n, ...]``, from 0 to 1
        noise : standard normal ``[n, samples, latent]``
            Other draws than those of the estimate, which would be biased upwards.
        steps : int
        rate : float

        Examples
        --------
        >>> model, images = MLPVAE(4, (8,), latent=2, seed=0), torch.eye(4)
        >>> q = model.refined(images, noise(range(4), 32, 2, seed=1))
        >>> other = noise(range(4), 1000, 2)
        >>> bool((model.elbo(images, other, q) > model.elbo(images, other)).all())
        True
        """
        with torch.enable_grad():
            start = (part.detach().clone() for part in self.encode(images))
            proposal = [part.requires_grad_() for part in start]
            optimizer = torch.optim.Adam(proposal, lr=rate)
            for _ in range(steps):
                bound = self.elbo(images, noise, (proposal[0], proposal[1])).sum()
                # Of the proposal alone: the weights keep their gradients.
                for part, slope in zip(proposal, torch.autograd.grad(bound, proposal), strict=True):
                    part.grad = -slope
                optimizer.step()
        return proposal[0].detach(), proposal[1].detach()

    def reconstruct(self, images: Tensor, noise: Tensor) -> Tensor:
        """Mean of the decoded pixels over the samples, from 0 to 1, in the shape of the images."""
        mean, log_variance = self.encode(images)
        z = mean[:, None] + (0.5 * log_variance).exp()[:, None] * noise
        return self.decode(z).sigmoid().mean(1).view(images.shape)

    def generate(self, count: int, seed: int = 0) -> Tensor:
        """Probabilities of the pixels of new images, ``[count, pixels]``; image k by seed and k."""
        with torch.no_grad():
            like = next(self.parameters())
            drawn = noise(range(count), 1, self.latent, seed=seed).to(like)
            return self.decode(drawn)[:, 0].sigmoid()


class MLPVAE(VAE):
    """A VAE of fully connected layers: ReLU layers there and back, in reverse widths.

    The layers to ablate are ``encoder.fc1``, ``encoder.fc2``, ..., the latents ``mean``, and
    ``decoder.fc1``, ... from the latents outwards.

    Parameters
    ----------
    pixels : int
    hidden : units of the encoder's layers; the decoder has them in reverse.
    latent : int
    seed : fixes the initial weights without the global generator; None draws from it.

    Raises
    ------
    ValueError : there is no hidden layer, or a size is not positive.

    Examples
    --------
    >>> model = MLPVAE(64, (128,), latent=8, seed=0)
    >>> images = binarized(torch.rand(5, 1, 8, 8))
    >>> model(images, noise(range(5), samples=16, latent=8)).shape
    torch.Size([5])
    """

    def __init__(
        self, pixels: int, hidden: Sequence[int], latent: int, seed: int | None = None
    ) -> None:
        super().__init__()
        if not hidden or min(pixels, latent, *hidden) < 1:
            raise ValueError(
                "MLPVAE takes the number of pixels, the units of at least one hidden layer and the "
                f"latents, all positive, but got {pixels}, {tuple(hidden)} and {latent}."
            )
        self.latent = latent
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.default_generator.manual_seed(seed)
            self.encoder = _layers((pixels, *hidden))
            self.mean = nn.Linear(hidden[-1], latent)
            self.log_variance = nn.Linear(hidden[-1], latent)
            self.decoder = _layers((latent, *reversed(hidden)))
            self.pixels = nn.Linear(hidden[0], pixels)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(z|x), ``[n, latent]`` each."""
        hidden = self.encoder(images.flatten(1))
        return self.mean(hidden), self.log_variance(hidden)

    def decode(self, z: Tensor) -> Tensor:
        """Logits of the pixels, ``[n, samples, pixels]``."""
        logits: Tensor = self.pixels(self.decoder(z))
        return logits


class ConvVAE(VAE):
    """A small convolutional VAE: two strided convolutions there, two transposed ones back.

    The layers to ablate are ``conv1``, ``conv2``, ``mean``, ``fc``, ``up1``.

    Parameters
    ----------
    side : int
        Images are ``[1, side, side]``; a multiple of 4.
    channels : units of the two convolutions; the decoder has them in reverse.
    latent : int
    seed : fixes the initial weights without the global generator; None draws from it.

    Raises
    ------
    ValueError : a size is not positive, or ``side`` no multiple of 4.

    Examples
    --------
    >>> model = ConvVAE(8, (8, 16), latent=4, seed=0)
    >>> model(binarized(torch.rand(5, 1, 8, 8)), noise(range(5), samples=16, latent=4)).shape
    torch.Size([5])
    """

    def __init__(
        self, side: int, channels: tuple[int, int], latent: int, seed: int | None = None
    ) -> None:
        super().__init__()
        if min(side, latent, *channels) < 1 or len(channels) != 2 or side % 4:
            raise ValueError(
                "ConvVAE takes a side that is a multiple of 4, two numbers of channels and the "
                f"latents, all positive, but got {side}, {tuple(channels)} and {latent}."
            )
        self.latent, self.side, self.channels = latent, side, channels
        first, second = channels
        flat = second * (side // 4) ** 2
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.default_generator.manual_seed(seed)
            self.conv1, self.relu1 = nn.Conv2d(1, first, 4, 2, 1), nn.ReLU()
            self.conv2, self.relu2 = nn.Conv2d(first, second, 4, 2, 1), nn.ReLU()
            self.mean, self.log_variance = nn.Linear(flat, latent), nn.Linear(flat, latent)
            self.fc, self.relu3 = nn.Linear(latent, flat), nn.ReLU()
            # The samples are a third axis of size 1 to the kernel: the first one stays the
            # examples, which is what a unit's activation is read along.
            self.up1 = nn.ConvTranspose3d(second, first, (1, 4, 4), (1, 2, 2), (0, 1, 1))
            self.relu4 = nn.ReLU()
            self.pixels = nn.ConvTranspose3d(first, 1, (1, 4, 4), (1, 2, 2), (0, 1, 1))

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(z|x), ``[n, latent]`` each."""
        hidden = self.relu2(self.conv2(self.relu1(self.conv1(images)))).flatten(1)
        return self.mean(hidden), self.log_variance(hidden)

    def decode(self, z: Tensor) -> Tensor:
        """Logits of the pixels, ``[n, samples, pixels]``."""
        n, samples = z.shape[:2]
        corner = self.side // 4
        hidden = self.relu3(self.fc(z)).view(n, samples, self.channels[1], corner, corner)
        logits: Tensor = self.pixels(self.relu4(self.up1(hidden.transpose(1, 2))))
        return logits.view(n, samples, self.side**2)


def _layers(widths: Sequence[int]) -> nn.Sequential:
    layers = nn.Sequential()
    for number, (before, units) in enumerate(pairwise(widths), 1):
        layers.add_module(f"fc{number}", nn.Linear(before, units))
        layers.add_module(f"relu{number}", nn.ReLU())
    return layers


@checked
def noise(
    examples: IndicesLike | range, samples: Count, latent: Count, *, seed: Seed = 0
) -> Tensor:
    """Standard normal draws of each example, float32 ``[n, samples, latent]``.

    Those of an example depend on the seed and the example alone, and fewer samples are the first of
    more, so that models are compared on the same draws.

    Parameters
    ----------
    examples : int ``[n]``
    samples, latent : int
    seed : int

    Examples
    --------
    >>> one, many = noise([7], 2, 3), noise(range(9), 4, 3)
    >>> torch.equal(one[0], many[7, :2])
    True
    """
    numbers = as_numbers_of(examples)
    if len(numbers) * samples * latent > _MOST:
        raise ValueError(
            f"{len(numbers):,} examples with {samples:,} samples of {latent:,} latents each are "
            f"more than {_MOST:,} numbers; draw the noise of some examples at a time."
        )
    drawn = np.empty((len(numbers), samples, latent), np.float32)
    for row, example in enumerate(numbers):
        # NumPy's, whose draws don't change with their number, as torch's do.
        drawn[row] = np.random.default_rng([seed, example]).standard_normal((samples, latent))
    return torch.from_numpy(drawn)


@checked
def binarized(
    images: Tensor, examples: IndicesLike | range | None = None, *, seed: Seed = 0
) -> Tensor:
    """Each pixel 1 with a chance of its grey value, drawn once, float32 in the shape of the images.

    The draw of an example depends on the seed and the example alone. Drawing anew at every access,
    as is common in training, would make log p(x) that of another x each time.

    Parameters
    ----------
    images : ``[n, ...]``, from 0 to 1
    examples : int ``[n]``, optional
        Their numbers; 0 to n - 1 by default.
    seed : int

    Raises
    ------
    ValueError
        If a value lies outside [0, 1].

    Examples
    --------
    >>> binarized(torch.tensor([[0.0, 1.0]]))
    tensor([[0., 1.]])
    """
    check_images(images)
    numbers = as_numbers_of(range(len(images)) if examples is None else examples)
    if len(numbers) != len(images):
        raise ValueError(
            f"examples names {len(numbers)} and there are {len(images)} images; give one each."
        )
    drawn = torch.empty(images.shape)
    for row, example in enumerate(numbers):
        rng = np.random.default_rng([seed, example, 1])
        chances = torch.from_numpy(rng.random(images[row].numel(), np.float32))
        drawn[row] = (chances.view(images.shape[1:]) < images[row].cpu()).float()
    return drawn


def as_numbers_of(examples: IndicesLike | range) -> list[int]:
    """Numbers of examples, 0 or more."""
    if isinstance(examples, range):
        return list(examples)
    return as_indices("examples", examples, 2**31).tolist()


def check_images(images: Tensor) -> None:
    """Refuse images that are not numbers from 0 to 1, one row each.

    Raises
    ------
    ValueError
        Naming a value outside.

    Examples
    --------
    >>> check_images(torch.tensor([[0.0, 255.0]]))
    Traceback (most recent call last):
    ValueError: the images hold 255, outside [0, 1]; divide 8-bit images by 255.
    """
    if images.dim() < 2 or not len(images):
        raise ValueError(f"the images have shape {tuple(images.shape)}; give [n, ...].")
    inside = (images >= 0) & (images <= 1)  # False for NaN
    if not inside.all():
        value = images[~inside][0].item()
        raise ValueError(f"the images hold {value:g}, outside [0, 1]; divide 8-bit images by 255.")
