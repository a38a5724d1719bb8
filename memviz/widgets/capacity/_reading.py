"""What the network says of its points, before and after units are taken out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from memviz.checks import listed
from memviz.engine.sets import others_left, random_units
from memviz.units import Layer, UnitSet

from ._network import Network

_DRAWS = 20


@dataclass(frozen=True, eq=False)
class Reading:
    """Values at the points and along the line, with and without the units.

    Attributes
    ----------
    units : UnitSet
    owners : list of int
        Those whose units are all off.
    before, after : float64 ``[n]``
    line_before, line_after : float64 ``[k]``
    moved : bool ``[n]``
        Points whose value changed by more than the network's own error.
    tolerance : float
        Of values: what is nearer to 0 says neither sign.
    null : float or None
        Points that stay right, mean over random units of the same layers; None if there are none.
    """

    units: UnitSet
    owners: list[int]
    before: Tensor
    after: Tensor
    line_before: Tensor
    line_after: Tensor
    moved: Tensor
    tolerance: float
    null: float | None

    def right(self, values: Tensor, signs: Tensor) -> int:
        """How many points are on the side of their sign."""
        return int((values * signs > self.tolerance).sum())


def read(network: Network, units: UnitSet, layers: list[Layer]) -> Reading:
    """Figures of these units, and of random ones in their place."""
    x, signs = network.points.inputs, network.points.signs
    before, line = network.said(x), network.said(network.path)
    after = network.said(x, units) if units else before
    line_after = network.said(network.path, units) if units else line
    tolerance, null = max(1e-6, 4 * _error(network)), None
    if units and others_left(layers, units):
        draws = [random_units(layers, units, seed) for seed in range(_DRAWS)]
        right = [float((network.said(x, drawn) * signs > tolerance).sum()) for drawn in draws]
        null = sum(right) / len(right)
    moved = (after - before).abs() > tolerance
    owners = [owner for owner in range(len(network.memorizer.owner_units))
              if set(network.units_of(owner)) <= set(units)] if units else []  # fmt: skip
    return Reading(units, owners, before, after, line, line_after, moved, tolerance, null)


def _error(network: Network) -> float:
    return network.memorizer.error(getattr(torch, network.settings.precision))


def sentence(network: Network, reading: Reading) -> str:
    """What happened, in one line."""
    points, memorizer = network.points, network.memorizer
    n, owners = len(points.signs), memorizer.owners
    was, now = (reading.right(v, points.signs) for v in (reading.before, reading.after))
    if not reading.units:
        what = "an owner" if len(memorizer.owner_units) else "a unit"
        sizes = " + ".join(f"{w:,}" for w in memorizer.widths[:4])
        sizes += " + …" if len(memorizer.widths) > 4 else ""
        how = f"{n} points in {sizes} units" if memorizer.activation == "hardtanh" else (
            f"{n} points in {memorizer.units:,} hidden units")  # fmt: skip
        return f"{how}: {was} of {n} are right. Take out {what}, and see which points it held."
    total = f"right {was} → {now} of {n}"
    if not reading.owners:
        off = f"{len(reading.units):,} unit{'s' * (len(reading.units) > 1)} off"
        return f"{off}: {int(reading.moved.sum())} of {n} points change their value; {total}."
    own = torch.isin(owners, torch.tensor(reading.owners))
    return (
        f"{_owner_words(reading)} off: {_own_words(reading, own)}, {_rest(reading, own)}; {total}."
    )


def _owner_words(reading: Reading) -> str:
    numbers = [owner + 1 for owner in reading.owners]
    if len(numbers) == 1:
        return f"Owner {numbers[0]}"
    if len(numbers) == 2:
        return f"Owners {numbers[0]} and {numbers[1]}"
    return f"Owners {listed(numbers, 40)}"


def _own_words(reading: Reading, own: Tensor) -> str:
    count, values = int(own.sum()), reading.after[own]
    if not count:
        return "no point is theirs"
    its = "its" if len(reading.owners) == 1 else "their"
    points = f"{its} {count} points" if count > 1 else f"{its} point"
    if float(values.max() - values.min()) < 1e-3 * max(1.0, float(values.abs().max())):
        mean = float(values.mean())
        value = "0, neither sign" if abs(mean) <= reading.tolerance else f"{mean:+.2g}"
        value = value.replace("-", "−")
        go = "go" if count > 1 else "goes"
        return f"{points} {go} to {'one value, ' if count > 1 else ''}{value}"
    return (
        f"{int(reading.moved[own].sum())} of {points} change" if count > 1 else f"{points} changes"
    )


def _rest(reading: Reading, own: Tensor) -> str:
    others, moved = int((~own).sum()), reading.moved[~own]
    if not others:
        return "and there are no others"
    if not bool(moved.any()):
        return f"the other {others} keep their value"
    steps = (reading.after - reading.before)[~own].abs()
    if bool(moved.all()) and float((steps - steps.mean()).abs().max()) < 1e-3:
        return f"every other point moves by {float(steps.mean()):.2g}"
    return f"{int(moved.sum())} of the other {others} move"
