"""LayerMem of each layer along the data path, for each of the four subsets."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from memviz.checks import Seed, checked, quoted
from memviz.data.subsets import Subsets
from memviz.training.self_supervised import Augment

from .._scores import SOURCE
from ._alignment import (
    Compare,
    alignments,
    check_indices,
    check_pair,
    check_sizes,
    measure_words,
    memorized,
)
from ._path import PathFeatures, Point

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class LayerMem:
    """LayerMem at each point of the data path, for each subset and pair of encoders.

    Attributes
    ----------
    points : tuple of Point
        The points of the data path, in order.
    values : dict of subset to float ``[pairs, points]``
        Mean SSLMem of the subset's images. S_C are the candidates; S_S, S_E and S_I are the null.
    errors : dict of subset to float ``[pairs, points]``
        Standard error over the images.
    measure : str
    """

    points: tuple[Point, ...]
    values: dict[str, np.ndarray]
    errors: dict[str, np.ndarray]
    measure: str = "mean normalised SSLMem"

    @property
    def path(self) -> tuple[Point, ...]:
        """The former name of ``points``."""
        warnings.warn(
            "result.path is now result.points; a path is a file.", DeprecationWarning, stacklevel=2
        )
        return self.points

    @property
    def pairs(self) -> int:
        """Number of pairs (f, g) of encoders."""
        return len(self.values["S_C"])

    @cached_property
    def names(self) -> list[str]:
        """Names of the points."""
        return [point.name for point in self.points]

    def mean(self, subset: str = "S_C") -> np.ndarray:
        """LayerMem averaged over the pairs, float ``[points]``."""
        return np.asarray(self.values[subset].mean(0))

    def delta(self, subset: str = "S_C") -> np.ndarray:
        """LayerMem minus that of the preceding point on the data path; NaN at the first."""
        mean = self.mean(subset)
        row = {name: index for index, name in enumerate(self.names)}
        before = [row.get(point.after, -1) if point.after else -1 for point in self.points]
        return np.where(np.array(before) < 0, np.nan, mean - mean[before])

    def gap(self, beside: str = "S_I") -> np.ndarray:
        """LayerMem of the candidates minus that of another subset, ``[pairs, points]``.

        Raises
        ------
        ValueError
            If there is no such subset.
        """
        if beside not in self.values:
            raise ValueError(
                f"there is no subset {quoted(beside)}; choose from {', '.join(self.values)}."
            )
        return np.asarray(self.values["S_C"] - self.values[beside])

    @property
    def frame(self) -> pd.DataFrame:
        """One row per point: kind, preceding point, the subsets, Delta LayerMem of S_C."""
        import pandas as pd

        columns: dict[str, object] = {
            "point": self.names,
            "kind": [point.kind for point in self.points],
            "after": [point.after or "" for point in self.points],
        }
        columns |= {name: self.mean(name) for name in self.values}
        columns["delta"] = self.delta()
        frame = pd.DataFrame(columns).set_index("point")
        frame.attrs = {"measure": self.measure, "source": f"{SOURCE}, section 4"}
        return frame

    def plot(self) -> Figure:
        """The subsets' lines along the data path, and the gap of candidates to the others."""
        from ..figures import layer_mem

        return layer_mem(self)

    def __repr__(self) -> str:
        pairs = f"{self.pairs} pair{'s' * (self.pairs != 1)} of encoders"
        return (
            f"LayerMem, {self.measure}, {pairs}; null: S_S, S_E, S_I\n"
            f"{self.frame.round(4).to_string()}\nsource: {SOURCE}, section 4"
        )


