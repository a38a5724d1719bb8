"""Mutual information of pairs of units from nearest neighbours: KSG, with ties counted."""

from __future__ import annotations

import warnings
from typing import Literal, get_args

import torch
from torch import Tensor

from memviz.checks import Seed, checked, quoted
from memviz.progress import slow

from ._neighbours import nearest_distances
from ._values import Values, check_values, floats, repeated_examples, whole

Scale = Literal["rank", "standard", "raw"]
_AT_ONCE = 2**17  # values of a block of units, so that it stays in the cache


@checked
def ksg_mutual_information(
    x: Values, y: Values, k: int = 3, scale: Scale = "rank", *, seed: Seed = 0
) -> float:
    """Mutual information of two variables, in nats, from the distances to the k-th neighbours.

    ``ψ(n) + ψ(k) - <ψ(n_x + 1) + ψ(n_y + 1)>`` with the maximum norm (Kraskov, Stögbauer and
    Grassberger 2004, eq. 8, algorithm 1), where n_x and n_y count the points strictly nearer than
    the k-th neighbour; values below 0 are not clipped.

    Ties are counted, nothing is jittered: where several points are as far away as the k-th
    neighbour, k becomes 1 plus the number of points strictly nearer; where the k-th neighbour is a
    copy of the point, k, n_x + 1 and n_y + 1 become the numbers of copies (Gao et al. 2017 for
    mixtures of values and densities, Ross 2014). So units that are often 0 are measured right,
    where the released code of Bansal et al. 2022 gives values far below 0. Without ties this is
    Kraskov's estimate itself, and the answer never depends on a seed or on the order of examples.

    Parameters
    ----------
    x, y : float ``[examples]``
        Tensors or arrays; computed in float64.
    k : int
        Number of neighbours.
    scale : {"rank", "standard", "raw"}
        The estimate depends on the scale of the axes. ``"rank"`` uses ranks (ties share their mean
        rank), so that monotone maps change nothing; ``"standard"`` divides by the standard
        deviation; ``"raw"`` uses the values, as the released code does.
    seed : int
        Without effect, for calls written when ties were broken at random.

    Raises
    ------
    ValueError
        If shapes differ, a value is NaN, there are too few examples, or ``scale`` is unknown.

    Warns
    -----
    UserWarning
        If more than 1 % of the examples seem to be copies of others: a repeated example is its own
        neighbour, so that the estimate is too high.

    Examples
    --------
    >>> x = torch.linspace(-1, 1, 400)
    >>> ksg_mutual_information(x, x**3) > 3
    True
    """
    x, y = floats(x, "x"), floats(y, "y")
    if x.dim() != 1 or x.shape != y.shape:
        raise ValueError(
            f"x has shape {list(x.shape)} and y {list(y.shape)}; give one value per example, [n]."
        )
    values = torch.stack([x.double(), y.double()], 1)
    _warn_of_copies(check_values(values))
    return float(neighbour_information(values, k, scale, progress=False)[0, 1])


