"""The playground as a still picture, for notebooks without a kernel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from memviz.plots import style

from ._beside import DRAWN, Beside, window
from ._network import Network
from ._reading import Reading

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _MOVED, _SAYS = "#35456C", "#C4570A", ("#FFFFFF00", "#CBC4A3", "#9A9A9A60")


def still(network: Network, reading: Reading, compared: Mapping[str, Beside]) -> Figure:
    """The function along the line, and the decision regions of the methods below it.

    Parameters
    ----------
    network : Network
    reading : Reading
    compared : mapping of method to Beside
    """
    drawn = [compared[m] for m in DRAWN if m in compared and compared[m].regions is not None]
    figure = style.figure(9, 4.8 if drawn else 2.8)
    rows = figure.subfigures(2 if drawn else 1, 1, squeeze=False)[:, 0]
    axes = rows[0].subplots()
    axes.plot(network.along, reading.line_before, color=style.NULL, lw=1, label="before")
    if reading.units:
        axes.plot(network.along, reading.line_after, color=_INK, lw=1.2, label="after")
    moved = reading.moved.numpy()
    places, after = network.places.numpy(), reading.after.numpy()
    axes.plot(places[~moved], after[~moved], "o", color=_INK, ms=4)
    axes.plot(places[moved], after[moved], "o", color=_MOVED, ms=4, label="moved")
    low, high = min(-1.2, float(after.min()) - 0.2), max(1.2, float(after.max()) + 0.2)
    axes.set_ylim(low, high)
    axes.set_title("output along u · x", fontsize=9, loc="left")
    axes.tick_params(labelsize=7)
    style.quiet(axes)
    style.legend(axes, fontsize=7)
    if drawn:
        panels = rows[1].subplots(1, len(drawn), squeeze=False)[0]
        for panel, found in zip(panels, drawn, strict=True):
            _regions(panel, network, found)
    return figure


def _regions(axes: Axes, network: Network, found: Beside) -> None:
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Circle

    assert found.regions is not None
    points, ends = network.points, window(network.points)
    axes.imshow(
        found.regions, ListedColormap(list(_SAYS)), vmin=0, vmax=2, origin="lower", extent=ends
    )
    x, up = points.inputs.numpy(), points.signs.numpy() > 0
    look: dict[str, Any] = {"s": 10, "edgecolors": "0.2", "linewidths": 0.7, "zorder": 3}
    axes.scatter(x[:, 0], x[:, 1], c=np.where(up, "0.2", "white"), **look)
    if found.radii is not None:
        for place, radius in zip(x, found.radii.tolist(), strict=True):
            axes.add_patch(Circle((place[0], place[1]), radius, fill=False, ec="0.3", lw=0.6))
    axes.set(xticks=[], yticks=[], xlim=ends[:2], ylim=ends[2:])
    test = "" if found.test is None else f"\ntrain {found.train:.2f}, test {found.test:.2f}"
    axes.set_title(f"{found.words}{test}", fontsize=8, loc="left")
