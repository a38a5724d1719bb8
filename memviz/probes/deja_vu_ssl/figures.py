"""Figure of déjà vu in self-supervised models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from memviz.plots import style
from memviz.plots.style import quiet
from memviz.probes.deja_vu.figures import legend

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ._deja_vu import SSLDejaVu


def quadrants(found: Sequence[SSLDejaVu], epochs: Sequence[float] | None = None) -> Figure:
    """Shares of memorized, correlated, misrepresented and unassociated images, over checkpoints.

    Parameters
    ----------
    found : sequence of SSLDejaVu
        One draws bars, several a stacked area over the epochs.
    epochs : sequence of numbers, optional
    """
    if not found or (epochs is not None and len(epochs) != len(found)):
        raise ValueError(f"{len(found)} results for {epochs} epochs; give one of each.")
    tables = [one.shares() for one in found]
    shares = {name: [table[name] for table in tables] for name in tables[0]}
    colours = ("#D55E00", "#0072B2", "#CC79A7", "#C8C8C8")
    figure = style.figure(4.8, 3.0)
    axes = figure.subplots()
    if len(found) == 1:
        values = [share[0] for share in shares.values()]
        axes.barh(list(shares), values, color=colours)
        if found[0].null is not None:
            axes.plot(list(found[0].null.shares().values()), list(shares), "D", ls="", mfc="white",
                      mec="#4A4A4A", ms=6, label="held-out images")  # fmt: skip
            legend(axes)
        axes.invert_yaxis()
        axes.set_xlabel("share of the images")
    else:
        at = range(1, len(found) + 1) if epochs is None else epochs
        axes.stackplot(list(at), list(shares.values()), labels=list(shares), colors=colours)
        axes.set(ylim=(0, 1), xlabel="checkpoint" if epochs is None else "epoch", ylabel="share")
        axes.legend(fontsize=7, loc="lower right")
    quiet(axes)
    return figure
