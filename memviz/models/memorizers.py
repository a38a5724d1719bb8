"""Networks that memorize by construction: explicit weights, and the unit that owns each example."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from memviz.checks import quoted

Activation = Literal["hardtanh", "relu"]
_DIRECTIONS = 200


@dataclass(frozen=True, eq=False)
class Memorizer:
    """A network with explicit weights, the examples it memorizes, and the units that own them.

    An owner is a unit of the second hidden layer in the hard-tanh form and a pair of units in the
    ReLU form. At the examples it owns it passes their value; at all others it is saturated at -1
    or 1 and tells only on which side of its own examples they lie.

    Attributes
    ----------
    model : nn.Sequential
        ``layer1``, ``activation1``, ``layer2``, ``activation2``, ``output``; float64, one output.
    inputs : float64 ``[n, d]``
    values : float64 ``[n]``, from -1 to 1.
    owners : int64 ``[n]``
        Owner of each example, from 0.
    groups : int64 ``[n]``
        The unit of the first layer (in the hard-tanh form) that is linear at the example.
    widths : (first, second)
        Hard-tanh units of the two hidden layers; the ReLU form has twice as many.
    activation : ``"hardtanh"`` or ``"relu"``
    """

    model: nn.Sequential
    inputs: Tensor
    values: Tensor
    owners: Tensor
    groups: Tensor
    widths: tuple[int, int]
    activation: Activation

    def units_of(self, owner: int) -> tuple[int, ...]:
        """The units of ``layer2`` that make up an owner.

        Raises
        ------
        IndexError : there is no such owner.
        """
        if not 0 <= owner < self.widths[1]:
            raise IndexError(f"there is no owner {owner}; owners are 0 to {self.widths[1] - 1}.")
        return (owner,) if self.activation == "hardtanh" else (owner, self.widths[1] + owner)

    @property
    def units(self) -> int:
        """Number of hidden units."""
        return sum(self.widths) * (1 if self.activation == "hardtanh" else 2)

    @property
    def parameters(self) -> int:
        """Number of weights and biases."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    @property
    def largest_weight(self) -> float:
        """The largest absolute weight or bias."""
        return max(float(parameter.detach().abs().max()) for parameter in self.model.parameters())

    def error(self, dtype: torch.dtype = torch.float64) -> float:
        """The largest error of the network over its examples, computed in this precision."""
        twin = _network(self.widths, self.inputs.shape[1], self.activation)
        twin.load_state_dict(self.model.state_dict())
        with torch.no_grad():
            outputs = twin.to(dtype)(self.inputs.to(dtype))[:, 0].double()
        return float((outputs - self.values).abs().max())

    def __repr__(self) -> str:
        return (
            f"Memorizer({len(self.inputs):,} examples in {self.units:,} {self.activation} units, "
            f"{self.parameters:,} parameters; largest weight {self.largest_weight:.1e}; error "
            f"{self.error():.0e} in float64, {self.error(torch.float32):.0e} in float32)"
        )


