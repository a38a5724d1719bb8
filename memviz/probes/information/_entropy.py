"""Entropy of units: how diverse a unit's activations are over the examples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from memviz.checks import IndicesLike, Seed, checked
from memviz.progress import slow
from memviz.scores import Null, Scores
from memviz.study import Study
from memviz.units import Layer

from ._activations import WHERE, Where, random_study, unit_values
from ._bins import Edges, bin_ranges, unit_entropy

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

PAPER = "Bansal, Pruthi and Belinkov 2022, arXiv:2210.09404"


@dataclass(frozen=True, eq=False)
class Entropy(Scores):
    """Entropy scores of units, with the bins they were computed in.

    Attributes
    ----------
    layers : tuple of Layer
    bins : int
    edges : {"global", "layer", "unit"}
    where : {"after", "before"}
    ranges : float64 ``[2, units]``
        Lowest and highest edge of each unit's bins.
    reached : float64 ``[2, units]``
        Smallest and largest activation of each unit.
    null_constant : bool ``[draws, units]``, optional
        Units of the random networks with equal activations on all examples.
    """

    layers: tuple[Layer, ...] = ()
    bins: int = 100
    edges: Edges = "global"
    where: Where = "after"
    ranges: np.ndarray = field(default_factory=lambda: np.empty((2, 0)))
    reached: np.ndarray = field(default_factory=lambda: np.empty((2, 0)))
    null_constant: np.ndarray | None = None

    @property
    def constant(self) -> np.ndarray:
        """Units with equal activations on all examples, such as dead ones, bool ``[units]``."""
        return np.asarray(self.reached[0] == self.reached[1])

    @property
    def mean(self) -> float:
        """Mean over the units that are not constant; NaN if all are."""
        live = self.values[~self.constant]
        return float(live.mean()) if len(live) else float("nan")

    @property
    def null_mean(self) -> float:
        """Mean of the null over draws and the units that are not constant; NaN without a null."""
        return self._null_mean(np.ones(len(self), bool))

    @property
    def by_layer(self) -> pd.DataFrame:
        """One row per layer and one for all: units, constant units, mean of the others, null."""
        import pandas as pd

        names = np.array([unit.layer for unit in self.units or ()])
        masks = {layer.name: names == layer.name for layer in self.layers}
        rows = {}
        for name, members in {**masks, "all": names == names}.items():
            live = self.values[members & ~self.constant]
            rows[name] = {
                "units": int(members.sum()),
                "constant": int((members & self.constant).sum()),
                "entropy": live.mean() if len(live) else np.nan,
                "median": np.median(live) if len(live) else np.nan,
                "null": self._null_mean(members),
            }
        return pd.DataFrame(rows).T.astype({"units": int, "constant": int}).rename_axis("layer")

    def live_null(self, members: np.ndarray) -> np.ndarray:
        """The null of some units (bool ``[units]``) over all draws, without constant ones."""
        if self.null is None:
            return np.empty(0)
        counted = np.broadcast_to(members, self.null.values.shape)
        if self.null_constant is not None:
            counted = counted & ~self.null_constant
        return np.asarray(self.null.values[counted])

    def _null_mean(self, members: np.ndarray) -> float:
        live = self.live_null(members)
        return float(live.mean()) if len(live) else float("nan")

    def plot(self, k: int = 0) -> Figure:
        """Boxes by layer, the null beside each; with ``k``, the k highest as bars."""
        from .figures import entropy_by_layer

        return super().plot(k) if k else entropy_by_layer(self)

    def __repr__(self) -> str:
        constant = int(self.constant.sum())
        return (
            f"{super().__repr__()}\nread {WHERE[self.where]}; {self.bins} bins, {self.edges} "
            f"edges; {constant} of {len(self)} units are constant (entropy 0)"
        )


@checked
def entropy(
    study: Study,
    layers: Sequence[str] | None = None,
    examples: IndicesLike | None = None,
    *,
    bins: int = 100,
    edges: Edges = "global",
    where: Where = "after",
    null_draws: int = 5,
    initial: Callable[[int], nn.Module] | None = None,
    seed: Seed = 0,
    progress: bool = True,
) -> Entropy:
    """Entropy of each unit's activations over the examples, in nats; labels are not used.

    In a network that has memorized a heuristic, a cue that most labels follow, units take few
    distinct values: low entropy. One that has memorized single examples should have more
    (section 3), but how much more, and even whether, depends on ``edges``: shared bins also reflect
    a unit's scale. Compare networks at equal bins, examples and training accuracy.

    Parameters
    ----------
    study : Study
    layers, examples, where, progress
        As for :func:`unit_values`. The paper uses held-out examples.
    bins : int
        Of equal width. The released scripts use 100, and 10 or 20 for the circles.
    edges : {"global", "layer", "unit"}
        Which units share bin edges; global in the paper.
    null_draws : int
        Randomly initialized networks for the null, each with the same number of bins between its
        own edges; 0 for none. (Permuting the examples would change nothing.) Their batch norm is
        measured on the examples, as training would: at mean 0 and variance 1 it would leave a
        random network's units nearly constant.
    initial : callable, optional
        ``seed -> model``: makes such a network; by default a copy of the model is reinitialized
        (:func:`memviz.training.random_network.random_network`).
    seed : int
        Seed of the first of them.

    Raises
    ------
    KeyError
        If the study has no such layer.
    ValueError
        If there are fewer examples than bins, a value is NaN, ``edges`` is unknown, or the model
        cannot be reinitialized or its batch norm not be measured.

    Examples
    --------
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    >>> study = Study(model.eval(), torch.randn(60, 4), torch.zeros(60), {"all": range(60)})
    >>> scores = entropy(study, bins=10)
    >>> scores.values.shape, bool((scores.values <= np.log(10)).all())
    ((8,), True)
    """
    activations = unit_values(study, layers, examples, where, progress=progress)
    values = unit_entropy(activations.values, bins, edges, activations.names)
    names = [layer.name for layer in activations.layers]
    draws, constant = [], []
    for draw in slow(range(null_draws), "random networks", progress=progress):
        random = random_study(study, examples, seed + draw, initial)
        try:
            drawn = unit_values(random, names, examples, where, progress=False)
        except ValueError as error:
            raise ValueError(
                f"a random network of the null can't be measured: {error} Leave the null out with "
                "null_draws=0."
            ) from error
        if drawn.units != activations.units:
            raise ValueError(
                f"initial returned a network of {len(drawn.units)} units, but the study's has "
                f"{len(activations.units)}; return one with the same layers."
            )
        draws.append(unit_entropy(drawn.values, bins, edges, drawn.names).numpy())
        constant.append((drawn.values == drawn.values[0]).all(0).numpy())
    words = f"{null_draws} randomly initialized networks{_calibrated(study.model)}"
    words += f", {bins} bins with their own {edges} edges"
    return Entropy(
        "entropy of activations",
        "nats",
        values.numpy(),
        units=activations.units,
        higher="more diverse (memorized heuristics lower it)",
        source=f"{PAPER}, section 2",
        null=Null(words, np.stack(draws)) if draws else None,
        layers=activations.layers,
        bins=bins,
        edges=edges,
        where=where,
        ranges=torch.stack(bin_ranges(activations.values, edges, activations.names)).numpy(),
        reached=torch.stack(bin_ranges(activations.values, "unit")).numpy(),
        null_constant=np.stack(constant) if constant else None,
    )


def _calibrated(model: nn.Module) -> str:
    """A note where the random networks have batch norm."""
    normed = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())
    return ", batch norm measured on the same examples" if normed else ""
