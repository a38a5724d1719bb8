"""Alignment: how far apart an encoder maps augmented views of an image, for f and g on equal views.

``SSL_f(x)`` is the mean distance of two views' features (Wang et al. 2024, arXiv:2409.19069,
section 3, after the SSLMem paper, arXiv:2401.12233). Views are drawn once per image and given to
both encoders: unpaired draws would add their noise to each difference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from memviz.engine.record import Chunked, split
from memviz.progress import slow
from memviz.training.self_supervised import Augment

from ._path import PathFeatures

Encode = Callable[[Tensor], Mapping[str, Tensor]]


def views(
    images: Tensor, augment: Augment, augmentations: int, examples: Tensor, seed: int = 0
) -> Tensor:
    """Augmented views of some images, ``[examples, augmentations, ...]``.

    Each image has its own generator, so its views do not depend on the other images. Draws from
    torch's global generator are seeded, too, and that generator is restored.

    Raises
    ------
    ValueError
        If ``augment`` does not return as many images as it was given.

    Examples
    --------
    >>> def noise(x, generator):
    ...     return x + torch.randn(x.shape, generator=generator)
    >>> all_views = views(torch.zeros(5, 3), noise, 2, torch.arange(5))
    >>> torch.equal(all_views[[4]], views(torch.zeros(5, 3), noise, 2, torch.tensor([4])))
    True
    """
    stacked = []
    with torch.random.fork_rng(devices=[]):
        for example in examples.tolist():
            own_seed = (int(seed) * 1_000_003 + example) % 2**63
            torch.default_generator.manual_seed(own_seed)
            copies = images[example].expand(augmentations, *images.shape[1:]).clone()
            augmented = augment(copies, torch.Generator().manual_seed(own_seed))
            if not isinstance(augmented, Tensor) or len(augmented) != augmentations:
                got = (
                    f"{len(augmented)} rows"
                    if isinstance(augmented, Tensor)
                    else type(augmented).__name__
                )
                raise ValueError(
                    f"augment returned {got} for {augmentations} copies; return one row per copy."
                )
            stacked.append(augmented)
    return torch.stack(stacked)


def alignment(features: Tensor, *, unit_norm: bool = True) -> Tensor:
    """Mean l2 distance over all pairs of an image's views, float64 ``[n]``.

    Parameters
    ----------
    features : float ``[n, views, features]``
    unit_norm : bool
        Whether to scale features to length 1 first; all-zero features stay zero.

    Examples
    --------
    >>> alignment(torch.tensor([[[3.0, 0.0], [0.0, 4.0]]]), unit_norm=False)
    tensor([5.], dtype=torch.float64)
    """
    rows = normalize(features, dim=2) if unit_norm else features
    return torch.stack([torch.pdist(image.double()).mean() for image in rows])


def alignments(
    encoders: Sequence[Encode],
    size: int,
    images: Tensor,
    augment: Augment,
    augmentations: int,
    examples: Tensor,
    *,
    unit_norm: bool,
    seed: int,
    progress: bool,
) -> list[dict[str, Tensor]]:
    """The alignment of each image at each point, for several encoders on the same views.

    Parameters
    ----------
    encoders : sequence of callable
        Map images to features ``[n, features]`` by point.
    size : int
        Number of views per forward pass.

    Returns
    -------
    list of dict
        For each encoder, float64 ``[examples]`` by point.
    """
    work = Chunked(size)

    def run() -> list[dict[str, Tensor]]:
        parts: list[list[dict[str, Tensor]]] = [[] for _ in encoders]
        for positions in slow(split(len(examples), max(1, work.size // augmentations)), "alignment",
                              progress=progress):  # fmt: skip
            drawn = views(images, augment, augmentations, examples[positions], seed)
            for kept, encode in zip(parts, encoders, strict=True):
                features = encode(drawn.flatten(0, 1))
                kept.append(
                    {
                        name: alignment(
                            rows.cpu().unflatten(0, (len(positions), augmentations)),
                            unit_norm=unit_norm,
                        )
                        for name, rows in features.items()
                    }
                )
        return [
            {name: torch.cat([part[name] for part in of_encoder]) for name in of_encoder[0]}
            for of_encoder in parts
        ]

    return work.guard(run)


def memorized(target: Tensor, reference: Tensor) -> Tensor:
    """Normalised SSLMem ``(SSL_g - SSL_f) / (SSL_f + SSL_g)``, from -1 to 1; NaN where both are 0.

    Examples
    --------
    >>> memorized(torch.tensor([1.0, 0.0]), torch.tensor([3.0, 2.0]))
    tensor([0.5000, 1.0000])
    """
    return (reference - target) / (reference + target)


def check_pair(target: nn.Module, reference: nn.Module, images: Tensor, augmentations: int) -> None:
    """Refuse encoders, images or augmentations that cannot be compared."""
    if len(images) < 2:
        raise ValueError(f"give at least 2 images, not {len(images)}.")
    if augmentations < 2:
        raise ValueError(
            f"augmentations is {augmentations}; alignment compares views of an image, so give at "
            "least 2."
        )
    for encoder in (target, reference):
        if not isinstance(encoder, nn.Module):
            raise TypeError(f"an encoder is {type(encoder).__name__}; expected a torch.nn.Module.")


def check_sizes(target: PathFeatures, reference: PathFeatures, images: Tensor) -> None:
    """Refuse encoders that differ in their points or in the features of a point."""
    sizes = [
        {name: rows.shape[1] for name, rows in encode(images[:1]).items()}
        for encode in (target, reference)
    ]
    for name in dict.fromkeys([*sizes[0], *sizes[1]]):
        widths = [size.get(name) for size in sizes]
        if widths[0] != widths[1]:
            words = [f"{width:,} features" if width else "no such layer" for width in widths]
            raise ValueError(
                f"at {name!r} the target has {words[0]} and the reference {words[1]}; compare "
                "two encoders of the same architecture."
            )


def check_indices(chosen: Tensor, images: Tensor) -> None:
    """Refuse subsets that name images that do not exist."""
    if int(chosen.max()) >= len(images):
        raise ValueError(
            f"the subsets name image {int(chosen.max())}, but there are {len(images):,} images."
        )
