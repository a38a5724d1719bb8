"""The nearest-neighbour test of memorization, which looks at samples and not at the density."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from memviz.checks import Count, checked
from memviz.engine.search import nearest

if TYPE_CHECKING:
    import pandas as pd


@checked
def nearest_ratio(
    images: Tensor, held_out: Tensor, generated: Tensor, *, halve: bool = False
) -> Tensor:
    """Distance of each image to the nearest held-out one, over that to the nearest generated one.

    ``ρ_i = min_v d(x_i, v) / min_s d(x_i, s)``: above 1, the image is nearer to a sample of the
    model than to real images that were not trained on. With as many generated as held-out images,
    or the larger set is nearer by its size alone.

    Parameters
    ----------
    images : ``[n, ...]``
    held_out, generated : ``[m, ...]``
    halve : bool
        Average over 2 × 2 pixels first, as the paper does for photographs.

    Returns
    -------
    float64 ``[n]``
        inf where an image was generated exactly.

    Raises
    ------
    ValueError
        If images are of different shapes, or there are more of one than of the other.

    Examples
    --------
    >>> images = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    >>> nearest_ratio(images, torch.tensor([[2.0, 1.0]]), torch.tensor([[1.0, 3.0]]))
    tensor([0.7071, 0.5000], dtype=torch.float64)
    """
    if len(held_out) != len(generated):
        raise ValueError(
            f"there are {len(held_out)} held-out images and {len(generated)} generated ones; give "
            "equally many."
        )
    distances = [
        neighbours(images, others, 1, halve=halve)["distance"].to_numpy()
        for others in (held_out, generated)
    ]
    near, far = (torch.from_numpy(distance.copy()) for distance in distances)
    return near / far


@checked
def neighbours(
    images: Tensor,
    among: Tensor,
    k: Count = 4,
    *,
    skip: Tensor | None = None,
    halve: bool = False,
) -> pd.DataFrame:
    """The k nearest of other images to each image, Euclidean, exactly.

    Parameters
    ----------
    images : ``[n, ...]``
    among : ``[m, ...]``
    k : int
    skip : int64 ``[n]``, optional
        For each image, the one of ``among`` that is the image itself; -1 for none.
    halve : bool
        Average over 2 × 2 pixels first.

    Returns
    -------
    pandas.DataFrame
        Columns ``image``, ``rank``, ``neighbour`` and ``distance``, image by image and the nearest
        first; equally near ones by their number.

    Raises
    ------
    ValueError
        If the images differ in shape, or there are too few.

    Examples
    --------
    >>> images = torch.tensor([[0.0], [1.0], [5.0]])
    >>> neighbours(images, images, 1, skip=torch.arange(3))["neighbour"].tolist()
    [1, 0, 1]
    """
    import pandas as pd

    if images.shape[1:] != among.shape[1:]:
        raise ValueError(
            f"the images have shape {tuple(images.shape[1:])} and those to search "
            f"{tuple(among.shape[1:])}; give the same."
        )
    if skip is not None and (skip.shape != (len(images),) or skip.dtype != torch.int64):
        raise ValueError(
            f"skip is {skip.dtype} of shape {tuple(skip.shape)}; give the number of each image "
            f"among those to search, int64 [{len(images)}], or -1."
        )
    more = k if skip is None else k + 1
    if more > len(among):
        raise ValueError(f"k is {k} and there are {len(among)} images to search; give fewer.")
    found = nearest(_flat(images, halve), _flat(among, halve), more, measure="euclidean")
    ids, values = found.ids, found.values
    if skip is not None:
        # Twins are as near as the image itself, so that it need not come first.
        itself = ids == skip[:, None]
        itself[~itself.any(1), -1] = True
        keep = ~itself
        ids, values = ids[keep].view(len(images), k), values[keep].view(len(images), k)
    ranks = torch.arange(len(images) * k)
    return pd.DataFrame(
        {
            "image": (ranks // k).numpy(),
            "rank": (ranks % k).numpy(),
            "neighbour": ids.flatten().numpy(),
            "distance": values.flatten().numpy(),
        }
    )


def _flat(images: Tensor, halve: bool) -> Tensor:
    images = images.float()
    if not halve:
        return images.flatten(1)
    if images.dim() < 3:
        raise ValueError(f"rows of {tuple(images.shape[1:])} can't be halved; give images.")
    return avg_pool2d(images.view(len(images), -1, *images.shape[-2:]), 2).flatten(1)
