"""Bins: the entropy of units over examples, and codes for their joint histograms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from ._ksg import check_values

Edges = Literal["global", "layer", "unit"]


def unit_entropy(
    values: Tensor,
    bins: int = 100,
    edges: Edges = "global",
    layers: Sequence[str] | None = None,
) -> Tensor:
    """Shannon entropy of each unit's activations in bins of equal width, in nats.

    ``Σ_b p_b ln(1 / p_b)``, p_b the share of the examples in bin b (Bansal et al. 2022, section 2;
    their printed equation 1 multiplies by p once more in an average over the examples, their code
    computes this one). The maximum falls into the last bin, as in a histogram; the released code
    gives it a bin of its own. At most ``ln(bins)``.

    Parameters
    ----------
    values : float ``[examples, units]``
    bins : int
        At least 2, and no more than there are examples.
    edges : {"global", "layer", "unit"}
        Which units share the bins: all of them, from the least value of any to the largest, as in
        the paper; those of a layer; or none. Shared edges see the scale of a unit, its own do not.
    layers : sequence of str ``[units]``
        The layer of each unit, for ``edges="layer"``.

    Returns
    -------
    float64 ``[units]``
        0 for a unit that is constant.

    Raises
    ------
    ValueError
        On fewer examples than bins, NaN, unknown edges, or layers that are missing.

    Examples
    --------
    >>> unit_entropy(torch.arange(10.0)[:, None], bins=10)  # ln 10
    tensor([2.3026], dtype=torch.float64)
    """
    low, high = bin_ranges(values, edges, layers)
    check_bins(len(values), bins)
    width = torch.where(high > low, high - low, torch.ones_like(low))
    codes = ((values.double() - low) / width * bins).floor_().clamp_(0, bins - 1).long()
    counts = torch.zeros(bins, values.shape[1], dtype=torch.float64, device=values.device)
    counts.scatter_add_(0, codes, torch.ones_like(counts[:1]).expand(codes.shape))
    shares = counts / len(values)
    return torch.xlogy(shares, shares).sum(0).abs_()  # no term is above 0


def bin_ranges(
    values: Tensor, edges: Edges = "global", layers: Sequence[str] | None = None
) -> tuple[Tensor, Tensor]:
    """Lower and upper end of each unit's bins, float64 ``[units]`` each.

    Examples
    --------
    >>> low, high = bin_ranges(torch.tensor([[0.0, -2.0], [1.0, 5.0]]), "global")
    >>> low.tolist(), high.tolist()
    ([-2.0, -2.0], [5.0, 5.0])
    """
    check_values(values)
    low, high = values.double().aminmax(dim=0)
    if edges == "unit":
        return low, high
    if edges == "global":
        return low.amin().expand_as(low).clone(), high.amax().expand_as(high).clone()
    if edges != "layer":
        raise ValueError(f"there are no edges {edges!r}; choose from {', '.join(get_args(Edges))}.")
    if layers is None or len(layers) != len(low):
        given = "no layers are" if layers is None else f"layers names {len(layers)} units and is"
        raise ValueError(f"{given} given for {len(low)} units; name the layer of each.")
    for layer in dict.fromkeys(layers):
        mine = torch.tensor([name == layer for name in layers], device=values.device)
        low[mine], high[mine] = low[mine].amin(), high[mine].amax()
    return low, high


def quantile_codes(values: Tensor, bins: int = 8) -> Tensor:
    """The quantile bin of each activation, for joint histograms; equal values share a bin.

    A value's bin tells how many values are smaller, so that the 0 behind a ReLU keeps to itself.

    Parameters
    ----------
    values : float ``[examples, units]``
    bins : int
        At least 2, and no more than there are examples. The mutual information of two units that
        have nothing in common comes out at about ``(bins - 1)² / 2n`` instead of 0, so few are
        better than many.

    Returns
    -------
    int64 ``[units, examples]``
        As :func:`memviz.engine.activations.binned_mutual_information` takes them.

    Examples
    --------
    >>> quantile_codes(torch.tensor([[3.0, 0.0], [1.0, 0.0], [2.0, 0.0], [4.0, 9.0]]), bins=2)
    tensor([[1, 0, 0, 1],
            [0, 0, 0, 1]])
    """
    check_values(values)
    n = len(values)
    check_bins(n, bins)
    axes = values.double().T.contiguous()
    smaller = torch.searchsorted(axes.sort(1).values, axes)
    return smaller * bins // n


def check_bins(n: int, bins: int) -> None:
    """Raise one sentence on bins that so many examples can't fill."""
    if bins < 2:
        raise ValueError(f"bins is {bins}; it must be at least 2.")
    if n < bins:
        raise ValueError(
            f"there are {n} examples for {bins} bins; give at least {bins} examples, or fewer bins."
        )
