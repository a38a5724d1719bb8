"""The largest part of an image that no box touches: what the SSL déjà vu test is asked with."""

from __future__ import annotations

from collections.abc import Sequence

Box = tuple[int, int, int, int]


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
        On an image without pixels, or a box that ends before it begins.

    Examples
    --------
    >>> background_crop(300, 400, [(50, 0, 300, 250)])
    (0, 250, 300, 400)
    >>> background_crop(300, 400, [(50, 50, 250, 350)]) is None
    True
    """
    if height < 1 or width < 1:
        raise ValueError(f"the image is {height} × {width}; it needs at least one pixel.")
    cut = [_cut(box, height, width) for box in boxes]
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


def _longest_gap(taken: Sequence[tuple[int, int]], height: int) -> tuple[int, int]:
    """The longest run of rows that no interval touches."""
    best, start = (0, 0), 0
    for top, bottom in [*taken, (height, height)]:
        if top - start > best[1] - best[0]:
            best = (start, top)
        start = max(start, bottom)
    return best


def _cut(box: Box, height: int, width: int) -> Box:
    top, left, bottom, right = box
    if bottom < top or right < left:
        raise ValueError(f"box {box} ends before it begins; give (top, left, bottom, right).")
    return (
        min(max(top, 0), height),
        min(max(left, 0), width),
        min(max(bottom, 0), height),
        min(max(right, 0), width),
    )
