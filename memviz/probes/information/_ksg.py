"""Mutual information of pairs of units from nearest neighbours: the first KSG estimator."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from memviz.progress import slow

Scale = Literal["rank", "standard", "raw"]
JITTER = 1e-6  # of a unit's standard deviation
_AT_ONCE = 2**17  # values of a block of units: what stays in the cache
_STRIDE = 16  # places between two looks at which points are left


def ksg_mutual_information(
    x: Tensor, y: Tensor, k: int = 3, scale: Scale = "rank", *, seed: int = 0
) -> float:
    """Mutual information of two variables, in nats, from the distances to the k-th neighbours.

    ``ψ(n) + ψ(k) - <ψ(n_x + 1) + ψ(n_y + 1)>`` with the maximum norm (Kraskov, Stögbauer and
    Grassberger 2004, eq. 8, algorithm 1); a value below 0 is not cut off.

    Parameters
    ----------
    x, y : float ``[examples]``
    k : int
        Neighbours.
    scale : {"rank", "standard", "raw"}
        The estimate depends on the scale of the axes. ``"rank"`` takes ranks, so that a monotone
        map changes nothing; ``"standard"`` divides by the standard deviation; ``"raw"`` takes the
        values, as the released code of Bansal et al. 2022 does.
    seed : int
        Of the jitter that breaks ties. (Without it, units that are often 0 get values far below
        0, as they do in the released code.)

    Raises
    ------
    ValueError
        On other shapes, NaN, fewer examples than neighbours, or an unknown scale.

    Examples
    --------
    >>> x = torch.linspace(-1, 1, 400)
    >>> ksg_mutual_information(x, x**3) > 3
    True
    """
    if x.dim() != 1 or x.shape != y.shape:
        raise ValueError(
            f"x has shape {list(x.shape)} and y {list(y.shape)}; give one value an example, [n]."
        )
    return float(ksg_matrix(torch.stack([x, y], 1), k, scale, seed=seed, progress=False)[0, 1])


def ksg_matrix(
    values: Tensor, k: int = 3, scale: Scale = "rank", *, seed: int = 0, progress: bool = True
) -> Tensor:
    """The same of all pairs of units.

    Parameters
    ----------
    values : float ``[examples, units]``
    k, scale, seed
        As for :func:`ksg_mutual_information`.
    progress : bool
        Show a bar when it takes more than a second.

    Returns
    -------
    float64 ``[units, units]``
        Symmetric; 0 for a unit that is constant. The diagonal is NaN: the estimate of a variable
        with itself grows with the number of examples, and is no entropy.

    Examples
    --------
    >>> ksg_matrix(torch.randn(50, 3, generator=torch.Generator().manual_seed(0))).shape
    torch.Size([3, 3])
    """
    check_values(values)
    n, units = values.shape
    if not 1 <= k < n:
        raise ValueError(f"k is {k} for {n} examples; it must be from 1 to {n - 1}.")
    constant = values.amax(0) == values.amin(0)
    axes = _scaled(values.double().T, scale, seed).contiguous()
    ranked = axes.sort(1).values
    psi = torch.digamma(torch.arange(1, n + 1, dtype=torch.float64, device=values.device))
    found = torch.full((units, units), torch.nan, dtype=torch.float64, device=values.device)
    for i in slow(range(units - 1), "pairs of units", progress=progress):
        order = axes[i].argsort()
        for others in torch.arange(i + 1, units).split(max(1, _AT_ONCE // n)):
            part = slice(int(others[0]), int(others[-1]) + 1)
            columns = axes[part][:, order].contiguous()
            mean = _mean_psi(ranked[i], columns, ranked[part], k, psi)
            found[i, part] = found[part, i] = psi[n - 1] + psi[k - 1] - mean
    found[constant], found[:, constant] = 0.0, 0.0
    return found.fill_diagonal_(torch.nan)


def check_values(values: Tensor) -> None:
    """Raise one sentence where values are not finite numbers ``[examples, units]``."""
    if values.dim() != 2 or not values.is_floating_point() or not values.numel():
        raise ValueError(
            "values must be floats [examples, units], at least one of each; "
            f"got {values.dtype} {list(values.shape)}."
        )
    bad = ~values.isfinite()
    if bool(bad.any()):
        example, unit = bad.nonzero()[0].tolist()
        raise ValueError(
            f"unit {unit} is NaN or infinite on example {example}; leave out what makes it so."
        )


def _scaled(axes: Tensor, scale: Scale, seed: int) -> Tensor:
    """Values ``[units, examples]`` on the scale that distances are taken on, without ties."""
    if scale not in get_args(Scale):
        raise ValueError(f"there is no scale {scale!r}; choose from {', '.join(get_args(Scale))}.")
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(axes.shape, dtype=axes.dtype, generator=generator).to(axes.device)
    spread = axes.std(1, correction=0, keepdim=True)
    spread = torch.where(spread > 0, spread, torch.ones_like(spread))
    if scale == "rank":
        # Ties come in random order; then ranks are spread, since equal distances count twice.
        by_chance = noise.argsort(1)
        order = axes.gather(1, by_chance).argsort(dim=1, stable=True)
        ranks = torch.empty_like(order).scatter_(
            1,
            by_chance.gather(1, order),
            torch.arange(axes.shape[1], device=axes.device).expand_as(order),
        )
        between = torch.rand(axes.shape, dtype=axes.dtype, generator=generator).to(axes.device)
        return (ranks + between) / axes.shape[1]
    if scale == "standard":
        axes, spread = (axes - axes.mean(1, keepdim=True)) / spread, torch.ones_like(spread)
    return axes + JITTER * spread * (noise - 0.5)


def _mean_psi(x: Tensor, ys: Tensor, ranked: Tensor, k: int, psi: Tensor) -> Tensor:
    """Mean of ``ψ(n_x + 1) + ψ(n_y + 1)``: x sorted ``[n]``, ys in its order ``[units, n]``."""
    radius = _radii(x, ys, k)
    # The k-th neighbour lies on the edge and must not be counted for a rounded last digit.
    slack = 8 * torch.finfo(x.dtype).eps
    total = torch.zeros(len(ys), dtype=x.dtype, device=x.device)
    for line, points in ((x, x.expand_as(ys).contiguous()), (ranked, ys)):
        inside = radius - slack * torch.maximum(radius, points.abs())
        above = torch.searchsorted(line, points + inside, right=True)
        below = torch.searchsorted(line, points - inside)
        total += psi[(above - below - 1).clamp_(min=0)].mean(1)
    return total


def _radii(x: Tensor, ys: Tensor, k: int) -> Tensor:
    """Distance of each point to its k-th neighbour in the maximum norm, ``[units, n]``.

    Neighbours are sought among those next in x, place after place, until the next one is farther
    off in x alone than the k-th found so far: first for all points together, then for those left.
    """
    n = len(x)
    near = [torch.full_like(ys, torch.inf) for _ in range(k)]
    steps = min(int((k * n) ** 0.5) + k, n - 1)
    for step in range(1, steps + 1):
        apart = torch.maximum((ys[:, step:] - ys[:, :-step]).abs_(), x[step:] - x[:-step])
        for points in (slice(None, n - step), slice(step, None)):
            _insert([distance[:, points] for distance in near], apart)
    unit, point = (_next_in(x, torch.arange(n), steps + 1) < near[-1]).nonzero().T
    found = [distance[unit, point] for distance in near]
    while len(unit):
        for step in range(steps + 1, steps + _STRIDE + 1):
            for other in (point - step, point + step):
                held = other.clamp(0, n - 1)
                apart = torch.maximum(
                    (ys[unit, held] - ys[unit, point]).abs_(), (x[held] - x[point]).abs_()
                )
                _insert(found, apart.masked_fill_(held != other, torch.inf))
        steps += _STRIDE
        near[-1][unit, point] = found[-1]
        open_ = _next_in(x, point, steps + 1) < found[-1]
        unit, point, found = unit[open_], point[open_], [f[open_] for f in found]
    return near[-1]


def _insert(near: list[Tensor], apart: Tensor) -> None:
    """Take a distance among the k smallest, in place."""
    for m in range(len(near) - 1, 0, -1):
        torch.minimum(near[m], torch.maximum(near[m - 1], apart), out=near[m])
    torch.minimum(near[0], apart, out=near[0])


def _next_in(x: Tensor, points: Tensor, step: int) -> Tensor:
    """Distance in sorted x to the nearer of the two points so many places away."""
    edge = torch.full((step,), torch.inf, dtype=x.dtype, device=x.device)
    wide, place = torch.cat([-edge, x, edge]), points.to(x.device) + step
    return torch.minimum(wide[place] - wide[place - step], wide[place + step] - wide[place])
