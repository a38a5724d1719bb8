"""The atlas: the effect of each unit on each example, clustered on both sides, with means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import torch

from memviz.plots import style
from memviz.plots.style import group_style, is_dark

from ._tree import cluster, draw_tree

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure


_NAMED = 60  # rows or columns with room for a name each
_MOST_LAYERS = 24


class Unit(Protocol):
    """What the atlas reads of a unit; its text is its name."""

    @property
    def layer(self) -> str:
        """The layer's name."""


class Study(Protocol):
    """What the atlas reads of a study."""

    @property
    def groups(self) -> Mapping[str, torch.Tensor]:
        """A bool mask over the study's examples for each group."""


class Swept(Protocol):
    """What the atlas reads of effects: ``U`` units on ``n`` examples."""

    @property
    def study(self) -> Study:
        """What was swept."""

    @property
    def units(self) -> Sequence[Unit]:
        """``U`` of them."""

    @property
    def examples(self) -> torch.Tensor:
        """The study's indices, int64 ``[n]``."""

    @property
    def how(self) -> str:
        """The intervention."""

    @property
    def exact(self) -> torch.Tensor:
        """Which units have exact values, bool ``[U]``."""

    @property
    def estimated(self) -> torch.Tensor:
        """Which have an estimate only, bool ``[U]``."""

    def members(self, group: str) -> torch.Tensor:
        """Positions of a group among ``examples``."""


def atlas(
    effects: Swept,
    table: torch.Tensor,
    sign: int,
    measure: str,
    units: int = 120,
    examples: int = 300,
) -> Figure:
    """Units × examples, Ward-clustered on both sides, with the mean drop of each.

    Shown are the examples (equal shares of the groups) and the units with the largest changes, by
    root mean square; the title says how many of how many. Estimated units are hatched.

    Parameters
    ----------
    effects : Swept
    table : float ``[U, n]``
        The change of each example under the ablation of each unit; NaN where unknown.
    sign : {-1, 1}
        Multiplies a change to make it a drop.
    measure : str
        What a drop is measured in.
    units, examples : int
        How many to show at most.

    Raises
    ------
    ValueError
        If ``units`` or ``examples`` is below 1, or no unit has values.
    """
    if units < 1 or examples < 1:
        raise ValueError(f"{units} units × {examples} examples is nothing to draw; ask for more.")
    known = (effects.exact | effects.estimated).nonzero()[:, 0].numpy()
    if len(known) == 0:
        raise ValueError("no unit has values yet; let the sweep go on, or estimate first.")
    columns = _of_each_group(effects, _norms(table[known], 0), examples)
    rows = np.sort(_largest(known, _norms(table[:, columns], 1), units))
    values = sign * table[rows][:, columns].numpy()
    by_unit, by_example = cluster(values, rows), cluster(values.T, columns)
    cells = sign * table[by_unit.chosen][:, by_example.chosen].numpy()

    figure = style.figure(9.5, 7.2)
    grid = figure.add_gridspec(
        5, 4, height_ratios=[0.5, 0.8, 0.55, 5.2, 0.13], width_ratios=[0.5, 0.7, 6, 1]
    )
    heat = figure.add_subplot(grid[3, 2])
    share = {"sharex": heat}
    draw_tree(figure.add_subplot(grid[0, 2], **share), by_example, upright=True)
    _means(figure.add_subplot(grid[1, 2], **share), cells.mean(0), upright=True)
    _groups(figure.add_subplot(grid[2, 2], **share), effects, by_example.chosen)
    share = {"sharey": heat}
    draw_tree(figure.add_subplot(grid[3, 0], **share), by_unit, upright=False)
    _layers(figure.add_subplot(grid[3, 1], **share), effects, by_unit.chosen)
    _means(figure.add_subplot(grid[3, 3], **share), cells.mean(1), upright=False)
    _heat(heat, cells, effects, by_unit.chosen, by_example.chosen)
    bar = figure.colorbar(
        heat.images[0], cax=figure.add_subplot(grid[4, 2]), orientation="horizontal", extend="both"
    )
    bar.set_label(f"{measure} (below 0: gained)" if sign < 0 else measure, fontsize=8)
    bar.ax.tick_params(labelsize=7)
    figure.suptitle(_title(effects, by_unit.chosen, by_example.chosen), fontsize=10)
    return figure


def _norms(table: torch.Tensor, dim: int) -> np.ndarray:
    return np.asarray(torch.linalg.vector_norm(table, dim=dim).nan_to_num(0.0).numpy())


def _largest(of: np.ndarray, norms: np.ndarray, k: int) -> np.ndarray:
    return of[np.argsort(-norms[of], kind="stable")[:k]]


def _of_each_group(effects: Swept, norms: np.ndarray, k: int) -> np.ndarray:
    """Columns with the largest norm; room that a small group leaves goes to the larger ones."""
    groups = [effects.members(name).numpy() for name in effects.study.groups]
    grouped = np.concatenate(groups)
    groups.append(np.setdiff1d(np.arange(len(norms)), grouped))
    groups = sorted((group for group in groups if len(group)), key=len)
    chosen: list[np.ndarray] = []
    for left in range(len(groups), 0, -1):
        share = (k - sum(map(len, chosen))) // left
        chosen.append(_largest(groups[-left], norms, share))
    return np.sort(np.concatenate(chosen))


