"""Alignment: how far apart an encoder maps augmented views of an image, for f and g on equal views.

``SSL_f(x)`` is the mean distance of two views' features (Wang et al. 2024, arXiv:2409.19069,
section 3, after the SSLMem paper, arXiv:2401.12233). The released code compares the image itself
with a view of it instead. Views are drawn once per image and given to both encoders: unpaired draws
would add their noise to each difference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from memviz.checks import quoted
from memviz.engine.activations import check_same_copies, seed_generators
from memviz.engine.record import Chunked, split
from memviz.progress import slow
from memviz.restored import random_kept
from memviz.training.self_supervised import Augment

from ._path import PathFeatures

Encode = Callable[[Tensor], Mapping[str, Tensor]]
Compare = Literal["views", "clean"]


def views(
    images: Tensor, augment: Augment, augmentations: int, examples: Tensor, seed: int = 0
) -> Tensor:
    """Augmented views of some images, ``[examples, augmentations, ...]``.

    Each image has its own generator, so its views do not depend on the other images. Draws from
    the global generators of torch, NumPy and Python are seeded, too, and those are restored.

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
    drawn_back = random_kept(anywhere=True)
    with drawn_back, drawn_back:
        for example in examples.tolist():
            own_seed = (int(seed) * 1_000_003 + example) % 2**63
            seed_generators(own_seed)
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


def alignment(features: Tensor, *, unit_norm: bool = True, compare: Compare = "views") -> Tensor:
    """Mean l2 distance of an image's views, float64 ``[n]``.

    Parameters
    ----------
    features : float ``[n, views, features]``
    unit_norm : bool
        Whether to scale features to length 1 first; all-zero features stay zero.
    compare : {"views", "clean"}
        All pairs of views, or the first, the image itself, with each other one.

    Examples
    --------
    >>> alignment(torch.tensor([[[3.0, 0.0], [0.0, 4.0]]]), unit_norm=False)
    tensor([5.], dtype=torch.float64)
    """
    rows = features.double()
    if unit_norm:
        lengths = torch.linalg.vector_norm(rows, dim=2, keepdim=True)
        rows = rows / torch.where(lengths > 0, lengths, 1.0)
    if compare == "clean":
        distances: Tensor = torch.linalg.vector_norm(rows[:, 1:] - rows[:, :1], dim=2)
        return distances.mean(1)
    return torch.stack([torch.pdist(image).mean() for image in rows])


def alignments(
    encoders: Sequence[Encode],
    size: int,
    images: Tensor,
    augment: Augment,
    augmentations: int,
    examples: Tensor,
    *,
    unit_norm: bool,
    compare: Compare,
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

    Raises
    ------
    ValueError
        If an image's features are NaN or infinite, or ``augment`` draws from an unseeded generator.
    """
    work = Chunked(size)
    each = augmentations + (compare == "clean")
    first = views(images, augment, augmentations, examples[:1], seed)

    def drawn_for(chosen: Tensor) -> Tensor:
        drawn = views(images, augment, augmentations, chosen, seed)
        if chosen[0] == examples[0]:
            check_same_copies({"": first[0]}, {"": drawn[0]}, int(examples[0]))
        return drawn if compare == "views" else _with_clean(images[chosen], drawn)

    def run() -> list[dict[str, Tensor]]:
        parts: list[list[dict[str, Tensor]]] = [[] for _ in encoders]
        for positions in slow(split(len(examples), max(1, work.size // each)), "alignment",
                              progress=progress):  # fmt: skip
            chosen = examples[positions]
            drawn = drawn_for(chosen).flatten(0, 1)
            for kept, encode in zip(parts, encoders, strict=True):
                features = {
                    name: rows.cpu().unflatten(0, (len(positions), each))
                    for name, rows in encode(drawn).items()
                }
                check_finite(features, chosen)
                kept.append(
                    {
                        name: alignment(rows, unit_norm=unit_norm, compare=compare)
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


def _with_clean(images: Tensor, drawn: Tensor) -> Tensor:
    """The images themselves before their views, ``[n, 1 + views, ...]``."""
    if images.shape[1:] != drawn.shape[2:]:
        raise ValueError(
            f"views have shape {tuple(drawn.shape[2:])} and images {tuple(images.shape[1:])}; "
            "compare='clean' needs an augment that keeps the shape."
        )
    return torch.cat([images[:, None].to(drawn), drawn], 1)


def check_finite(features: Mapping[str, Tensor], images: Tensor) -> None:
    """Refuse features ``[n, views, ...]`` that are not numbers; ``images`` names the rows."""
    for name, rows in features.items():
        bad = ~rows.isfinite().flatten(1).all(1)
        if bool(bad.any()):
            place = f" at {quoted(name)}" if name else ""
            raise ValueError(
                f"the features of image {int(images[bad][0])}{place} are NaN or infinite; leave "
                "that image out, or check the weights."
            )


def check_pair(
    target: nn.Module,
    reference: nn.Module,
    images: Tensor,
    augmentations: int,
    compare: Compare,
) -> None:
    """Refuse encoders, images or augmentations that cannot be compared."""
    if compare not in ("views", "clean"):
        raise ValueError(f"compare is {quoted(compare)}; use 'views' or 'clean'.")
    if len(images) < 2:
        raise ValueError(f"give at least 2 images, not {len(images)}.")
    if augmentations < 1 + (compare == "views"):
        raise ValueError(
            f"augmentations is {augmentations}; alignment compares views of an image, so give at "
            "least 2 (1 with compare='clean')."
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
                f"at {quoted(name)} the target has {words[0]} and the reference {words[1]}; "
                "compare two encoders of the same architecture."
            )


def measure_words(unit_norm: bool, compare: Compare) -> str:
    """How features were compared, for the measure of a result.

    Examples
    --------
    >>> measure_words(True, "clean")
    'features of length 1, images against their views'
    """
    scale = "features of length 1" if unit_norm else "raw features (the sign can be wrong)"
    return scale + ", images against their views" * (compare == "clean")


def check_indices(chosen: Tensor, images: Tensor) -> None:
    """Refuse subsets that name images that do not exist."""
    if int(chosen.max()) >= len(images):
        raise ValueError(
            f"the subsets name image {int(chosen.max())}, but there are {len(images):,} images."
        )
