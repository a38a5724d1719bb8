"""A caption's neighbours as pictures, under target and under reference."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from memviz.plots import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from .._table import DejaVu

# Colour-blind safe, and never without a mark: a label of the picture, and one that is not.
OWN, OTHER = ("#D55E00", "●"), ("#0072B2", "○")


def neighbours(
    found: DejaVu,
    row: int,
    picture: np.ndarray,
    public: Sequence[np.ndarray] | Mapping[int, np.ndarray] | np.ndarray,
    object_names: Sequence[str],
    caption: str = "",
    shown: int = 5,
) -> Figure:
    """A pair's picture, and the nearest public images under target and under reference.

    Objects that the picture has too are marked ● and orange, others ○ and blue.

    Parameters
    ----------
    found : DejaVu
    row : int
        Of the pair.
    picture : image ``[h, w]`` or ``[h, w, 3]``
    public : images of the public set, by row; those of the neighbours are enough
    object_names : sequence of str
    caption : str
        Set as text, whatever it holds.
    shown : int
        Neighbours, at most k.
    """
    shown = min(shown, found.k)
    figure = style.figure(1.45 * (shown + 1), 4.8)
    grid = figure.subplots(4, shown + 1, squeeze=False, height_ratios=[3, 2, 3, 2])
    for axes in grid.flat:
        axes.set_axis_off()
    figure.suptitle(
        textwrap.fill(caption, 16 * (shown + 1)), fontsize=9, x=0.01, ha="left", parse_math=False
    )
    own = found.objects[row]
    _image(grid[:2, 0], picture, own, own, object_names)
    for line, name, side in zip((0, 2), found.names, (found.target, found.reference), strict=True):
        for place in range(shown):
            image = int(side.neighbours.ids[row, place])
            panels = grid[line : line + 2, place + 1]
            _image(panels, public[image], found.public_objects[image], own, object_names)
        words = f"{name}: recall {float(side.recall[row]):.2f}"
        title = grid[line, 1].set_title(words, fontsize=8, loc="left", parse_math=False)
        title.set_in_layout(False)  # it runs on over the next pictures
    return figure


def _image(
    panels: np.ndarray, image: np.ndarray, objects: Tensor, own: Tensor, names: Sequence[str]
) -> None:
    """A picture, and below it what it shows."""
    panels[0].imshow(image, cmap="gray_r" if np.ndim(image) == 2 else None)
    for line, index in enumerate(objects.nonzero()[:, 0].tolist()):
        colour, mark = OWN if bool(own[index]) else OTHER
        words = textwrap.shorten(names[index], 20, placeholder="…")
        text = panels[1].text(0, 1 - 0.17 * line, f"{mark} {words}", color=colour, fontsize=6.5)
        text.set(va="top", transform=panels[1].transAxes, parse_math=False, in_layout=False)
