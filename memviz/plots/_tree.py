"""Hierarchical clustering of the sides of a heat map, and its tree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from memviz.plots.style import NULL

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_QUICK = 500  # rows up to which the best order of a tree's leaves is searched


@dataclass(frozen=True)
class Side:
    """One clustered side: the chosen rows in drawing order, and the brackets of their tree."""

    chosen: np.ndarray
    tree: np.ndarray


def cluster(values: np.ndarray, chosen: np.ndarray) -> Side:
    """Ward's tree of the rows of ``values``, named by ``chosen``, and the order of its leaves."""
    from scipy.cluster.hierarchy import leaves_list, linkage  # type: ignore[import-untyped]

    if len(chosen) < 2:
        return Side(chosen, np.empty((0, 4, 2)))
    merges = linkage(values, "ward", optimal_ordering=len(chosen) <= _QUICK)
    order = leaves_list(merges)
    place, height = np.empty(2 * len(order) - 1), np.zeros(2 * len(order) - 1)
    place[order] = np.arange(len(order))
    brackets = np.empty((len(merges), 4, 2))
    # scipy's own dendrogram recurses too deep for thousands of leaves.
    for k, (left, right, distance, _) in enumerate(merges, len(order)):
        pair = np.array([left, right], int)
        brackets[k - len(order), :, 0] = place[pair].repeat(2)
        brackets[k - len(order), :, 1] = [height[pair[0]], distance, distance, height[pair[1]]]
        place[k], height[k] = place[pair].mean(), distance
    return Side(chosen[order], brackets)


def draw_tree(axes: Axes, side: Side, *, upright: bool) -> None:
    """Draw the brackets, above the columns (upright) or beside the rows."""
    from matplotlib.collections import LineCollection

    brackets = side.tree if upright else side.tree[:, :, ::-1]
    axes.add_collection(LineCollection(list(brackets), colors=NULL, linewidths=0.5))
    top = float(side.tree[:, :, 1].max(initial=0.0)) * 1.02 or 1.0
    axes.set_ylim(0, top) if upright else axes.set_xlim(top, 0)
    axes.set_axis_off()
