"""Entropy of units: how diverse the activations of one unit are over the examples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from memviz.progress import slow
from memviz.scores import Null, Scores
from memviz.study import Study
from memviz.units import Layer

from ._activations import WHERE, Where, initialized, unit_values
from ._bins import Edges, bin_ranges, unit_entropy

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

PAPER = "Bansal, Pruthi and Belinkov 2022, arXiv:2210.09404"


@dataclass(frozen=True, eq=False)
class Entropy(Scores):
    """Scores of units that know their bins.

    Attributes
    ----------
    layers : tuple of Layer
    bins : int
    edges : {"global", "layer", "unit"}
    where : {"after", "before"}
    ranges : float64 ``[2, units]``
        Lower and upper end of each unit's bins.
    reached : float64 ``[2, units]``
        Least and largest activation of each unit.
    """

    layers: tuple[Layer, ...] = ()
    bins: int = 100
    edges: Edges = "global"
    where: Where = "after"
    ranges: np.ndarray = field(default_factory=lambda: np.empty((2, 0)))
    reached: np.ndarray = field(default_factory=lambda: np.empty((2, 0)))

    @property
    def constant(self) -> np.ndarray:
        """Units that are the same on all examples, dead ones for example, bool ``[units]``."""
        return np.asarray(self.reached[0] == self.reached[1])

    @property
    def mean(self) -> float:
        """Mean over all units but the constant ones; NaN where there is no other."""
        live = self.values[~self.constant]
        return float(live.mean()) if len(live) else float("nan")

    @property
    def null_mean(self) -> float:
        """Mean over the units of the null and its draws; NaN without a null."""
        return float(self.null.values.mean()) if self.null is not None else float("nan")

    @property
    def by_layer(self) -> pd.DataFrame:
        """One row a layer, and one for all: units, constant ones, mean of the others, its null."""
        import pandas as pd

        names = np.array([unit.layer for unit in self.units or ()])
        parts = {layer.name: names == layer.name for layer in self.layers}
        rows = {}
        for name, mine in {**parts, "all": names == names}.items():
            live = self.values[mine & ~self.constant]
            rows[name] = {
                "units": int(mine.sum()),
                "constant": int((mine & self.constant).sum()),
                "entropy": live.mean() if len(live) else np.nan,
                "median": np.median(live) if len(live) else np.nan,
                "null": self.null.mean[mine].mean() if self.null is not None else np.nan,
            }
        return pd.DataFrame(rows).T.astype({"units": int, "constant": int}).rename_axis("layer")

    def plot(self, k: int = 0) -> Figure:
        """Boxes by layer, the null beside each; with ``k``, the k highest as bars."""
        from .figures import entropy_by_layer

        return super().plot(k) if k else entropy_by_layer(self)

    def __repr__(self) -> str:
        constant = int(self.constant.sum())
        return (
            f"{super().__repr__()}\nread {WHERE[self.where]}; {self.bins} bins, edges "
            f"{self.edges}; {constant} of {len(self)} units constant (entropy 0)"
        )


def entropy(
    study: Study,
    layers: Sequence[str] | None = None,
    examples: Tensor | None = None,
    *,
    bins: int = 100,
    edges: Edges = "global",
    where: Where = "after",
    null_draws: int = 5,
    initial: Callable[[int], nn.Module] | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Entropy:
    """Entropy of each unit's activations over the examples, in nats; no label is looked at.

    A network that has memorized a heuristic, a cue that most labels obey, has units of few
    distinct activations: low entropy. One that has memorized single examples is said to have more
    (section 3), but by how much, and even whether, depends on ``edges``: bins that units share see
    a unit's scale, too. Compare networks at equal bins, examples and training accuracy.

    Parameters
    ----------
    study : Study
    layers, examples, where, progress
        As for :func:`unit_values`. The paper takes held-out examples.
    bins : int
        Of equal width. The released scripts take 100, and 10 or 20 for the circles.
    edges : {"global", "layer", "unit"}
        Which units share the edges of the bins; the paper's are global.
    null_draws : int
        Randomly initialized networks of the null, each with as many bins between edges of its own;
        0 for none. (Permuted examples would change nothing.)
    initial : callable, optional
        ``seed -> model``: makes such a network; unless given, a copy of the model is drawn anew.
    seed : int
        Of the first of them.

    Raises
    ------
    KeyError
        If a layer is unknown.
    ValueError
        On fewer examples than bins, NaN, unknown edges, or a model that can't be drawn anew.

    Examples
    --------
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    >>> study = Study(model.eval(), torch.randn(60, 4), torch.zeros(60), {"all": range(60)})
    >>> found = entropy(study, bins=10)
    >>> found.values.shape, bool((found.values <= np.log(10)).all())
    ((8,), True)
    """
    read = unit_values(study, layers, examples, where, progress=progress)
    found = unit_entropy(read.values, bins, edges, read.names)
    names = [layer.name for layer in read.layers]
    draws = []
    for draw in slow(range(null_draws), "random networks", progress=progress):
        random = initialized(study, seed + draw, initial)
        other = unit_values(random, names, examples, where, progress=False)
        if other.units != read.units:
            raise ValueError(
                f"initial gave a network of {len(other.units)} units where the study's has "
                f"{len(read.units)}; give one of the same layers."
            )
        draws.append(unit_entropy(other.values, bins, edges, other.names).numpy())
    words = f"{null_draws} randomly initialized networks, {bins} bins with {edges} edges of theirs"
    return Entropy(
        "entropy of activations",
        "nats",
        found.numpy(),
        units=read.units,
        higher="more diverse (memorized heuristics lower it)",
        source=f"{PAPER}, section 2",
        null=Null(words, np.stack(draws)) if draws else None,
        layers=read.layers,
        bins=bins,
        edges=edges,
        where=where,
        ranges=torch.stack(bin_ranges(read.values, edges, read.names)).numpy(),
        reached=torch.stack(bin_ranges(read.values, "unit")).numpy(),
    )
