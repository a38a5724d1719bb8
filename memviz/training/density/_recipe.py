"""How a VAE is trained again and again: by a recipe that can be sent to other processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from memviz.models.vae import VAE, noise
from memviz.training.epochs import seeded_draws

from ._train import log_likelihoods, train_vae


@dataclass(frozen=True)
class VAERecipe:
    """A fresh VAE, trained by :func:`train_vae`, and log p(x) of all images after some epochs.

    Called with all images, the indices to train on and a seed, it returns the log-likelihoods of
    every image after each of the epochs: what :func:`memviz.probes.density.cross_fit` asks for.
    Image k has the same importance samples' noise in every training, so that those with and
    without it are compared on the same draws.

    Parameters
    ----------
    model : callable
        Makes a fresh VAE. It is called with torch's generator seeded; the generator is put back.
    epochs : tuple of int
        After which log p(x) is read; the last one is the length of the training.
    batch_size, learning_rate
        As for :func:`train_vae`.
    samples : int
        Importance samples; the paper takes 256 for MNIST and 128 for the others.
    noise_seed : int
        Of the importance samples.
    device : str

    Examples
    --------
    >>> import torch
    >>> from functools import partial
    >>> from memviz.models.vae import MLPVAE
    >>> recipe = VAERecipe(partial(MLPVAE, 4, (8,), 2), epochs=(1, 3), samples=16)
    >>> {epoch: len(values) for epoch, values in recipe(torch.eye(4), torch.arange(3), 0).items()}
    {1: 4, 3: 4}
    """

    model: Callable[[], VAE]
    epochs: tuple[int, ...] = (100,)
    batch_size: int = 64
    learning_rate: float = 1e-3
    samples: int = 128
    noise_seed: int = 0
    device: str = "cpu"

    def __call__(self, images: Tensor, chosen: Tensor, seed: int) -> dict[int, Tensor]:
        """Log p(x) of all images, float32 ``[n]``, by epoch."""
        drawn: list[Tensor] = []
        found: dict[int, Tensor] = {}

        def read(epoch: int, model: nn.Module) -> None:
            if epoch in self.epochs:
                assert isinstance(model, VAE)
                if not drawn:
                    examples = range(len(images))
                    drawn.append(noise(examples, self.samples, model.latent, seed=self.noise_seed))
                found[epoch] = log_likelihoods(model, images, drawn[0])

        self.fit(images, chosen, seed, on_epoch=read)
        return found

    def fit(
        self,
        images: Tensor,
        chosen: Tensor,
        seed: int,
        *,
        on_epoch: Callable[[int, nn.Module], object] | None = None,
    ) -> VAE:
        """The VAE itself, trained on the chosen images to the last epoch, in evaluation mode."""
        draws = seeded_draws(seed, self.device)
        with draws, draws:  # twice, as an interrupt can miss one exit
            model = self.model().to(self.device)
        train_vae(
            model,
            images.to(self.device),
            examples=chosen,
            epochs=max(self.epochs),
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            seed=seed,
            on_epoch=on_epoch,
            progress=False,
        )
        return model
