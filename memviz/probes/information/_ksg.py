"""Mutual information of pairs of units from nearest neighbours: the first KSG estimator."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from memviz.progress import slow

Scale = Literal["rank", "standard", "raw"]
JITTER = 1e-6  # of a unit's standard deviation
_AT_ONCE = 2**17  # values of a block of units, so that it stays in the cache
_STRIDE = 16  # steps between two checks of which points are still open


def ksg_mutual_information(
    x: Tensor, y: Tensor, k: int = 3, scale: Scale = "rank", *, seed: int = 0
) -> float:
    """Mutual information of two variables, in nats, from the distances to the k-th neighbours.

    ``ψ(n) + ψ(k) - <ψ(n_x + 1) + ψ(n_y + 1)>`` with the maximum norm (Kraskov, Stögbauer and
    Grassberger 2004, eq. 8, algorithm 1); values below 0 are not clipped.

    Parameters
    ----------
    x, y : float ``[examples]``
    k : int
        Number of neighbours.
    scale : {"rank", "standard", "raw"}
        The estimate depends on the scale of the axes. ``"rank"`` uses ranks, so that monotone maps
        change nothing; ``"standard"`` divides by the standard deviation; ``"raw"`` uses the values,
        as the released code of Bansal et al. 2022 does.
    seed : int
        Seed of the jitter that breaks ties. (Without it, units that are often 0 get values far
        below 0, as in the released code.)

    Raises
    ------
    ValueError
        If shapes differ, a value is NaN, there are too few examples, or ``scale`` is unknown.

    Examples
    --------
    >>> x = torch.linspace(-1, 1, 400)
    >>> ksg_mutual_information(x, x**3) > 3
    True
    """
    if x.dim() != 1 or x.shape != y.shape:
        raise ValueError(
            f"x has shape {list(x.shape)} and y {list(y.shape)}; give one value per example, [n]."
        )
    return float(ksg_matrix(torch.stack([x, y], 1), k, scale, seed=seed, progress=False)[0, 1])


def ksg_matrix(
    values: Tensor, k: int = 3, scale: Scale = "rank", *, seed: int = 0, progress: bool = True
) -> Tensor:
    """Mutual information of all pairs of units, in nats (:func:`ksg_mutual_information`).

    Parameters
    ----------
    values : float ``[examples, units]``
    k, scale, seed
        As for :func:`ksg_mutual_information`.
    progress : bool
        Show a progress bar if it takes more than a second.

    Returns
    -------
    float64 ``[units, units]``
        Symmetric; 0 for a constant unit. The diagonal is NaN: the estimate for a variable with
        itself grows with the number of examples and is not an entropy.

    Raises
    ------
    ValueError
        As for :func:`ksg_mutual_information`.

    Examples
    --------
    >>> ksg_matrix(torch.randn(50, 3, generator=torch.Generator().manual_seed(0))).shape
    torch.Size([3, 3])
    """
    check_values(values)
    n, units = values.shape
    if not 1 <= k < n:
        raise ValueError(f"k is {k} for {n} examples; use 1 to {n - 1}.")
    constant = values.amax(0) == values.amin(0)
    axes = _scaled(values.double().T, scale, seed).contiguous()
    ranked = axes.sort(1).values
    psi = torch.digamma(torch.arange(1, n + 1, dtype=torch.float64, device=values.device))
    information = torch.full((units, units), torch.nan, dtype=torch.float64, device=values.device)
    for i in slow(range(units - 1), "pairs of units", progress=progress):
        order = axes[i].argsort()
        for others in torch.arange(i + 1, units).split(max(1, _AT_ONCE // n)):
            block = slice(int(others[0]), int(others[-1]) + 1)
            columns = axes[block][:, order].contiguous()
            mean = _mean_psi(ranked[i], columns, ranked[block], k, psi)
            information[i, block] = information[block, i] = psi[n - 1] + psi[k - 1] - mean
    information[constant], information[:, constant] = 0.0, 0.0
    return information.fill_diagonal_(torch.nan)


def check_values(values: Tensor) -> None:
    """Refuse anything but finite floats ``[examples, units]``."""
    if values.dim() != 2 or not values.is_floating_point() or not values.numel():
        raise ValueError(
            f"values are {values.dtype} {list(values.shape)}; give floats [examples, units], at "
            "least one of each."
        )
    bad = ~values.isfinite()
    if bool(bad.any()):
        example, unit = bad.nonzero()[0].tolist()
        raise ValueError(
            f"unit {unit} is NaN or infinite on example {example}; leave out that unit or example."
        )


def _scaled(axes: Tensor, scale: Scale, seed: int) -> Tensor:
    """Values ``[units, examples]`` on the scale that distances are measured on, without ties."""
    if scale not in get_args(Scale):
        raise ValueError(f"scale is {scale!r}; choose from {', '.join(get_args(Scale))}.")
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(axes.shape, dtype=axes.dtype, generator=generator).to(axes.device)
    spread = axes.std(1, correction=0, keepdim=True)
    spread = torch.where(spread > 0, spread, torch.ones_like(spread))
    if scale == "rank":
        # Ties are ranked at random, and ranks jittered, since equal distances would count twice.
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
    # The k-th neighbour lies on the edge; rounding must not count it as inside.
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

    Neighbours are searched outwards along x, until the next point is farther away in x alone than
    the k-th neighbour so far: first for all points together, then for those still open.
    """
    n = len(x)
    near = [torch.full_like(ys, torch.inf) for _ in range(k)]
    steps = min(int((k * n) ** 0.5) + k, n - 1)
    for step in range(1, steps + 1):
        apart = torch.maximum((ys[:, step:] - ys[:, :-step]).abs_(), x[step:] - x[:-step])
        for points in (slice(None, n - step), slice(step, None)):
            _insert([distance[:, points] for distance in near], apart)
    unit, point = (_next_in(x, torch.arange(n), steps + 1) < near[-1]).nonzero().T
    nearest_k = [distance[unit, point] for distance in near]
    while len(unit):
        for step in range(steps + 1, steps + _STRIDE + 1):
            for other in (point - step, point + step):
                clamped = other.clamp(0, n - 1)
                apart = torch.maximum(
                    (ys[unit, clamped] - ys[unit, point]).abs_(), (x[clamped] - x[point]).abs_()
                )
                _insert(nearest_k, apart.masked_fill_(clamped != other, torch.inf))
        steps += _STRIDE
        near[-1][unit, point] = nearest_k[-1]
        still_open = _next_in(x, point, steps + 1) < nearest_k[-1]
        unit, point, nearest_k = (
            unit[still_open],
            point[still_open],
            [f[still_open] for f in nearest_k],
        )
    return near[-1]


def _insert(near: list[Tensor], apart: Tensor) -> None:
    """Insert a distance into the k smallest, in place."""
    for m in range(len(near) - 1, 0, -1):
        torch.minimum(near[m], torch.maximum(near[m - 1], apart), out=near[m])
    torch.minimum(near[0], apart, out=near[0])


def _next_in(x: Tensor, points: Tensor, step: int) -> Tensor:
    """Distance in sorted x to the nearer of the two points ``step`` places away."""
    edge = torch.full((step,), torch.inf, dtype=x.dtype, device=x.device)
    wide, place = torch.cat([-edge, x, edge]), points.to(x.device) + step
    return torch.minimum(wide[place] - wide[place - step], wide[place + step] - wide[place])
