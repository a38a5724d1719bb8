"""The workbench as a still picture, for notebooks without a kernel."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from memviz.engine.sets import percent
from memviz.plots import style
from memviz.plots.style import NULL, group_style
from memviz.units import layer_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from memviz.units import Layer

_BLUE = (0.2, 0.42, 0.72)  # more of it, as far from a white page as from a dark one


class Reading(Protocol):
    """What the picture reads of a group's accuracy."""

    @property
    def accuracy(self) -> float:
        """Share of the examples predicted right."""

    @property
    def low(self) -> float:
        """Lower end of its 95 % interval."""

    @property
    def high(self) -> float:
        """Upper end of its 95 % interval."""


class Group(Protocol):
    """What the picture reads of a group."""

    @property
    def before(self) -> Reading:
        """With no unit ablated."""

    @property
    def after(self) -> Reading:
        """With the units ablated."""


class Readout(Protocol):
    """What the picture reads of an ablation."""

    @property
    def sentence(self) -> str:
        """What changed, in words."""

    @property
    def groups(self) -> Mapping[str, Group]:
        """The groups, by name."""

    @property
    def random(self) -> Mapping[str, np.ndarray]:
        """By group, ``[draws, 2]``: accuracy and margin with as many random units ablated."""


class Example(NamedTuple):
    """One example of the row below: its picture ``[h, w, channels]``, uint8, and words."""

    picture: np.ndarray
    words: str
    group: str


def picture(
    layers: list[Layer],
    values: np.ndarray,
    off: np.ndarray,
    readout: Readout,
    measure: str = "",
    examples: Sequence[Example] = (),
    *,
    ink: bool = False,
) -> Figure:
    """Unit maps of the layers (light to dark by value, × where ablated), accuracies, examples.

    Parameters
    ----------
    layers : list of Layer
    values : float ``[units]``
        Of all layers in order; NaN where unknown.
    off : bool ``[units]``
        Which units are ablated.
    readout : Readout
    measure : str
        Of the values, in words.
    examples : sequence of Example
    ink : bool
        Whether the pictures are strokes on an empty ground.
    """
    shown = layers[:12]
    figure = style.figure(9, 5.1 if examples else 4.1)
    figure.set_layout_engine("none")  # drawn anew while someone clicks: no time to solve a layout
    height = figure.get_figheight()

    def area(left: float, top: float, width: float, tall: float) -> Axes:
        """Axes at a place in inches from the upper left corner."""
        return figure.add_axes((left / 9, 1 - (top + tall) / height, width / 9, tall / height))

    words: dict[str, Any] = {"ha": "left", "va": "top", "parse_math": False}
    figure.text(0.01, 1 - 0.05 / height, readout.sentence, fontsize=9, **words)
    if measure:
        figure.text(0.01, 1 - 2.35 / height, f"Bluer: more {measure}.", fontsize=7, **words)
    highest = float(np.nanmax(values)) if np.isfinite(values).any() else 1.0
    start, width, words_of = 0, 8.8 / len(shown), layer_words(layers)
    for place, layer in enumerate(shown):
        stop = start + layer.units
        axes = area(0.1 + place * width, 0.55, 0.92 * width, 1.7)
        _map(axes, layer, values[start:stop], off[start:stop], max(highest, 1e-12))
        title = f"{words_of[layer.name].layer} · {layer.units}"
        # A letter is about a 16th of an inch wide, and there is room for three lines.
        lines = textwrap.wrap(title, max(int(14 * width), 8))[:3]
        axes.set_title("\n".join(lines), fontsize=7.5, loc="left", parse_math=False)
        start = stop
    _accuracies(area(1.8, 2.8, 7.1, 1.0), readout)
    if examples:
        _examples(area(0.1, 4.1, 8.8, 1.0), examples, ink=ink)
    return figure


def _examples(axes: Axes, examples: Sequence[Example], *, ink: bool) -> None:
    for place, (pixels, words, group) in enumerate(examples):
        if ink:  # the strokes alone, which show on any ground
            shown = np.full((*pixels.shape[:2], 4), 0.5)
            shown[..., 3] = pixels[..., 0] / 255
        else:
            shown = np.broadcast_to(pixels, (*pixels.shape[:2], 3))
        axes.imshow(shown, extent=(place, place + 0.8, 0.8, 0))
        look: dict[str, Any] = {"fontsize": 7, "color": group_style(group)["color"], "va": "bottom"}
        axes.text(place, -0.06, words, parse_math=False, **look)
    axes.set(xlim=(0, max(len(examples), 12)), ylim=(0.8, -0.5))
    axes.set_axis_off()


def _map(axes: Axes, layer: Layer, values: np.ndarray, off: np.ndarray, top: float) -> None:
    columns = int(np.ceil(np.sqrt(layer.units)))
    rows = -(-layer.units // columns)
    cells = np.zeros((rows * columns, 4))  # nothing where there is no unit
    cells[: layer.units] = (0.5, 0.5, 0.5, 0.15)
    known = np.flatnonzero(np.isfinite(values))
    share = np.sqrt(np.clip(values[known], 0, None) / top)[:, None]
    cells[known] = np.hstack([np.broadcast_to(_BLUE, (len(known), 3)), 0.12 + 0.88 * share])
    drawn = np.kron(cells.reshape(rows, columns, 4), np.ones((8, 8, 1)))
    drawn[::8], drawn[:, ::8] = 0, 0  # a gap between two cells
    axes.imshow(drawn, extent=(-0.5, columns - 0.5, rows - 0.5, -0.5), interpolation="nearest")
    units = np.flatnonzero(off)
    axes.plot(units % columns, units // columns, "x", color="#D55E00", ms=4, mew=1.4)
    axes.set_anchor("NW")
    axes.set_axis_off()


def _accuracies(axes: Axes, readout: Readout) -> None:
    names = list(readout.groups)
    for place, name in enumerate(names):
        group, look = readout.groups[name], group_style(name)
        axes.plot([group.before.accuracy, group.after.accuracy], [place] * 2, lw=1, c=look["color"])
        axes.plot(
            [group.after.low, group.after.high], [place] * 2, lw=5, alpha=0.3, c=look["color"]
        )
        axes.plot(group.before.accuracy, place, mfc="white", ms=7, ls="", **look)
        axes.plot(group.after.accuracy, place, ms=7, ls="", **look)
        if name in readout.random:
            draws = readout.random[name][:, 0]
            axes.plot(np.percentile(draws, [2.5, 97.5]), [place + 0.3] * 2, lw=3, alpha=0.4, c=NULL)
            axes.plot(draws.mean(), place + 0.3, "D", color=NULL, ms=4)
    words = [
        f"{n}  {percent(g.before.accuracy)} → {percent(g.after.accuracy)}"
        for n, g in readout.groups.items()
    ]
    axes.set_yticks(range(len(names)), words, fontsize=8, parse_math=False)
    axes.set(xlim=(-0.02, 1.02), ylim=(len(names) - 0.4, -0.6))
    null = ", ◆ random units of the same layers" if readout.random else ""
    axes.set_title(f"Accuracy: ○ before, filled after, bar: interval{null}", fontsize=8, loc="left")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(labelsize=8)
