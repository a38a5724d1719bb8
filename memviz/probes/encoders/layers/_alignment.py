"""Alignment: how far apart an encoder puts augmented views of one image, for f and g on one draw.

``SSL_f(x)`` is the mean distance of two views' features (Wang et al. 2024, arXiv:2409.19069,
section 3, after the SSLMem paper, arXiv:2401.12233). Views are drawn once an image and given to
both encoders: unpaired draws would add their noise to each difference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from memviz.engine.record import halving, split
from memviz.progress import slow
from memviz.training.self_supervised import Augment

from ._path import PathFeatures

Encode = Callable[[Tensor], Mapping[str, Tensor]]


def views(
    images: Tensor, augment: Augment, augmentations: int, examples: Tensor, seed: int = 0
) -> Tensor:
    """Augmented views of some images, ``[examples, augmentations, ...]``.

    An image has the same views whatever others are asked for with it: each has a generator of its
    own. What draws from torch's global generator is seeded too, and that generator put back.

    Raises
    ------
    ValueError
        If ``augment`` does not return each copy.

    Examples
    --------
    >>> def noise(x, generator):
    ...     return x + torch.randn(x.shape, generator=generator)
    >>> every = views(torch.zeros(5, 3), noise, 2, torch.arange(5))
    >>> torch.equal(every[[4]], views(torch.zeros(5, 3), noise, 2, torch.tensor([4])))
    True
    """
    found = []
    with torch.random.fork_rng(devices=[]):
        for example in examples.tolist():
            own = (int(seed) * 1_000_003 + example) % 2**63
            torch.default_generator.manual_seed(own)
            copies = images[example].expand(augmentations, *images.shape[1:]).clone()
            made = augment(copies, torch.Generator().manual_seed(own))
            if not isinstance(made, Tensor) or len(made) != augmentations:
                got = f"{len(made)} rows" if isinstance(made, Tensor) else type(made).__name__
                raise ValueError(
                    f"augment returned {got} for {augmentations} copies; it must return each copy."
                )
            found.append(made)
    return torch.stack(found)


def alignment(features: Tensor, *, unit_norm: bool = True) -> Tensor:
    """Mean distance (l2) of all pairs of an image's views, float64 ``[n]``.

    Parameters
    ----------
    features : float ``[n, views, features]``
    unit_norm : bool
        Whether features have length 1 first; a feature of zeros stays one.

    Examples
    --------
    >>> alignment(torch.tensor([[[3.0, 0.0], [0.0, 4.0]]]), unit_norm=False)
    tensor([5.], dtype=torch.float64)
    """
    rows = normalize(features, dim=2) if unit_norm else features
    return torch.stack([torch.pdist(one.double()).mean() for one in rows])


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
    """The alignment of each image at each place, for several encoders on the same views.

    Parameters
    ----------
    encoders : sequence of callable
        Images in, features ``[n, features]`` by place out.
    size : int
        Views that pass at once.

    Returns
    -------
    For each encoder, float64 ``[examples]`` by place.
    """

    def run() -> list[dict[str, Tensor]]:
        parts: list[list[dict[str, Tensor]]] = [[] for _ in encoders]
        for positions in slow(split(len(examples), max(1, size // augmentations)), "alignment",
                              progress=progress):  # fmt: skip
            drawn = views(images, augment, augmentations, examples[positions], seed)
            for into, encode in zip(parts, encoders, strict=True):
                found = encode(drawn.flatten(0, 1))
                into.append(
                    {
                        name: alignment(
                            rows.cpu().unflatten(0, (len(positions), augmentations)),
                            unit_norm=unit_norm,
                        )
                        for name, rows in found.items()
                    }
                )
        return [
            {name: torch.cat([part[name] for part in mine]) for name in mine[0]} for mine in parts
        ]

    def resize(smaller: int) -> None:
        nonlocal size
        size = smaller

    return halving(run, lambda: size, resize)


def memorized(target: Tensor, reference: Tensor) -> Tensor:
    """Normalised SSLMem ``(SSL_g - SSL_f) / (SSL_f + SSL_g)``, from -1 to 1; NaN where both are 0.

    Examples
    --------
    >>> memorized(torch.tensor([1.0, 0.0]), torch.tensor([3.0, 2.0]))
    tensor([0.5000, 1.0000])
    """
    return (reference - target) / (reference + target)


def check_pair(target: nn.Module, reference: nn.Module, images: Tensor, augmentations: int) -> None:
    """Raise one clear sentence for what can't be compared."""
    if len(images) < 2:
        raise ValueError(f"there is {len(images)} image; give at least 2.")
    if augmentations < 2:
        raise ValueError(
            f"augmentations is {augmentations}; alignment compares views of an image, so it needs "
            "at least 2."
        )
    for one in (target, reference):
        if not isinstance(one, nn.Module):
            raise TypeError(f"an encoder is {type(one).__name__}; give a torch.nn.Module.")


def check_sizes(target: PathFeatures, reference: PathFeatures, images: Tensor) -> None:
    """Both encoders must have the same points, each with as many features."""
    sizes = [{name: rows.shape[1] for name, rows in one(images[:1]).items()}
             for one in (target, reference)]  # fmt: skip
    for name in dict.fromkeys([*sizes[0], *sizes[1]]):
        have = [one.get(name) for one in sizes]
        if have[0] != have[1]:
            words = [f"{number:,} features" if number else "no such layer" for number in have]
            raise ValueError(
                f"at {name!r} the target has {words[0]} and the reference {words[1]}; compare "
                "two encoders of one architecture."
            )


def check_indices(chosen: Tensor, images: Tensor) -> None:
    """The images that subsets name must be there."""
    if int(chosen.max()) >= len(images):
        raise ValueError(
            f"the subsets name image {int(chosen.max())}, and there are {len(images):,} images."
        )