def construct_memorizer(
    inputs: Tensor,
    values: Tensor,
    widths: tuple[int, int] | None = None,
    *,
    activation: Activation = "relu",
    seed: int = 0,
) -> Memorizer:
    """Build a three-layer network with given values at n points, after Yun et al. (2019).

    Each unit of the second hidden layer owns some points: only there is it not saturated. ``d1``
    and ``d2`` hard-tanh units hold ``d1 * d2`` points; with ReLUs it takes twice as many of both.
    The theorem is Yun, Sra and Jadbabaie's (arXiv:1810.07770), the weights are our own derivation.
    They grow with the number of points, so float32 is soon too coarse.

    Parameters
    ----------
    inputs : ``[n, ...]``
        Flattened; equal points must have equal values.
    values : ``[n]``, from -1 to 1.
    widths : (first, second), optional
        Hard-tanh units; about the square root of n each by default.
    activation : ``"relu"`` or ``"hardtanh"``
    seed : int
        Of the random directions tried for the projection.

    Raises
    ------
    ValueError
        If a value is out of range, a point has two values, or the widths are too small.

    Examples
    --------
    >>> points = torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
    >>> memorizer = construct_memorizer(points, torch.arange(40) % 2 * 2 - 1)
    >>> memorizer.units, memorizer.error() < 1e-8
    (26, True)
    """
    points, targets = _checked(inputs, values, activation)
    distinct, which = torch.unique(points, dim=0, return_inverse=True)
    value = torch.zeros(len(distinct), dtype=torch.float64)
    value[which] = targets
    if not torch.equal(value[which], targets):
        clash = int((value[which] != targets).nonzero()[0])
        raise ValueError(
            f"example {clash} has the same inputs as another one but another value; no network "
            "can tell them apart, so leave one out."
        )
    d1, d2 = _widths(len(distinct), widths)
    # Project the points onto a line, sort them, and cut the line into d1 groups of d2 neighbours.
    line = _line(distinct, seed)
    place = distinct @ line
    order = place.argsort()
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order))
    group, position = rank // d2, rank % d2
    # In every other group the second layer's input falls instead of rising: owners run backwards.
    owner = torch.where(group % 2 == 0, position, d2 - 1 - position)
    hidden = _Hidden.of(*_filled_up(place[order], value[order], d1 * d2), d1, d2)
    model = _network((d1, d2), points.shape[1], activation)
    model.load_state_dict(_weights(hidden, line, activation))
    owners, groups = owner[which], group[which]
    return Memorizer(model.eval(), points, targets, owners, groups, (d1, d2), activation)


@dataclass(frozen=True, eq=False)
class _Hidden:
    """The hard-tanh form on the line: ``slope * (c - middle)``, then ``weight`` and ``bias``.

    A first-layer unit is linear across its own group and saturated outside. A second-layer unit
    owns one point of each group: there it has the point's value, elsewhere it is saturated.
    """

    slope: Tensor
    middle: Tensor
    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, place: Tensor, value: Tensor, d1: int, d2: int) -> _Hidden:
        """From sorted places on the line and their values, ``d1 * d2`` of each."""
        gap = float(place[-1] - place[0]) / (len(place) - 1) if len(place) > 1 else 1.0
        starts, ends = place[::d2], place[d2 - 1 :: d2]
        between = (ends[:-1] + starts[1:]) / 2
        low = torch.cat([place[:1] - gap / 2, between])
        high = torch.cat([between, place[-1:] + gap / 2])
        slope, middle = 2 / (high - low), (high + low) / 2
        inside = (place.view(d1, d2) - middle[:, None]) * slope[:, None]
        backwards = torch.arange(d1) % 2 == 1
        # Column k: what owner k sees of its point in each group.
        seen = torch.where(backwards[:, None], inside.flip(1), inside)
        signs = _signs(d2)
        target = torch.where(backwards[:, None], value.view(d1, d2).flip(1), value.view(d1, d2))
        target = target * signs
        alpha, beta = _recursion(seen, target)
        # Steep enough that an owner is saturated at its neighbours' points.
        scale = ((2 / _nearest(seen) + beta.abs()) / alpha.abs()).amax(0)
        weight = alpha * scale + beta
        bias = target[0] - weight[0] * seen[0] + weight[1:].sum(0)
        return cls(slope, middle, weight.T.contiguous(), bias)


