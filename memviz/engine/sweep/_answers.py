"""What a table of effects answers: for a group, for one example, for one unit."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from memviz.scores import Null, Scores
from memviz.study import default_groups
from memviz.units import UnitSet, UnitsLike

from ._table import EffectTable

_NULL_DRAWS = 200
_EXACT = "memviz: exact ablation, one unit at a time"
_FIRST_ORDER = "first-order: gradient × activation (Molchanov et al. 2017; Maini et al. 2023, 5)"


def of_group(effects: EffectTable, group: str | None, against: str | None, on: str) -> Scores:
    """Over units: mean drop on a group, minus the mean drop on another."""
    table, sign, what = drop(effects, on)
    group, against = default_groups(effects.study, group, against)
    mine = effects.members(group)
    rest = effects.members(against) if against else torch.arange(0)
    if len(mine) == 0 or (against and len(rest) == 0):
        raise ValueError(f"none of the examples swept is in {group!r} or in {against!r}.")
    return Scores(
        name=f"effect on {group}" + (f" against {against}" if against else ""),
        measure=f"{what}, mean of {len(mine):,}"
        + (f" {group} − mean of {len(rest):,} {against}" if against else f" {group}"),
        values=(sign * contrast(table, mine, rest)).double().numpy(),
        units=effects.units,
        exact=effects.exact.numpy(),
        higher=f"holds {group} examples" + (f" more than {against} ones" if against else ""),
        source=_source(effects),
        null=_random_groups(table, sign, mine, rest),
    )


def of_example(effects: EffectTable, example: int, on: str) -> Scores:
    """Over units: the drop of one example."""
    table, sign, what = drop(effects, on)
    column = _column(effects, example)
    others = _draw(torch.arange(len(effects.examples))[effects.examples != example])
    words = f"the same number for {len(others):,} other examples"
    return Scores(
        name=f"effect on example {int(example)}",
        measure=what,
        values=(sign * table[:, column]).double().numpy(),
        units=effects.units,
        exact=effects.exact.numpy(),
        higher="holds the example",
        source=_source(effects),
        null=Null(words, (sign * table[:, others]).T.numpy()) if len(others) else None,
    )


def of_unit(effects: EffectTable, unit: UnitsLike, on: str) -> Scores:
    """Over examples: the drop of each under one unit's ablation."""
    table, sign, what = drop(effects, on)
    row = _row(effects, unit)
    layer, known = effects.units[row].layer, effects.exact | effects.estimated
    peers = [
        k for k, u in enumerate(effects.units) if u.layer == layer and k != row and known[k].item()
    ]
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
    """The table, the sign that makes a drop of it, and what it is measured in."""
    if on not in ("margin", "loss"):
        raise ValueError(f"on is {on!r}; use 'margin' or 'loss'.")
    if on == "margin":
        return effects.margin_change, -1, "logits of margin lost"
    return effects.loss_change, 1, "nats of loss gained"


def contrast(change: Tensor, mine: Tensor, rest: Tensor) -> Tensor:
    """Mean over some columns, minus the mean over others if there are any, ``[U]``."""
    value: Tensor = change[:, mine].mean(1)
    return value - change[:, rest].mean(1) if len(rest) else value


def _source(effects: EffectTable) -> str:
    if not effects.estimated.any():
        return _EXACT
    return f"{_EXACT}; where not, {_FIRST_ORDER}" if effects.exact.any() else _FIRST_ORDER


def _column(effects: EffectTable, example: int) -> int:
    found = (effects.examples == int(example)).nonzero()
    if len(found) == 0:
        raise IndexError(
            f"example {example} is not among the {len(effects.examples):,} swept, which lie "
            f"between {int(effects.examples.min())} and {int(effects.examples.max())}; "
            "ask for one of effects.examples, or sweep it."
        )
    return int(found[0])


def _row(effects: EffectTable, unit: UnitsLike) -> int:
    chosen = list(UnitSet.of(unit))
    if len(chosen) != 1:
        raise ValueError(f"{str(unit)!r} names {len(chosen)} units; name one, as in 'layer:5'.")
    if chosen[0] not in effects.units:
        layers = ", ".join(dict.fromkeys(u.layer for u in effects.units))
        raise ValueError(
            f"unit {str(chosen[0])!r} is not among the {len(effects.units):,} swept, which are in "
            f"{layers}; ask for one of effects.units, or sweep it."
        )
    return effects.units.index(chosen[0])


def _random_groups(table: Tensor, sign: int, mine: Tensor, rest: Tensor) -> Null:
    """The contrast of groups of the same sizes, drawn from the two together."""
    generator = torch.Generator().manual_seed(0)
    pool = torch.cat([mine, rest]) if len(rest) else torch.arange(table.shape[1])
    known = sign * table[:, pool].nan_to_num()
    weights = torch.zeros(_NULL_DRAWS, len(pool))
    others = len(pool) - len(mine)
    for draw in range(_NULL_DRAWS):
        order = torch.randperm(len(pool), generator=generator)
        weights[draw, order[: len(mine)]] = 1 / len(mine)
        if len(rest):
            weights[draw, order[len(mine) :]] = -1 / others
    words = f"{_NULL_DRAWS} draws of {len(mine):,} examples at random in place of the group"
    return Null(words, (weights @ known.T).numpy())


def _draw(of: Tensor) -> Tensor:
    """At most as many as the null has draws, at random."""
    order = torch.randperm(len(of), generator=torch.Generator().manual_seed(0))
    return of[order[:_NULL_DRAWS]]
