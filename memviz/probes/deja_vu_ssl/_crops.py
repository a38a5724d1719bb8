"""Parts of images without their object: what the SSL déjà vu test is asked with."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from operator import index
from typing import Any

from torch import Tensor
from torch.nn.functional import interpolate

Box = tuple[int, int, int, int]
CORNERS = ("top left", "top right", "bottom left", "bottom right")


def background_crop(
    height: int, width: int, boxes: Sequence[Box], shortest: int = 100
) -> Box | None:
    """The largest rectangle outside all boxes whose shorter side is longer than ``shortest``.

    Parameters
    ----------
    height, width : int
        Of the image, in pixels.
    boxes : sequence of ``(top, left, bottom, right)``
        Bottom and right are the first pixels outside; what lies beyond the image is cut off.
    shortest : int
        The authors ask for more than 100 pixels.

    Returns
    -------
    ``(top, left, bottom, right)``, or None where there is none: such images are left out. Of
    equally large ones the leftmost, then the topmost.

    Raises
    ------
    ValueError
        On an image without pixels, or a box that is not four whole numbers or ends before it
        begins.

    Examples
    --------
    >>> background_crop(300, 400, [(50, 0, 300, 250)])
    (0, 250, 300, 400)
    >>> background_crop(300, 400, [(50, 50, 250, 350)]) is None
    True
    """
    _check_size(height, width)
    cut = [_cut(box, f"box {row}", height, width) for row, box in enumerate(boxes)]
    inside = [(t, x0, b, x1) for t, x0, b, x1 in cut if t < b and x0 < x1]
    edges = sorted({0, width, *(x for _, left, _, right in inside for x in (left, right))})
    best, found = 0, None
    for i, left in enumerate(edges):
        for right in edges[i + 1 :]:
            between = [(t, b) for t, x0, b, x1 in inside if x0 < right and left < x1]
            top, bottom = _longest_gap(sorted(between), height)
            area = (bottom - top) * (right - left)
            if min(bottom - top, right - left) > shortest and area > best:
                best, found = area, (top, left, bottom, right)
    return found


def corner_crop(height: int, width: int, fraction: float = 0.3, corner: str = "top left") -> Box:
    """A corner of the image, for images whose objects have no boxes.

    It may hold a part of the object, so that the reference's accuracy is needed beside it.

    Parameters
    ----------
    height, width : int
        Of the image, in pixels.
    fraction : float
        Share of each side, above 0 and at most 1, rounded to whole pixels, at least one; the
        authors take 0.3.
    corner : "top left", "top right", "bottom left" or "bottom right"

    Returns
    -------
    ``(top, left, bottom, right)``

    Raises
    ------
    ValueError
        On an image without pixels, a fraction outside its range, or another corner.

    Examples
    --------
    >>> corner_crop(200, 100)
    (0, 0, 60, 30)
    >>> corner_crop(200, 100, corner="bottom right")
    (140, 70, 200, 100)
    """
    _check_size(height, width)
    if not (isfinite(fraction) and 0 < fraction <= 1):
        raise ValueError(f"fraction is {fraction}; use one above 0 and at most 1.")
    if corner not in CORNERS:
        raise ValueError(f"corner {corner!r} is not one of {', '.join(CORNERS)}.")
    rows, columns = max(1, round(fraction * height)), max(1, round(fraction * width))
    top = height - rows if corner.startswith("bottom") else 0
    left = width - columns if corner.endswith("right") else 0
    return top, left, top + rows, left + columns


def crops(images: Tensor, boxes: Sequence[Box], size: tuple[int, int]) -> Tensor:
    """Cut one part out of each image and bring it to the size that the encoder takes.

    Parameters
    ----------
    images : float ``[n, channels, height, width]``
    boxes : sequence of ``(top, left, bottom, right)``, one an image
    size : (int, int)
        Height and width of the result; bilinear, smoothed where it shrinks.

    Returns
    -------
    ``[n, channels, *size]``, of the images' dtype, on their device.

    Raises
    ------
    ValueError
        On images of another shape, another number of boxes, or a box that is not four whole numbers
        or has no pixel of its image. :func:`background_crop` gives None where there is no
        background: leave these images out.

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
            f"images are {given}; give a tensor of floats [n, channels, height, width]."
        )
    if len(boxes) != len(images):
        raise ValueError(f"there are {len(boxes)} boxes for {len(images)} images; give one each.")
    found = images.new_empty(len(images), images.shape[1], *size)
    for row, box in enumerate(boxes):
        top, left, bottom, right = _cut(box, f"the box of image {row}", *images.shape[2:])
        if top == bottom or left == right:
            raise ValueError(f"box {box} of image {row} has no pixel of it; leave the image out.")
        part = images[row : row + 1, :, top:bottom, left:right]
        found[row] = interpolate(part, size, mode="bilinear", antialias=True)[0]
    return found


def _check_size(height: int, width: int) -> None:
    if height < 1 or width < 1:
        raise ValueError(f"the image is {height} × {width}; it needs at least one pixel.")


def _longest_gap(taken: Sequence[tuple[int, int]], height: int) -> tuple[int, int]:
    """The longest run of rows that no interval touches."""
    best, start = (0, 0), 0
    for top, bottom in [*taken, (height, height)]:
        if top - start > best[1] - best[0]:
            best = (start, top)
        start = max(start, bottom)
    return best


def _cut(box: Any, words: str, height: int, width: int) -> Box:
    try:
        top, left, bottom, right = map(index, box)
    except (TypeError, ValueError):
        raise ValueError(
            f"{words} is {box!r}; a box is (top, left, bottom, right) in whole pixels: round "
            "fractions, and leave images without a box out."
        ) from None
    if bottom < top or right < left:
        raise ValueError(f"{words}, {box}, ends before it begins; give (top, left, bottom, right).")
    return (
        min(max(top, 0), height),
        min(max(left, 0), width),
        min(max(bottom, 0), height),
        min(max(right, 0), width),
    )
