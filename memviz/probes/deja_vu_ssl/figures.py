"""Figure of déjà vu in self-supervised models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from memviz.plots import style
from memviz.plots.style import legend, quiet

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Shares(Protocol):
    """What has a share of its images in each quadrant."""

    def shares(self) -> Mapping[str, float]:
        """Share of the images in each quadrant, by name."""


class Quadrants(Shares, Protocol):
    """What the figure reads of a test."""

    @property
    def null(self) -> Shares | None:
        """The same of held-out images."""


def quadrants(results: Sequence[Quadrants], epochs: Sequence[float] | None = None) -> Figure:
    """Shares of memorized, correlated, misrepresented and unassociated images, over checkpoints.

    Parameters
    ----------
    results : sequence of SSLDejaVu
        One is drawn as bars, several as a stacked area over the epochs.
    epochs : sequence of numbers, optional

    Raises
    ------
    ValueError
        Without results, or if there are not as many epochs as results.

    Examples
    --------
    >>> import torch
    >>> from memviz.probes.deja_vu_ssl import SSLDejaVu, vote
    >>> public, labels = torch.eye(3), torch.arange(3)
    >>> target = vote(torch.eye(3), public, labels, k=1)
    >>> reference = vote(torch.eye(3).flip(0), public, labels, k=1)
    >>> len(quadrants([SSLDejaVu(target, reference, labels)]).axes[0].patches)
    4
    """
    if not results:
        raise ValueError("there is no result to draw; give at least one.")
    if epochs is not None and len(epochs) != len(results):
        raise ValueError(f"{len(results)} results for {len(epochs)} epochs; give one of each.")
    tables = [result.shares() for result in results]
    shares = {name: [table[name] for table in tables] for name in tables[0]}
    colours = ("#D55E00", "#0072B2", "#CC79A7", "#C8C8C8")
    figure = style.figure(4.8, 3.0)
    axes = figure.subplots()
    if len(results) == 1:
        values, null = [share[0] for share in shares.values()], results[0].null
        axes.barh(list(shares), values, color=colours)
        if null is not None:
            axes.plot(list(null.shares().values()), list(shares), "D", ls="", mfc="white",
                      mec="#4A4A4A", ms=6, label="held-out images")  # fmt: skip
            legend(axes)
        axes.invert_yaxis()
        axes.set_xlabel("share of the images")
    else:
        at = range(1, len(results) + 1) if epochs is None else epochs
        axes.stackplot(list(at), list(shares.values()), labels=list(shares), colors=colours)
        axes.set(ylim=(0, 1), ylabel="share of the images")
        axes.set_xlabel("checkpoint" if epochs is None else "epoch")
        legend(axes, fontsize=7)
    quiet(axes)
    return figure
