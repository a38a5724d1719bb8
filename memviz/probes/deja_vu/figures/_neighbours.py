"""A caption's neighbours as pictures, under target and under reference."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from memviz.plots import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

# Colour-blind safe, and never without a mark: a label of the picture, and one that is not.
OWN, OTHER = ("#D55E00", "●"), ("#0072B2", "○")


class Nearest(Protocol):
    """What the figure reads of the neighbours of ``n`` captions."""

    @property
    def ids(self) -> Tensor:
        """Rows of public images, nearest first, int64 ``[n, k]``."""


class Side(Protocol):
    """What the figure reads of one model."""

    @property
    def neighbours(self) -> Nearest:
        """Of each caption among the public images."""

    @property
    def recall(self) -> Tensor:
        """Of each pair, float64 ``[n]``."""


class TwoModels(Protocol):
    """What the figure reads of a test of ``n`` pairs with ``m`` public images."""

    @property
    def names(self) -> tuple[str, str]:
        """What target and reference are called."""

    @property
    def target(self) -> Side:
        """The model that was trained on the pairs."""

    @property
    def reference(self) -> Side:
        """The model that was not."""

    @property
    def k(self) -> int:
        """Neighbours of each caption."""

    @property
    def objects(self) -> Tensor:
        """Which objects each pair's picture shows, bool ``[n, objects]``."""

    @property
    def public_objects(self) -> Tensor:
        """The same of the public images, bool ``[m, objects]``."""


def neighbours(
    result: TwoModels,
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
    result : DejaVu
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
    shown = min(shown, result.k)
    figure = style.figure(1.45 * (shown + 1), 4.8)
    grid = figure.subplots(4, shown + 1, squeeze=False, height_ratios=[3, 2, 3, 2])
    for axes in grid.flat:
        axes.set_axis_off()
    figure.suptitle(
        textwrap.fill(caption, 16 * (shown + 1)), fontsize=9, x=0.01, ha="left", parse_math=False
    )
    own = result.objects[row]
    _image(grid[:2, 0], picture, own, own, object_names)
    sides = (result.target, result.reference)
    for line, name, side in zip((0, 2), result.names, sides, strict=True):
        for place in range(shown):
            image = int(side.neighbours.ids[row, place])
            panels = grid[line : line + 2, place + 1]
            _image(panels, public[image], result.public_objects[image], own, object_names)
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
