"""The four subsets of a pair of encoders: who saw which image."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

NAMES = {"shared": "S_S", "candidate": "S_C", "independent": "S_I", "external": "S_E"}


@dataclass(frozen=True, eq=False)
class Subsets:
    """Indices of the images that target f, reference g, both or neither were trained on.

    Wang et al. 2024 (arXiv:2409.19069), section 4: LayerMem of the candidates is read beside that
    of the other three, which is its null.

    Attributes
    ----------
    shared, candidate, independent, external : int64
        S_S in the training of f and g, S_C of f only, S_I of g only, S_E of neither. A set may be
        empty; no image is in two of them.

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
        for one in fields(self):
            given = torch.as_tensor(list(getattr(self, one.name)), dtype=torch.int64)
            object.__setattr__(self, one.name, given)
        if not len(self.candidate):
            raise ValueError(
                "there is no candidate (S_C); name the images that the target alone was trained on."
            )
        every = torch.cat(list(self.named().values()))
        found, times = every.unique(return_counts=True)
        if bool((times > 1).any()):
            raise ValueError(
                f"image {int(found[times > 1][0])} is in two sets (or twice in one); an image is "
                "in one set, once."
            )
        if int(found[0]) < 0:
            raise ValueError(f"image {int(found[0])} is negative; images count from 0.")

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
        found = {short: getattr(self, name) for name, short in NAMES.items()}
        return {short: images for short, images in found.items() if len(images)}

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
        Images each, or shares of ``n``: whole numbers are counts, others shares. 80, 10 and 10 %
        of the training images are the paper's; its external images come from the test set.
    seed : int
        The global generator is not touched.

    Raises
    ------
    ValueError
        If there are not so many images, or fewer than 2 are for a training.

    Examples
    --------
    >>> four_subsets(1797, 100, 50, 50, 50)
    Subsets(S_S 100, S_C 50, S_I 50, S_E 50)
    """
    asked = (shared, candidate, independent, external)
    if min(asked) < 0:
        raise ValueError(f"sizes must not be negative, but got {asked}.")
    # A share of 1.0 is all images, the count 1 is one.
    sizes = [one if isinstance(one, int) else int(one * n + 1e-9) for one in asked]
    if sum(sizes) > n:
        raise ValueError(f"the sets have {sum(sizes)} images together, and there are {n}.")
    if min(sizes[0] + sizes[1], sizes[0] + sizes[2]) < 2:
        raise ValueError(
            f"the sets have {tuple(sizes)} images; each of the two trainings needs at least 2."
        )
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    return Subsets(*order[: sum(sizes)].split(sizes))