@checked
def ksg_matrix(
    values: Values, k: int = 3, scale: Scale = "rank", *, seed: Seed = 0, progress: bool = True
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

    Warns
    -----
    UserWarning
        As for :func:`ksg_mutual_information`.

    Examples
    --------
    >>> ksg_matrix(torch.randn(50, 3, generator=torch.Generator().manual_seed(0))).shape
    torch.Size([3, 3])
    """
    values = check_values(values)
    _warn_of_copies(values)
    return neighbour_information(values, k, scale, progress=progress)


def neighbour_information(values: Tensor, k: int, scale: Scale, *, progress: bool) -> Tensor:
    """:func:`ksg_matrix` of checked values, without a warning of copies."""
    n, units = values.shape
    if not 1 <= whole(k, "k") < n:
        raise ValueError(f"k is {k} for {n} examples; use 1 to {n - 1}.")
    constant = values.amax(0) == values.amin(0)
    axes = _scaled(values.double().T, scale)
    ranked = axes.sort(1).values
    psi = torch.digamma(torch.arange(1, n + 1, dtype=torch.float64, device=values.device))
    information = torch.full((units, units), torch.nan, dtype=torch.float64, device=values.device)
    for i in slow(range(units - 1), "pairs of units", progress=progress):
        distinct = bool((ranked[i].diff() > 0).all())
        order = axes[i].argsort()
        for others in torch.arange(i + 1, units).split(max(1, _AT_ONCE // n)):
            block = slice(int(others[0]), int(others[-1]) + 1)
            columns = axes[block]
            # Equal x are ordered by y, so that neighbours among them stand side by side.
            columns = columns[:, order] if distinct else _by_both(axes[i], columns)
            mean = _mean_psi(ranked[i], columns.contiguous(), ranked[block], k, psi)
            information[i, block] = information[block, i] = psi[n - 1] + mean
    information[constant], information[:, constant] = 0.0, 0.0
    return information.fill_diagonal_(torch.nan)


def _warn_of_copies(values: Tensor) -> None:
    copies, n = repeated_examples(values), len(values)
    if copies * 100 > n:
        warnings.warn(
            f"{copies:,} of the {n:,} examples have the same values as another one; a repeated "
            "example is its own neighbour and makes the mutual information too high, so keep one "
            "of each.",
            stacklevel=3,
        )


def _scaled(axes: Tensor, scale: Scale) -> Tensor:
    """Values ``[units, examples]`` on the scale that distances are measured on; ties stay ties."""
    if scale not in get_args(Scale):
        raise ValueError(f"scale is {quoted(scale)}; choose from {', '.join(get_args(Scale))}.")
    axes = axes.contiguous()
    if scale == "raw":
        return axes
    # Everything is taken from sorted values: their sums do not depend on the order of examples.
    line = axes.sort(1).values
    if scale == "rank":
        return (torch.searchsorted(line, axes) + torch.searchsorted(line, axes, right=True)) / 2.0
    spread = line.std(1, correction=0, keepdim=True)
    spread = torch.where(spread > 0, spread, torch.ones_like(spread))
    return (axes - line.mean(1, keepdim=True)) / spread


def _by_both(x: Tensor, ys: Tensor) -> Tensor:
    """Each row of ys ``[units, n]`` in the order of x, and of its own values where x is equal."""
    order = ys.argsort(1)
    return ys.gather(1, order.gather(1, x[order].argsort(dim=1, stable=True)))


def _mean_psi(x: Tensor, ys: Tensor, ranked: Tensor, k: int, psi: Tensor) -> Tensor:
    """Mean of ``ψ(k) - ψ(n_x + 1) - ψ(n_y + 1)``: x sorted ``[n]``, ys in its order, per unit."""
    near = nearest_distances(x, ys, k)
    radius = near[-1]
    # The k-th neighbour lies on the edge; rounding must not count it as inside.
    slack = 8 * torch.finfo(x.dtype).eps
    lines = ((x, x.expand_as(ys).contiguous()), (ranked, ys))
    inside = [radius - slack * torch.maximum(radius, points.abs()) for _, points in lines]
    within = torch.minimum(*inside)
    copied = within <= 0
    counts = [torch.ones_like(radius, dtype=torch.int64)]
    for distance in near[:-1]:
        counts[0] += distance < within
    for (line, points), reach in zip(lines, inside, strict=True):
        reach = reach.masked_fill(copied, 0)
        above = torch.searchsorted(line, points + reach, right=True)
        counts.append(above - torch.searchsorted(line, points - reach))
    if bool(copied.any()):
        counts[0] = torch.where(copied, _copies(x, ys), counts[0])
    joint, of_x, of_y = (psi[count - 1] for count in counts)
    return (joint - of_x - of_y).mean(1)


def _copies(x: Tensor, ys: Tensor) -> Tensor:
    """How many points equal each point in both coordinates, itself among them, ``[units, n]``."""
    place = torch.arange(len(x), device=x.device)
    # Sorted by x, then by y: a run of copies begins where either changes.
    begins = torch.ones_like(ys, dtype=torch.bool)
    begins[:, 1:] = (ys[:, 1:] != ys[:, :-1]) | (x[1:] != x[:-1])
    run = begins.cumsum(1) - 1
    counts = torch.zeros_like(run).scatter_add_(1, run, torch.ones_like(place).expand_as(run))
    return counts.gather(1, run)
