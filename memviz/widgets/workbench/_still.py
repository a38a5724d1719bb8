"""The workbench as a still picture, for notebooks without a kernel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np

from memviz.plots import style
from memviz.plots.style import NULL, group_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from memviz.units import Layer


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


def picture(layers: list[Layer], values: np.ndarray, off: np.ndarray, readout: Readout) -> Figure:
    """Unit maps of the layers (white to dark by value, × where ablated) over the accuracies.

    Parameters
    ----------
    layers : list of Layer
    values : float ``[units]``
        Of all layers in order; NaN where unknown.
    off : bool ``[units]``
        Which units are ablated.
    readout : Readout
    """
    shown = layers[:12]
    figure = style.figure(9, 3.8)
    grid = figure.add_gridspec(2, len(shown), height_ratios=[1.5, 1])
    maps = [figure.add_subplot(grid[0, column]) for column in range(len(shown))]
    top = float(np.nanmax(values)) if np.isfinite(values).any() else 1.0
    start = 0
    for axes, layer in zip(maps, shown, strict=True):
        stop = start + layer.units
        _map(axes, layer, values[start:stop], off[start:stop], max(top, 1e-12))
        start = stop
    _accuracies(figure.add_subplot(grid[1, :]), readout)
    return figure


def _map(axes: Axes, layer: Layer, values: np.ndarray, off: np.ndarray, top: float) -> None:
    columns = int(np.ceil(np.sqrt(layer.units)))
    rows = -(-layer.units // columns)
    cells = np.full(rows * columns, np.nan)
    cells[: layer.units] = np.sqrt(np.clip(values, 0, None) / top)
    axes.imshow(cells.reshape(rows, columns), cmap="cividis_r", vmin=0, vmax=1)
    units = np.flatnonzero(off)
    axes.plot(units % columns, units // columns, "x", color="#D55E00", ms=4, mew=1.4)
    axes.set_title(f"{layer.name} · {layer.units}", fontsize=8, loc="left", parse_math=False)
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
            axes.plot(readout.random[name][:, 0].mean(), place + 0.3, "D", color=NULL, ms=4)
    words = [
        f"{n}  {g.before.accuracy:.2f} → {g.after.accuracy:.2f}" for n, g in readout.groups.items()
    ]
    axes.set_yticks(range(len(names)), words, fontsize=8, parse_math=False)
    axes.set(xlim=(-0.02, 1.02), ylim=(len(names) - 0.4, -0.6))
    axes.set_title(readout.sentence, fontsize=9, loc="left", parse_math=False)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(labelsize=8)
