"""LayerMem of features that somebody else has computed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from memviz.checks import checked, quoted
from memviz.data.subsets import Subsets

from ._alignment import (
    Compare,
    alignment,
    check_finite,
    check_indices,
    measure_words,
    memorized,
)
from ._layer_mem import LayerMem, summed
from ._path import Point


@checked
def layer_mem_from_features(
    target: Mapping[str, Tensor],
    reference: Mapping[str, Tensor],
    subsets: Subsets,
    *,
    unit_norm: bool = True,
    compare: Compare = "views",
) -> LayerMem:
    """LayerMem of one pair of encoders from their features; :func:`layer_mem` says what it means.

    Combine several pairs with :func:`pooled`.

    Parameters
    ----------
    target, reference : mapping of layer to float ``[images, views, ...]``
        Features of f and of g on the same views, layer by layer along the data path: Delta LayerMem
        compares each with the one before. Axes after the views are flattened.
    subsets : Subsets
        Indices of images.
    unit_norm : bool
        As for :func:`ssl_mem`.
    compare : {"views", "clean"}
        All pairs of views, or the first view, the image without augmentation, with each other one.

    Raises
    ------
    ValueError
        If there is no layer, the two differ in layers or shapes, there are fewer than 2 views, the
        subsets name an image that is not there, or features are NaN or infinite.

    Examples
    --------
    >>> f = {"fc": torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]])}
    >>> g = {"fc": torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]])}
    >>> result = layer_mem_from_features(f, g, Subsets([1], [0], [], []))
    >>> result.mean("S_C"), result.mean("S_S")
    (array([1.]), array([0.]))
    """
    _check_features(target, reference, compare)
    chosen = torch.cat(list(subsets.named().values()))
    check_indices(chosen, next(iter(target.values())))
    of_f, of_g = (
        {
            name: alignment(rows.flatten(2), unit_norm=unit_norm, compare=compare)
            for name, rows in _chosen(features, chosen).items()
        }
        for features in (target, reference)
    )
    names = list(target)
    points = tuple(
        Point(name, "features", k, names[k - 1] if k else None) for k, name in enumerate(names)
    )
    table = np.stack([memorized(of_f[name], of_g[name]).numpy() for name in names])
    words = measure_words(unit_norm, compare)
    return summed(points, table[None], subsets, f"mean normalised SSLMem, {words}")


def _chosen(features: Mapping[str, Tensor], chosen: Tensor) -> dict[str, Tensor]:
    rows = {name: given.detach().cpu()[chosen] for name, given in features.items()}
    check_finite(rows, chosen)
    return rows


def _check_features(
    target: Mapping[str, Tensor], reference: Mapping[str, Tensor], compare: Compare
) -> None:
    """Refuse features of f and g that cannot be compared."""
    if compare not in ("views", "clean"):
        raise ValueError(f"compare is {quoted(compare)}; use 'views' or 'clean'.")
    if not target or list(target) != list(reference):
        raise ValueError(
            f"the target has the layers {list(target)} and the reference {list(reference)}; give "
            "both the same ones, at least one, in the order of the data path."
        )
    images = len(next(iter(target.values())))
    for name, rows in target.items():
        shape, other = tuple(rows.shape), tuple(reference[name].shape)
        if shape != other or len(shape) < 3 or len(rows) != images or shape[1] < 2:
            raise ValueError(
                f"features at {quoted(name)} have shape {shape} for the target and {other} for the "
                "reference; give both floats [images, views, ...], with the same images in all "
                "layers and at least 2 views."
            )