def _recursion(seen: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients: weights ``alpha * M + beta`` give each owner its values, whatever M."""
    alpha, beta = [torch.ones_like(seen[0])], [torch.zeros_like(seen[0])]
    for j in range(len(seen) - 1):
        before, after = 1 - seen[j], 1 + seen[j + 1]
        alpha.append(-alpha[j] * before / after)
        beta.append((target[j + 1] - target[j] - beta[j] * before) / after)
    return torch.stack(alpha), torch.stack(beta)


def _nearest(seen: Tensor) -> Tensor:
    """Distance of each to the nearest other in its row; 2 where it is alone."""
    if seen.shape[1] == 1:
        return torch.full_like(seen, 2.0)
    gaps = seen.diff(dim=1).abs()
    no_neighbour = torch.full_like(seen[:, :1], torch.inf)
    left, right = torch.cat([no_neighbour, gaps], 1), torch.cat([gaps, no_neighbour], 1)
    return torch.minimum(left, right)


def _weights(hidden: _Hidden, line: Tensor, activation: Activation) -> dict[str, Tensor]:
    first, bias1 = hidden.slope[:, None] * line, -hidden.slope * hidden.middle
    second, bias2 = hidden.weight, hidden.bias
    signs = _signs(len(bias2))
    last, bias3 = signs[None], torch.tensor([-1.0 if len(bias2) % 2 == 0 else 0.0]).double()
    if activation == "relu":
        # hardtanh(z) = relu(z + 1) - relu(z - 1) - 1
        middle = bias2 - second.sum(1)
        first, bias1 = torch.cat([first, first]), torch.cat([bias1 + 1, bias1 - 1])
        both = torch.cat([second, -second], 1)
        second, bias2 = torch.cat([both, both]), torch.cat([middle + 1, middle - 1])
        last, bias3 = torch.cat([last, -last], 1), bias3 - last.sum(1)
    weights = zip(("layer1", "layer2", "output"), (first, second, last), strict=True)
    biases = zip(("layer1", "layer2", "output"), (bias1, bias2, bias3), strict=True)
    return {f"{name}.weight": w for name, w in weights} | {f"{name}.bias": b for name, b in biases}


def _network(widths: tuple[int, int], features: int, activation: Activation) -> nn.Sequential:
    times = 1 if activation == "hardtanh" else 2
    d1, d2 = (times * width for width in widths)
    between = nn.Hardtanh if activation == "hardtanh" else nn.ReLU
    # On "meta" no initial weights are drawn, so the global generator is left alone.
    with torch.device("meta"):
        modules: OrderedDict[str, nn.Module] = OrderedDict(
            layer1=nn.Linear(features, d1, dtype=torch.float64),
            activation1=between(),
            layer2=nn.Linear(d1, d2, dtype=torch.float64),
            activation2=between(),
            output=nn.Linear(d2, 1, dtype=torch.float64),
        )
    return nn.Sequential(modules).to_empty(device="cpu")


def _line(points: Tensor, seed: int) -> Tensor:
    """The random direction along which the closest points are furthest apart, for its spread."""
    generator = torch.Generator().manual_seed(seed)
    lines = torch.randn(_DIRECTIONS, points.shape[1], generator=generator, dtype=torch.float64)
    lines /= lines.norm(dim=1, keepdim=True)
    if len(points) == 1:
        return lines[0]
    places = (points @ lines.T).sort(0).values
    width = (places[-1] - places[0]).clamp_min(torch.finfo(torch.float64).tiny)
    return lines[(places.diff(dim=0).amin(0) / width).argmax()]


def _filled_up(place: Tensor, value: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The points, filled up to n with points of value 0 on the right."""
    missing = n - len(place)
    gap = float(place[-1] - place[0]) / (len(place) - 1) if len(place) > 1 else 1.0
    more = place[-1] + gap * torch.arange(1, missing + 1)
    return torch.cat([place, more]), torch.cat([value, torch.zeros(missing).double()])


def _signs(d2: int) -> Tensor:
    return 1.0 - 2.0 * (torch.arange(d2, dtype=torch.float64) % 2)


def _widths(n: int, widths: tuple[int, int] | None) -> tuple[int, int]:
    if widths is None:
        d2 = max(1, round(n**0.5))
        return -(-n // d2), d2
    d1, d2 = widths
    if d1 < 1 or d2 < 1 or d1 * d2 < n:
        raise ValueError(
            f"widths {d1} and {d2} hold {max(d1, 0) * max(d2, 0)} points, but there are {n}; "
            f"their product must be at least {n}."
        )
    return d1, d2


def _checked(inputs: Tensor, values: Tensor, activation: str) -> tuple[Tensor, Tensor]:
    if activation not in get_args(Activation):
        raise ValueError(f"activation is {quoted(activation)}; use 'relu' or 'hardtanh'.")
    points = torch.as_tensor(inputs).flatten(1).double()
    targets = torch.as_tensor(values).double()
    if targets.shape != (len(points),) or len(points) == 0:
        raise ValueError(
            f"values has shape {tuple(targets.shape)} for {len(points)} points; give one value "
            "per point, [n]."
        )
    if not points.isfinite().all() or not bool((targets.abs() <= 1).all()):
        raise ValueError(
            "inputs must be finite and values from -1 to 1; leave out or scale the others."
        )
    return points, targets
