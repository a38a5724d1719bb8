"""UnitMem and ClassMem of activations that somebody else has computed."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from memviz.checks import Seed, checked, quoted
from memviz.engine.activations import tie_order

from ._peaks import Others, Peaks, means_of, peaks_of


@checked
def unit_mem_from_activations(
    activations: Tensor,
    *,
    others: Others = "mean",
    negative: Literal["abs", "refuse"] = "abs",
    seed: Seed = 0,
) -> Peaks:
    """UnitMem of plain activations; :func:`unit_mem` says what it means.

    Parameters
    ----------
    activations : float ``[images, views, units, positions]``
        More axes of positions may follow; an axis may have size 1, for a single view, say.
    others, negative
        As for :func:`unit_mem`.
    seed : int
        Draws the owner of a unit where images tie.

    Returns
    -------
    Peaks
        ``ratio`` is UnitMem, float64 ``[units]``, NaN for a dead unit; ``owner`` counts the images
        from 0.

    Raises
    ------
    ValueError
        If there are fewer than 4 axes or 2 images, an axis is empty, an activation is NaN or
        infinite, or one is negative and ``negative="refuse"``.

    Examples
    --------
    >>> activations = torch.zeros(5, 2, 3, 4)
    >>> activations[3, :, 1] = 2.0
    >>> activations[:, :, 2] = 1.0
    >>> found = unit_mem_from_activations(activations)
    >>> found.ratio, found.owner[1]
    (tensor([nan, 1., 0.], dtype=torch.float64), tensor(3))
    """
    table, below = _of_images(activations, others, negative)
    if len(table) < 2:
        raise ValueError(f"UnitMem compares images; give at least 2, not {len(table)}.")
    return peaks_of(table, tie_order(len(table), seed), below, others=others)


@checked
def class_mem_from_activations(
    activations: Tensor,
    labels: Tensor,
    *,
    others: Others = "mean",
    negative: Literal["abs", "refuse"] = "abs",
    seed: Seed = 0,
) -> Peaks:
    """ClassMem of plain activations, on test images class selectivity; see :func:`class_mem`.

    Parameters
    ----------
    activations : float ``[images, views, units, positions]``
        As for :func:`unit_mem_from_activations`.
    labels : int64 ``[images]``
        The class of each image.
    others : {"mean", "median"}
        How to average over the other classes.
    negative
        As for :func:`unit_mem`.
    seed : int
        Draws the owner of a unit where classes tie.

    Returns
    -------
    Peaks
        ``ratio`` is ClassMem, float64 ``[units]``; ``owner`` is the label of a class.

    Raises
    ------
    ValueError
        As for :func:`unit_mem_from_activations`, or if labels are not whole numbers, one per image,
        of at least 2 classes.

    Examples
    --------
    >>> labels = torch.tensor([7, 9, 7, 9])
    >>> activations = (labels == 9).float()[:, None, None, None]
    >>> found = class_mem_from_activations(activations, labels)
    >>> found.ratio, found.owner
    (tensor([1.], dtype=torch.float64), tensor([9]))
    """
    table, below = _of_images(activations, others, negative)
    given = torch.as_tensor(labels).cpu()
    if given.shape != (len(table),) or given.is_floating_point() or given.dtype == torch.bool:
        raise ValueError(
            f"labels is {given.dtype} of shape {tuple(given.shape)} for {len(table)} images; give "
            "a whole number per image."
        )
    classes, numbered = given.unique(return_inverse=True)
    if len(classes) < 2:
        raise ValueError("ClassMem compares classes; give images of at least two.")
    sums = torch.zeros(len(classes), table.shape[1], dtype=torch.float64)
    means = means_of(sums.index_add_(0, numbered, table), numbered)
    found = peaks_of(means, tie_order(len(classes), seed), below, others=others)
    owner = torch.where(found.owner < 0, found.owner, classes[found.owner.clamp(min=0)])
    return Peaks(found.largest, found.others, owner, found.negative)


def _of_images(activations: Tensor, others: str, negative: str) -> tuple[Tensor, Tensor]:
    """Absolute means over views and positions, float64 ``[images, units]``; units below 0."""
    if others not in ("mean", "median") or negative not in ("abs", "refuse"):
        raise ValueError(
            f"others is {quoted(others)} and negative {quoted(negative)}; use 'mean' or "
            "'median', and 'abs' or 'refuse'."
        )
    shape = tuple(activations.shape)
    if len(shape) < 4 or not activations.is_floating_point() or 0 in shape:
        raise ValueError(
            f"activations is {activations.dtype} of shape {shape}; give floats [images, views, "
            "units, positions], with size 1 for an axis there is nothing on."
        )
    means = activations.detach().mean([1, *range(3, len(shape))], dtype=torch.float64).cpu()
    bad = ~means.isfinite()
    if bool(bad.any()):
        image, unit = bad.nonzero()[0].tolist()
        raise ValueError(f"unit {unit} is NaN or infinite on image {image}; leave that image out.")
    below = (means < 0).any(0)
    if negative == "refuse" and bool(below.any()):
        raise ValueError(
            f"unit {int(below.nonzero()[0])} has negative activations, for which the ratio is not "
            "defined; leave it out, or take absolute values with negative='abs'."
        )
    return means.abs(), below
