"""Three layers, a square root of the points wide, and a fourth for classes (Yun et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ._points import Points, check_size, filled, network
from ._report import Memorizer


def yun(
    points: Points, widths: tuple[int, int] | None, activation: str, seed: int, classes: int = 0
) -> Memorizer:
    """Each unit of the second hidden layer owns some points: only there is it not saturated.

    ``d1`` and ``d2`` hard-tanh units hold ``d1 * d2`` points of one output; each output has its
    own ``d2``. With ReLUs it takes twice as many of both. With ``classes``, the one output is a
    code from -1 to 1, and four more ReLUs a class say whether it is the class's code.
    """
    distinct, outputs = points.distinct, points.values.shape[1]
    d1, d2 = _widths(len(distinct), widths)
    size = 4 * d1 * d2 * outputs + 2 * d1 * distinct.shape[1] + (2 * d2 * outputs) * outputs
    check_size(size, f"widths {d1:,} and {d2:,} make")
    # Project the points onto a line, sort them, and cut the line into d1 groups of d2 neighbours.
    line = points.line(seed)
    place = distinct @ line
    order = place.argsort()
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order))
    group, position = rank // d2, rank % d2
    # In every other group the second layer's input falls instead of rising: owners run backwards.
    owner = torch.where(group % 2 == 0, position, d2 - 1 - position)
    hidden = [
        _Hidden.of(*_filled_up(place[order], points.values[order, output], d1 * d2), d1, d2)
        for output in range(outputs)
    ]
    layers = _weights(hidden, line, activation)
    times = 1 if activation == "hardtanh" else 2
    sizes = [distinct.shape[1], times * d1, times * d2 * outputs]
    values, theorem = points.shown_values, times * (d1 + d2 * outputs)
    if classes:
        layers = _with_classes(layers, classes)
        sizes.append(4 * classes)
        values = _one_hot(points.given_values[:, 0], classes)
        theorem += 4 * classes
    model = network(activation, [*sizes, classes or outputs])
    units = torch.arange(times * outputs * d2).view(times * outputs, d2).T
    return Memorizer(
        filled(model, layers),
        points.given,
        values,
        "yun4" if classes else "yun",
        (d1, d2 * outputs, *([4 * classes] if classes else [])),
        activation,
        theorem,
        owner[points.which],
        "layer2",
        units,
        groups=group[points.which],
    )


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


def _weights(hidden: list[_Hidden], line: Tensor, activation: str) -> list[tuple[Tensor, Tensor]]:
    """Weight and bias of the three layers; the second has the units of one output after another."""
    first, bias1 = hidden[0].slope[:, None] * line, -hidden[0].slope * hidden[0].middle
    second = torch.cat([each.weight for each in hidden])
    bias2 = torch.cat([each.bias for each in hidden])
    d2 = len(hidden[0].bias)
    last = torch.block_diag(*[_signs(d2)[None]] * len(hidden))
    bias3 = torch.full((len(hidden),), -1.0 if d2 % 2 == 0 else 0.0, dtype=torch.float64)
    if activation == "relu":
        # hardtanh(z) = relu(z + 1) - relu(z - 1) - 1
        middle = bias2 - second.sum(1)
        first, bias1 = torch.cat([first, first]), torch.cat([bias1 + 1, bias1 - 1])
        both = torch.cat([second, -second], 1)
        second, bias2 = torch.cat([both, both]), torch.cat([middle + 1, middle - 1])
        last, bias3 = torch.cat([last, -last], 1), bias3 - last.sum(1)
    return [(first, bias1), (second, bias2), (last, bias3)]


def class_codes(classes: int) -> Tensor:
    """The value that stands for each class, from -1 to 1, ``[classes]``."""
    return torch.linspace(-1, 1, classes, dtype=torch.float64)


def _one_hot(codes: Tensor, classes: int) -> Tensor:
    nearest = (codes[:, None] - class_codes(classes)).abs().argmin(1)
    return torch.nn.functional.one_hot(nearest, classes).double()


def _with_classes(layers: list[tuple[Tensor, Tensor]], classes: int) -> list[tuple[Tensor, Tensor]]:
    """Instead of the code, four ReLUs a class: 1 on half the spacing around its code, 0 beyond."""
    *before, (weight, bias) = layers
    spacing = 2 / (classes - 1)
    edges = torch.tensor([1 / 2, 1 / 4, -1 / 4, -1 / 2], dtype=torch.float64) * spacing
    shifts = (edges - class_codes(classes)[:, None]).flatten()
    signs = torch.tensor([[1.0, -1.0, -1.0, 1.0]], dtype=torch.float64) * 4 / spacing
    return [
        *before,
        (weight.expand(4 * classes, -1), bias + shifts),
        (torch.block_diag(*[signs] * classes), torch.zeros(classes, dtype=torch.float64)),
    ]


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
