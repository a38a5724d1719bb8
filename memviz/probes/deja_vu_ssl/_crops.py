"""Crops of images without their object: the queries of the SSL déjà vu test."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from operator import index
from typing import Any

from torch import Tensor
from torch.nn.functional import interpolate

from memviz.checks import Count, checked, described, quoted

Box = tuple[int, int, int, int]
CORNERS = ("top left", "top right", "bottom left", "bottom right")


@checked
def background_crop(
    height: int, width: int, boxes: Sequence[Box], shortest: int = 100
) -> Box | None:
    """The largest rectangle outside all boxes whose shorter side is longer than ``shortest``.

    Parameters
    ----------
    height, width : int
        Of the image, in pixels.
    boxes : sequence of ``(top, left, bottom, right)``
        Bottom and right are exclusive; boxes are clipped to the image.
    shortest : int
        The authors require more than 100 pixels.

    Returns
    -------
    tuple of int or None
        ``(top, left, bottom, right)``; None if there is no such rectangle, so that the image is
        left out. Ties go to the leftmost, then to the topmost rectangle.

    Raises
    ------
    ValueError
        If the image has no pixels, or a box is not four integers or ends before it begins.

    Examples
    --------
    >>> background_crop(300, 400, [(50, 0, 300, 250)])
    (0, 250, 300, 400)
    >>> background_crop(300, 400, [(50, 50, 250, 350)]) is None
    True
    """
    _check_size(height, width)
    _check_boxes(boxes)
    clipped = [_clipped(box, f"box {row}", height, width) for row, box in enumerate(boxes)]
    inside = [(t, x0, b, x1) for t, x0, b, x1 in clipped if t < b and x0 < x1]
    edges = sorted({0, width, *(x for _, left, _, right in inside for x in (left, right))})
    largest, crop = 0, None
    for i, left in enumerate(edges):
        for right in edges[i + 1 :]:
            between = [(t, b) for t, x0, b, x1 in inside if x0 < right and left < x1]
            top, bottom = _longest_gap(sorted(between), height)
            area = (bottom - top) * (right - left)
            if min(bottom - top, right - left) > shortest and area > largest:
                largest, crop = area, (top, left, bottom, right)
    return crop


@checked
def corner_crop(height: int, width: int, fraction: float = 0.3, corner: str = "top left") -> Box:
    """A corner of the image, for images whose objects have no boxes.

    It may contain part of the object, so read the accuracy of the reference beside it.

    Parameters
    ----------
    height, width : int
        Of the image, in pixels.
    fraction : float
        Share of each side, above 0 and at most 1, rounded to whole pixels and at least one; the
        authors use 0.3.
    corner : {"top left", "top right", "bottom left", "bottom right"}

    Returns
    -------
    ``(top, left, bottom, right)``

    Raises
    ------
    ValueError
        If the image has no pixels, or the fraction or the corner is not allowed.

    Examples
    --------
    >>> corner_crop(200, 100)
    (0, 0, 60, 30)
    >>> corner_crop(200, 100, corner="bottom right")
    (140, 70, 200, 100)
    """
    _check_size(height, width)
    if not (isfinite(fraction) and 0 < fraction <= 1):
        raise ValueError(f"fraction is {fraction}; give one above 0 and at most 1.")
    if corner not in CORNERS:
        raise ValueError(f"corner is {quoted(corner)}; choose from {', '.join(CORNERS)}.")
    rows, columns = max(1, round(fraction * height)), max(1, round(fraction * width))
    top = height - rows if corner.startswith("bottom") else 0
    left = width - columns if corner.endswith("right") else 0
    return top, left, top + rows, left + columns


@checked
def crops(images: Tensor, boxes: Sequence[Box], size: tuple[Count, Count]) -> Tensor:
    """Crop one box from each image and resize it to the encoder's input size.

    Parameters
    ----------
    images : float ``[n, channels, height, width]``
    boxes : sequence of ``(top, left, bottom, right)``
        One per image.
    size : (int, int)
        Height and width of the result; resized bilinearly, with antialiasing.

    Returns
    -------
    ``[n, channels, *size]``, of the images' dtype, on their device.

    Raises
    ------
    ValueError
        If the images have another shape, their number differs from that of the boxes, or a box is
        not four integers or contains no pixel of its image. :func:`background_crop` returns None
        for an image without background: leave such images out.

    Examples
    --------
    >>> import torch
    >>> image = torch.arange(16.0).view(1, 1, 4, 4)
    >>> crops(image, [(2, 2, 4, 4)], (2, 2))
    tensor([[[[10., 11.],
              [14., 15.]]]])
    """
    if not isinstance(images, Tensor) or images.dim() != 4 or not images.is_floating_point():
        given = (
            f"{images.dtype} {list(images.shape)}"
            if isinstance(images, Tensor)
            else type(images).__name__
        )
        raise ValueError(
            f"images are {given}; expected a tensor of floats [n, channels, height, width]."
        )
    _check_boxes(boxes)
    if len(boxes) != len(images):
        raise ValueError(
            f"there are {len(boxes)} boxes for {len(images)} images; give one per image."
        )
    resized = images.new_empty(len(images), images.shape[1], *size)
    for row, box in enumerate(boxes):
        top, left, bottom, right = _clipped(box, f"the box of image {row}", *images.shape[2:])
        if top == bottom or left == right:
            raise ValueError(
                f"box {box} of image {row} contains no pixel of it; leave the image out."
            )
        crop = images[row : row + 1, :, top:bottom, left:right]
        resized[row] = interpolate(crop, size, mode="bilinear", antialias=True)[0]
    return resized


def _check_boxes(boxes: Any) -> None:
    if not hasattr(boxes, "__len__") or not hasattr(boxes, "__iter__"):
        raise ValueError(
            f"boxes is {described(boxes)}; give a list of (top, left, bottom, right), in pixels."
        )


def _check_size(height: int, width: int) -> None:
    if height < 1 or width < 1:
        raise ValueError(f"the image is {height} × {width}; it needs at least one pixel.")


def _longest_gap(taken: Sequence[tuple[int, int]], height: int) -> tuple[int, int]:
    """The longest run of rows that no interval covers."""
    best, start = (0, 0), 0
    for top, bottom in [*taken, (height, height)]:
        if top - start > best[1] - best[0]:
            best = (start, top)
        start = max(start, bottom)
    return best


def _clipped(box: Any, words: str, height: int, width: int) -> Box:
    try:
        top, left, bottom, right = map(index, box)
    except (TypeError, ValueError):
        raise ValueError(
            f"{words} is {quoted(box)}; give (top, left, bottom, right) in whole pixels, and "
            "leave out images without a box."
        ) from None
    if bottom < top or right < left:
        raise ValueError(f"{words}, {box}, ends before it begins; give (top, left, bottom, right).")
    return (
        min(max(top, 0), height),
        min(max(left, 0), width),
        min(max(bottom, 0), height),
        min(max(right, 0), width),
    )