@checked
def layer_mem(
    target: nn.Module | Sequence[nn.Module],
    reference: nn.Module | Sequence[nn.Module],
    images: Tensor,
    augment: Augment,
    subsets: Subsets,
    *,
    layers: Sequence[str] | None = None,
    augmentations: int = 10,
    unit_norm: bool = True,
    compare: Compare = "views",
    seed: Seed = 0,
    progress: bool = True,
) -> LayerMem:
    """LayerMem: SSLMem of the outputs of each layer, averaged over a subset's images.

    f and g differ in more than the candidates, so the level of S_S and S_E is not 0: read
    ``gap("S_S")``, and S_I as its mirror image, over several pairs. Delta LayerMem compares a layer
    with the point its data came from: after a residual join that is the join, not the layer that
    was called before.

    Parameters
    ----------
    target, reference : nn.Module, or sequences of the same length
        One or more pairs of f and g, all with these subsets; for pairs with subsets of their own,
        combine the results with :func:`pooled`.
    images, augment, augmentations, unit_norm, compare, seed, progress
        As for :func:`memviz.probes.encoders.layers.ssl_mem`.
    subsets : Subsets
    layers : sequence of str, optional
        Layers to read in addition to the joins; by default all, counting an attention or an MLP as
        one.

    Raises
    ------
    KeyError
        If an encoder has no such layer.
    ValueError
        If the encoders of a pair differ in their layers or feature sizes, or are in train mode;
        there are fewer than 2 images or views; features are NaN or infinite; or an encoder is
        random or couples the images of a batch.

    Examples
    --------
    >>> def noise(x, generator):
    ...     return x + torch.randn(x.shape, generator=generator)
    >>> f = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    >>> sets = Subsets(range(2), range(2, 4), range(4, 6), range(6, 8))
    >>> layer_mem(f, f, torch.randn(8, 3), noise, sets).mean("S_C")
    array([0., 0.])
    """
    pairs = _pairs(target, reference)
    chosen = torch.cat(list(subsets.named().values()))
    check_pair(*pairs[0], images, augmentations, compare)
    check_indices(chosen, images)
    tables = []
    for f, g in pairs:
        readers = [PathFeatures(encoder, images, layers) for encoder in (f, g)]
        check_sizes(readers[0], readers[1], images)
        of_f, of_g = alignments(readers, readers[0].size, images, augment, augmentations, chosen,
                                unit_norm=unit_norm, compare=compare, seed=seed,
                                progress=progress)  # fmt: skip
        points = tuple(readers[0].points)
        tables.append(np.stack([memorized(of_f[p.name], of_g[p.name]).numpy() for p in points]))
    measure = f"mean normalised SSLMem, {measure_words(unit_norm, compare)}"
    return summed(points, np.stack(tables), subsets, measure)


def summed(
    points: tuple[Point, ...], tables: np.ndarray, subsets: Subsets, measure: str
) -> LayerMem:
    """Means and standard errors over the images of each subset.

    Parameters
    ----------
    tables : float ``[pairs, points, images]``
        SSLMem of the subsets' images, set after set; NaN where it is unknown.

    Examples
    --------
    >>> points, sets = (Point("fc", "linear", 0),), Subsets([], [0, 1], [2], [])
    >>> summed(points, np.array([[[0.2, 0.4, 0.0]]]), sets, "").mean("S_C")
    array([0.3])
    """
    ends = np.cumsum([len(members) for members in subsets.named().values()])[:-1]
    values, errors = {}, {}
    for name, part in zip(subsets.named(), np.split(tables, ends, axis=2), strict=True):
        known = (~np.isnan(part)).sum(2)
        values[name] = np.nansum(part, 2) / np.where(known, known, np.nan)
        spread = np.sqrt(
            np.nansum((part - values[name][..., None]) ** 2, 2) / np.maximum(known - 1, 1)
        )
        errors[name] = spread / np.sqrt(np.maximum(known, 1))
    return LayerMem(points, values, errors, measure)


@checked
def pooled(results: Sequence[LayerMem]) -> LayerMem:
    """Combine the results of several pairs, each with its own images and subsets.

    Raises
    ------
    ValueError
        If there is no result, or the results differ in layers, subsets or measure.

    Examples
    --------
    >>> points = (Point("fc", "linear", 0),)
    >>> result = LayerMem(points, {"S_C": np.ones((1, 1))}, {"S_C": np.zeros((1, 1))})
    >>> pooled([result, result]).pairs
    2
    """
    if not results:
        raise ValueError("there is no result to pool; give at least one.")
    first = results[0]
    for other in results[1:]:
        same = (first.names, list(first.values), first.measure)
        if (other.names, list(other.values), other.measure) != same:
            raise ValueError(
                "the results differ in layers, subsets or measure; pool results that agree in them."
            )
    values, errors = (
        {
            name: np.concatenate([getattr(result, part)[name] for result in results])
            for name in first.values
        }
        for part in ("values", "errors")
    )
    return LayerMem(first.points, values, errors, first.measure)


def _pairs(
    target: nn.Module | Sequence[nn.Module], reference: nn.Module | Sequence[nn.Module]
) -> list[tuple[nn.Module, nn.Module]]:
    # nn.Sequential has a length, too, but is one encoder.
    fs, gs = (
        [given] if isinstance(given, nn.Module) else list(given) for given in (target, reference)
    )
    if len(fs) != len(gs) or not fs:
        raise ValueError(
            f"there are {len(fs)} targets and {len(gs)} references; give one reference per target."
        )
    return list(zip(fs, gs, strict=True))
