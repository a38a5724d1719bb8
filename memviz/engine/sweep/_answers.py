"""Scores from a table of effects: for a group, for one example, for one unit."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from memviz.checks import listed, quoted
from memviz.scores import Null, Scores
from memviz.study import default_groups
from memviz.tasks import lost
from memviz.units import UnitSet, UnitsLike

from ._table import EffectTable

_NULL_DRAWS = 200
_EXACT = "memviz: exact ablation, one unit at a time"
_FIRST_ORDER = "first-order: gradient × activation (Molchanov et al. 2017; Maini et al. 2023, 5)"


def of_group(effects: EffectTable, group: str | None, against: str | None, on: str) -> Scores:
    """Over units: mean drop on a group, minus the mean drop on another."""
    table, sign, what = drop(effects, on)
    for given in (group, against):
        if given is not None and not isinstance(given, str):
            raise TypeError(f"expected the name of a group, got {quoted(given)}.")
    group, against = default_groups(effects.study, group, against)
    members = effects.members(group)
    others = effects.members(against) if against else torch.arange(0)
    if len(members) == 0 or (against and len(others) == 0):
        raise none_swept(group, against, members)
    return Scores(
        name=f"effect on {group}" + (f" against {against}" if against else ""),
        measure=f"{what}, mean of {len(members):,}"
        + (f" {group} − mean of {len(others):,} {against}" if against else f" {group}"),
        values=(sign * contrast(table, members, others)).double().numpy(),
        units=effects.units,
        exact=effects.exact.numpy(),
        higher=f"holds {group} examples" + (f" more than {against} ones" if against else ""),
        source=_source(effects),
        null=_random_groups(effects, sign * table, members, others),
    )


def of_example(effects: EffectTable, example: int, on: str) -> Scores:
    """Over units: the drop of one example when the unit is ablated."""
    table, sign, what = drop(effects, on)
    column = _column(effects, example)
    # By example, so that the order in which they were swept makes no difference.
    order = effects.examples.argsort(stable=True)
    others = _draw(order[effects.examples[order] != effects.examples[column]])
    words = f"the same number for {len(others):,} other examples"
    return Scores(
        name=f"effect on example {int(effects.examples[column])}",
        measure=what,
        values=(sign * table[:, column]).double().numpy(),
        units=effects.units,
        exact=effects.exact.numpy(),
        higher="holds the example",
        source=_source(effects),
        null=Null(words, (sign * table[:, others]).T.numpy()) if len(others) else None,
    )


def of_unit(effects: EffectTable, unit: UnitsLike, on: str) -> Scores:
    """Over examples: the drop of each when one unit is ablated."""
    table, sign, what = drop(effects, on)
    row = _row(effects, unit)
    layer, known = effects.units[row].layer, effects.exact | effects.estimated
    peers = [
        k for k, u in enumerate(effects.units) if u.layer == layer and k != row and known[k].item()
    ]
    peers.sort(key=lambda k: effects.units[k].index)
    others = _draw(torch.tensor(peers, dtype=torch.long))
    words = f"the same number for {len(others):,} other units of {layer}"
    return Scores(
        name=f"effect of {effects.units[row]}",
        measure=what,
        values=(sign * table[row]).double().numpy(),
        examples=effects.examples.numpy(),
        exact=np.full(len(effects.examples), bool(effects.exact[row])),
        higher="held by the unit",
        source=_source(effects),
        null=Null(words, (sign * table[others]).numpy()) if len(others) else None,
    )


def drop(effects: EffectTable, on: str) -> tuple[Tensor, int, str]:
    """The table, the sign that turns it into a drop, and the measure's name."""
    if not isinstance(on, str) or on not in ("margin", "loss"):
        raise ValueError(f"on is {quoted(on)}; use 'margin' or 'loss'.")
    words = lost(effects.study.task, on)
    return (effects.margin_change, -1, words) if on == "margin" else (effects.loss_change, 1, words)


def none_swept(group: str, against: str, members: Tensor) -> ValueError:
    """The error that no swept example is in one of two groups."""
    empty = against if len(members) else group
    return ValueError(
        f"none of the swept examples is in {quoted(empty)}; sweep some, or name another."
    )


def contrast(change: Tensor, members: Tensor, others: Tensor) -> Tensor:
    """Mean over some columns of ``[U, n]``, minus that over others if there are any, ``[U]``.

    Examples
    --------
    >>> contrast(torch.tensor([[1.0, 3.0, 5.0]]), torch.tensor([2]), torch.tensor([0, 1]))
    tensor([3.])
    """
    value: Tensor = change[:, members].mean(1)
    return value - change[:, others].mean(1) if len(others) else value


def _source(effects: EffectTable) -> str:
    if not effects.estimated.any():
        return _EXACT
    return f"{_EXACT}; where not, {_FIRST_ORDER}" if effects.exact.any() else _FIRST_ORDER


def _column(effects: EffectTable, example: Any) -> int:
    index = example.tolist() if hasattr(example, "tolist") else example
    if isinstance(index, bool) or not isinstance(index, int):
        raise TypeError(f"example is {quoted(example)}; give its index, a whole number.")
    columns = [place for place, known in enumerate(effects.examples.tolist()) if known == index]
    if not columns:
        raise IndexError(
            f"example {quoted(index)} is not among the {len(effects.examples):,} swept ones, from "
            f"{int(effects.examples.min())} to {int(effects.examples.max())}; "
            "choose one of effects.examples, or sweep it."
        )
    return columns[0]


def _row(effects: EffectTable, unit: UnitsLike) -> int:
    units = UnitSet.of(unit)
    if len(units) != 1:
        named = quoted(unit if isinstance(unit, str) else str(units))
        raise ValueError(f"{named} names {len(units)} units; name one, as in 'layer:5'.")
    (chosen,) = units
    if chosen not in effects.units:
        layers = listed(quoted(name) for name in dict.fromkeys(u.layer for u in effects.units))
        raise ValueError(
            f"unit {quoted(str(chosen))} is not among the {len(effects.units):,} swept ones, in "
            f"{layers}; choose one of effects.units, or sweep it."
        )
    return effects.units.index(chosen)


def _random_groups(effects: EffectTable, drops: Tensor, members: Tensor, others: Tensor) -> Null:
    """The contrast of groups of the same sizes, drawn at random from both groups together."""
    generator = torch.Generator().manual_seed(0)
    everybody = effects.examples.argsort(stable=True)
    pool = torch.cat([members, others]) if len(others) else everybody
    known = drops[:, pool].nan_to_num()
    # One row of weights per draw, so that all draws are one matrix product.
    weights = torch.zeros(_NULL_DRAWS, len(pool))
    size, rest = len(members), len(pool) - len(members)
    for draw in range(_NULL_DRAWS):
        order = torch.randperm(len(pool), generator=generator)
        weights[draw, order[:size]] = 1 / size
        if len(others):
            weights[draw, order[size:]] = -1 / rest
    words = f"{_NULL_DRAWS} draws of {size:,} examples at random in place of the group"
    return Null(words, (weights @ known.T).numpy())


def _draw(candidates: Tensor) -> Tensor:
    """At most one candidate per draw of the null, at random."""
    order = torch.randperm(len(candidates), generator=torch.Generator().manual_seed(0))
    return candidates[order[:_NULL_DRAWS]]
