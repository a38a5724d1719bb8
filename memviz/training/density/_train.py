"""One plain training loop of a VAE, and its log p(x) of many images."""

from __future__ import annotations

import torch
from torch import Tensor

from memviz.models.vae import VAE, Proposal, check_images
from memviz.training.epochs import Epochs, OnEpoch, check_one_device, check_seed, seeded_epoch

_FITTED = 512  # images whose proposals are fitted at a time
_ENTRIES = 2**14  # importance samples at a time; more is slower, since they leave the cache


def train_vae(
    model: VAE,
    images: Tensor,
    *,
    examples: Tensor | None = None,
    epochs: int = 100,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
    seed: int = 0,
    on_epoch: OnEpoch | None = None,
    progress: bool = True,
) -> None:
    """Train a VAE in place: Adam on the evidence lower bound, one sample per image.

    The images are as they are, binarized once and for all (see
    :func:`memviz.models.vae.binarized`). Shuffling has a generator of its own, and the samples are
    seeded in every epoch: the same seed gives the same training, and torch's global generator is
    put back. Stopped early, the model is as it was after the last whole epoch.

    Parameters
    ----------
    model : VAE
    images : ``[n, ...]``, from 0 to 1, on the model's device
    examples : int64 ``[m]``, optional
        Those to train on; all by default.
    epochs, batch_size : int
    learning_rate : float
    seed : int
    on_epoch : called as ``on_epoch(epoch, model)`` after each epoch, counted from 1.
    progress : bool

    Raises
    ------
    ValueError
        On images outside [0, 1], no example, or a number out of its range.
    FloatingPointError
        If the loss is no longer finite.

    Examples
    --------
    >>> from memviz.models.vae import MLPVAE, noise
    >>> model, images = MLPVAE(4, (8,), latent=2, seed=0), torch.eye(4)
    >>> before = log_likelihoods(model, images, noise(range(4), 16, 2)).mean()
    >>> train_vae(model, images, epochs=50, learning_rate=0.01, progress=False)
    >>> bool(log_likelihoods(model, images, noise(range(4), 16, 2)).mean() > before)
    True
    """
    check_images(images)
    check_one_device(model, images=images)
    seed = check_seed(seed)
    chosen = torch.arange(len(images)) if examples is None else examples
    if not len(chosen):
        raise ValueError("there is no example to train on; choose at least one.")
    if epochs < 1 or batch_size < 1 or not learning_rate > 0:
        raise ValueError(
            "epochs and batch_size must be at least 1 and learning_rate above 0, but got "
            f"epochs={epochs}, batch_size={batch_size} and learning_rate={learning_rate}."
        )
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    generator = torch.Generator().manual_seed(seed)
    with Epochs(
        model,
        epochs,
        learning_rate=learning_rate,
        on_epoch=on_epoch,
        advice=", and the same call trains anew",
        progress=progress,
    ) as frame:
        for epoch in frame:
            model.train()
            draws, total = seeded_epoch(seed, epoch), 0.0
            order = chosen[torch.randperm(len(chosen), generator=generator)].to(images.device)
            with draws, draws:  # twice, as an interrupt can miss one exit
                for batch in order.split(batch_size):
                    drawn = torch.randn(len(batch), 1, model.latent, device=images.device)
                    loss = -model.elbo(images[batch], drawn).mean()
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    total += loss.item() * len(batch)
            frame.trained(total / len(chosen))
            frame.end()


@torch.no_grad()
def log_likelihoods(
    model: VAE, images: Tensor, noise: Tensor, fitting_noise: Tensor | None = None
) -> Tensor:
    """Log p(x) of each image in nats, float32 ``[n]``, a few at a time.

    Parameters
    ----------
    model : VAE
        In eval mode where that makes a difference.
    images : ``[n, ...]``, from 0 to 1
    noise : ``[n, samples, latent]``
        See :func:`memviz.models.vae.noise`.
    fitting_noise : ``[n, samples, latent]``, optional
        Other draws, with which a proposal is fitted to each image (``VAE.refined``); without them
        the encoder's is taken.

    Raises
    ------
    ValueError
        On images outside [0, 1], or other noise than the images need.

    Examples
    --------
    >>> from memviz.models.vae import MLPVAE, noise
    >>> log_likelihoods(MLPVAE(4, (8,), 2, seed=0), torch.eye(4), noise(range(4), 16, 2)).shape
    torch.Size([4])
    """
    check_images(images)
    for draws in (noise,) if fitting_noise is None else (noise, fitting_noise):
        if draws.dim() != 3 or len(draws) != len(images) or draws.shape[2] != model.latent:
            raise ValueError(
                f"the noise has shape {tuple(draws.shape)} for {len(images)} images and "
                f"{model.latent} latents; draw it with memviz.models.vae.noise."
            )
    device = next((p.device for p in model.parameters()), images.device)
    fitted: list[Proposal] = []
    if fitting_noise is not None:
        some = zip(images.split(_FITTED), fitting_noise.split(_FITTED), strict=True)
        fitted = [model.refined(few.to(device), draws.to(device)) for few, draws in some]
    proposal = [torch.cat(part) for part in zip(*fitted, strict=True)]
    rows, parts = max(1, _ENTRIES // noise.shape[1] // 16), []
    for start in range(0, len(images), rows):
        part = slice(start, start + rows)
        q = (proposal[0][part], proposal[1][part]) if proposal else None
        parts.append(model(images[part].to(device), noise[part].to(device), q).float().cpu())
    return torch.cat(parts)