def _heat(
    axes: Axes, cells: np.ndarray, effects: Swept, rows: np.ndarray, columns: np.ndarray
) -> None:
    limit = max(float(np.percentile(np.abs(cells), 99)), 1e-9)
    axes.imshow(cells, cmap=_map(), vmin=-limit, vmax=limit, aspect="auto")
    exact = effects.exact.numpy()[rows]
    for row in np.flatnonzero(~exact):
        axes.axhspan(row - 0.5, row + 0.5, fill=False, hatch="/////", ec=style.NULL, lw=0)
    axes.tick_params(length=0, labelsize=6, labelleft=False)
    axes.set_xticks([])
    if len(columns) <= _NAMED:
        labels = [str(example) for example in effects.examples.numpy()[columns]]
        axes.set_xticks(range(len(columns)), labels, rotation=90)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("examples", fontsize=8)


def _map() -> Colormap:
    """Blue to orange through the background colour, so that no change cannot be seen."""
    from matplotlib.colors import LinearSegmentedColormap

    ends = ("#00334F", "#0072B2", "#FFFFFF", "#D55E00", "#6B2F00")
    if is_dark():
        ends = ("#A6DAFF", "#0072B2", "#111111", "#D55E00", "#FFC89E")
    return LinearSegmentedColormap.from_list("atlas", ends)


def _means(axes: Axes, means: np.ndarray, *, upright: bool) -> None:
    edges, colour = np.arange(len(means) + 1) - 0.5, "#AEB6CC" if is_dark() else "#4D556C"
    way: Literal["vertical", "horizontal"] = "vertical" if upright else "horizontal"
    axes.stairs(means, edges, fill=True, color=colour, orientation=way)
    axes.tick_params(labelsize=6, labelbottom=not upright, labelleft=upright)
    axes.tick_params(axis="x" if upright else "y", length=0)
    axes.spines[["top", "right"]].set_visible(False)
    set_label = axes.set_ylabel if upright else axes.set_xlabel
    set_label("mean over\nthe units" if upright else "mean over\nthe examples", fontsize=7)


def _groups(axes: Axes, effects: Swept, columns: np.ndarray) -> None:
    masks = {
        name: mask[effects.examples[columns]].numpy() for name, mask in effects.study.groups.items()
    }
    masks = {name: mask for name, mask in masks.items() if mask.any()}
    names = [f"{name} · {mask.sum()}" for name, mask in masks.items()]
    axes.set_yticks(range(len(names)), names, fontsize=7, parse_math=False)
    colours = [group_style(name)["color"] for name in masks]
    _lanes(axes, list(masks.values()), colours, upright=False)


def _layers(axes: Axes, effects: Swept, rows: np.ndarray) -> None:
    of = [effects.units[row].layer for row in rows]
    names = list(dict.fromkeys(unit.layer for unit in effects.units if unit.layer in set(of)))
    named = [str(effects.units[row]) for row in rows] if len(rows) <= _NAMED else []
    axes.set_yticks(range(len(named)), named, fontsize=6, parse_math=False)
    if len(names) > _MOST_LAYERS:
        axes.set_axis_off()
        return
    look: dict[str, Any] = {
        "fontsize": 7,
        "rotation": 90,
        "ha": "center",
        "va": "bottom",
        "parse_math": False,
    }
    where = axes.get_xaxis_transform()
    for lane, name in enumerate(names):
        label = axes.text(lane, 1.01, f"{name} · {of.count(name)}", transform=where, **look)
        label.set_in_layout(False)  # the corner above is empty
    masks = [np.array([layer == name for layer in of]) for name in names]
    _lanes(axes, masks, [style.NULL] * len(names), upright=True)


def _lanes(
    axes: Axes, masks: Sequence[np.ndarray], colours: Sequence[str], *, upright: bool
) -> None:
    """A lane per set, with a mark at each cell that belongs to it: readable without colour."""
    from matplotlib.collections import PolyCollection

    along = 1 if upright else 0
    for lane, (mask, colour) in enumerate(zip(masks, colours, strict=True)):
        cells = np.zeros((int(mask.sum()), 4, 2))
        cells[:, :, along] = np.flatnonzero(mask)[:, None] + [-0.5, 0.5, 0.5, -0.5]
        cells[:, :, 1 - along] = lane + np.array([-0.4, -0.4, 0.4, 0.4])
        axes.add_collection(PolyCollection(list(cells), facecolors=colour, linewidths=0))
    ends = (-0.5, max(len(masks), 3) - 0.5)
    axes.set_xlim(*ends) if upright else axes.set_ylim(*ends[::-1])
    axes.tick_params(length=0, labelbottom=False)
    axes.spines[:].set_visible(False)


def _title(effects: Swept, rows: np.ndarray, columns: np.ndarray) -> str:
    def part(shown: int, of: int, what: str) -> str:
        return f"all {of:,} {what}" if shown == of else f"{shown:,} of {of:,} {what}"

    shown = (len(rows), len(columns))
    units = part(shown[0], len(effects.units), "units")
    examples = part(shown[1], len(effects.examples), "examples")
    text = f"{effects.how} ablation of one unit at a time: {units} × {examples}"
    if shown != (len(effects.units), len(effects.examples)):
        text += ",\nthose with the largest changes (root mean square), groups in equal shares"
    guessed = int((~effects.exact[rows]).sum())
    return text + (f"; {guessed:,} units estimated (hatched)" if guessed else "")
