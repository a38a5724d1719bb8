"""The four subsets of a pair of encoders: which of the two was trained on which image."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

NAMES = {"shared": "S_S", "candidate": "S_C", "independent": "S_I", "external": "S_E"}


@dataclass(frozen=True, eq=False)
class Subsets:
    """Indices of the images that target f, reference g, both or neither were trained on.

    Wang et al. 2024 (arXiv:2409.19069), section 4: the other three subsets are the null for
    LayerMem of the candidates.

    Attributes
    ----------
    shared, candidate, independent, external : int64
        S_S was used to train f and g, S_C only f, S_I only g, S_E neither. A set may be empty; no
        image is in two of them.

    Raises
    ------
    ValueError
        If an image is in two sets, or there is no candidate.

    Examples
    --------
    >>> sets = Subsets(range(4), range(4, 6), range(6, 8), range(8, 12))
    >>> sets, sets.target.tolist()
    (Subsets(S_S 4, S_C 2, S_I 2, S_E 4), [0, 1, 2, 3, 4, 5])
    """

    shared: Tensor
    candidate: Tensor
    independent: Tensor
    external: Tensor

    def __post_init__(self) -> None:
        for field in fields(self):
            indices = torch.as_tensor(list(getattr(self, field.name)), dtype=torch.int64)
            object.__setattr__(self, field.name, indices)
        if not len(self.candidate):
            raise ValueError(
                "there is no candidate (S_C); name the images that only the target was trained on."
            )
        images, counts = torch.cat(list(self.named().values())).unique(return_counts=True)
        if bool((counts > 1).any()):
            raise ValueError(
                f"image {int(images[counts > 1][0])} is in two sets (or twice in one); an image "
                "may be in one set, once."
            )
        if int(images[0]) < 0:
            raise ValueError(f"image {int(images[0])} is negative; images are counted from 0.")

    @property
    def target(self) -> Tensor:
        """What f is trained on: shared and candidate images."""
        return torch.cat([self.shared, self.candidate])

    @property
    def reference(self) -> Tensor:
        """What g is trained on: shared and independent images."""
        return torch.cat([self.shared, self.independent])

    def named(self) -> dict[str, Tensor]:
        """The sets that are not empty, by the paper's names."""
        by_name = {short: getattr(self, name) for name, short in NAMES.items()}
        return {short: images for short, images in by_name.items() if len(images)}

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} {len(images):,}" for name, images in self.named().items())
        return f"Subsets({sizes})"


def four_subsets(
    n: int,
    shared: int | float = 0.8,
    candidate: int | float = 0.1,
    independent: int | float = 0.1,
    external: int | float = 0,
    *,
    seed: int = 0,
) -> Subsets:
    """Draw the four subsets of ``n`` images at random.

    Parameters
    ----------
    n : int
    shared, candidate, independent, external : int or float
        The size of each: an int is a number of images, a float a share of ``n``. The paper uses
        80, 10 and 10 % of the training images; its external images come from the test set.
    seed : int
        The global generator is not used.

    Raises
    ------
    ValueError
        If there are fewer images than that, or a model would be trained on fewer than 2.

    Examples
    --------
    >>> four_subsets(1797, 100, 50, 50, 50)
    Subsets(S_S 100, S_C 50, S_I 50, S_E 50)
    """
    given = (shared, candidate, independent, external)
    if min(given) < 0:
        raise ValueError(f"sizes must not be negative, but got {given}.")
    # 1.0 means all images and 1 means one; the tiny addend keeps 0.29 * 100 at 29, not 28.
    sizes = [size if isinstance(size, int) else int(size * n + 1e-9) for size in given]
    if sum(sizes) > n:
        raise ValueError(
            f"the sets have {sum(sizes)} images together, and there are {n}; make them smaller."
        )
    if min(sizes[0] + sizes[1], sizes[0] + sizes[2]) < 2:
        raise ValueError(
            f"the sets have {tuple(sizes)} images; both models need at least 2 to train on."
        )
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    return Subsets(*order[: sum(sizes)].split(sizes))
