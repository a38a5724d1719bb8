"""Colours and marks shared by figures and widgets."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe-Ito, each with its own mark: colour is never alone.
COLOURS = {"memorized": "#D55E00", "clean": "#0072B2", "test": "#00805E"}
MARKS = {"memorized": "o", "clean": "s", "test": "^"}
NULL = "#9A9A9A"
OTHER = ("#4A4A4A", "D")
_INK = "#797979"  # 4.3:1 on white and on the dark theme's ground


def figure(width: float, height: float) -> Figure:
    """An empty figure that a notebook draws by itself, whether pyplot is imported or not."""
    from matplotlib.figure import Figure

    class NotebookFigure(Figure):
        def _repr_png_(self) -> bytes:
            return png(self, dpi=120)

    return NotebookFigure(figsize=(width, height), layout="constrained")


def png(figure: Figure, dpi: int) -> bytes:
    """The figure for a page whose theme nobody knows: no ground, and ink that shows on any."""
    out = io.BytesIO()
    with _neutral(figure):
        figure.savefig(out, format="png", dpi=dpi)
    return out.getvalue()


@contextmanager
def _neutral(figure: Figure) -> Iterator[None]:
    """Black ink in grey, and no white ground; a figure in a style of the user's own is left."""
    from matplotlib.colors import same_color

    undo = []

    def put(artist: Any, name: str, old: str, new: Any) -> None:
        known = getattr(artist, f"get_{name}")()
        if isinstance(known, str | tuple) and same_color(known, old):
            undo.append((artist, name, known))
            getattr(artist, f"set_{name}")(new)

    if same_color(figure.get_facecolor(), "white") and not is_dark():
        on_images = {text for axes in figure.axes if axes.images for text in axes.texts}
        for artist in figure.findobj():
            if artist in on_images:
                continue
            for name in ("color", "edgecolor", "markeredgecolor"):
                if hasattr(artist, f"get_{name}"):
                    put(artist, name, "black", _INK)
        for ground in (figure, *figure.axes):
            put(ground, "facecolor", "white", "none")
    try:
        yield
    finally:
        for artist, name, known in reversed(undo):
            getattr(artist, f"set_{name}")(known)


def group_style(name: str) -> dict[str, Any]:
    """Colour and mark of a group's line."""
    return {"color": COLOURS.get(name, OTHER[0]), "marker": MARKS.get(name, OTHER[1])}


def legend(
    drawn: Axes | Figure, *handles_and_labels: Any, fontsize: float = 8, **look: Any
) -> None:
    """A legend without a box, whose labels are plain text: a dollar sign is no mathematics.

    Unless a place is given, that of a plot stands at its right, where it covers no data; the
    figure is as much wider.
    """
    whole: Any = drawn.figure  # a figure's own is itself
    beside = drawn is not whole and hasattr(whole, "set_figwidth") and "loc" not in look
    if beside:
        look |= {"loc": "center left", "bbox_to_anchor": (1.0, 0.5), "handlelength": 1.6}
    made = drawn.legend(*handles_and_labels, frameon=False, fontsize=fontsize, **look)
    for text in made.get_texts():
        text.set_parse_math(False)
    if beside:
        longest = max((len(text.get_text()) for text in made.get_texts()), default=0)
        whole.set_figwidth(whole.get_figwidth() + 0.6 + 0.008 * fontsize * longest)


def is_dark() -> bool:
    """Whether figures are drawn on a dark background."""
    from matplotlib import rcParams
    from matplotlib.colors import to_rgb

    return sum(to_rgb(rcParams["text.color"])) > 1.5


def quiet(axes: Axes) -> None:
    """No box and a light grid: the data are the loudest marks."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
