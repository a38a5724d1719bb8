"""Binned measures: the entropy of units, and codes for their joint histograms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from memviz.checks import checked, quoted

from ._values import Values, check_values, whole

Edges = Literal["global", "layer", "unit"]


@checked
def unit_entropy(
    values: Values,
    bins: int = 100,
    edges: Edges = "global",
    layers: Sequence[str] | None = None,
) -> Tensor:
    """Shannon entropy of each unit's activations in bins of equal width, in nats.

    ``Σ_b p_b ln(1 / p_b)``, with p_b the share of examples in bin b (Bansal et al. 2022, section 2;
    their printed equation 1 multiplies by p once more in an average over the examples, while their
    code computes this one). The maximum falls into the last bin, as in a histogram; the released
    code gives it its own bin. At most ``ln(bins)``.

    Parameters
    ----------
    values : float ``[examples, units]``
        A tensor or an array.
    bins : int
        At least 2 and at most the number of examples.
    edges : {"global", "layer", "unit"}
        Which units share bins: all of them, from the least value of any to the largest, as in the
        paper; those of a layer; or none. Shared edges reflect the scale of a unit, its own do not.
    layers : sequence of str ``[units]``, optional
        The layer of each unit; needed for ``edges="layer"``.

    Returns
    -------
    float64 ``[units]``
        0 for a constant unit.

    Raises
    ------
    ValueError
        If there are fewer examples than bins, a value is NaN, ``edges`` is unknown, or ``layers``
        is missing.

    Examples
    --------
    >>> unit_entropy(torch.arange(10.0)[:, None], bins=10)  # ln 10
    tensor([2.3026], dtype=torch.float64)
    """
    values = check_values(values)
    low, high = bin_ranges(values, edges, layers)
    bins = check_bins(len(values), bins)
    width = torch.where(high > low, high - low, torch.ones_like(low))
    # Multiplied before it is divided: a value on the edge of a bin, 3 of 0 to 10 say, stays there.
    codes = ((values.double() - low) * bins / width).floor_().clamp_(0, bins - 1).long()
    counts = torch.zeros(bins, values.shape[1], dtype=torch.float64, device=values.device)
    counts.scatter_add_(0, codes, torch.ones_like(counts[:1]).expand(codes.shape))
    shares = counts / len(values)
    return torch.xlogy(shares, shares).sum(0).abs_()  # no term is positive


@checked
def bin_ranges(
    values: Values, edges: Edges = "global", layers: Sequence[str] | None = None
) -> tuple[Tensor, Tensor]:
    """Lowest and highest edge of each unit's bins, float64 ``[units]`` each.

    Examples
    --------
    >>> low, high = bin_ranges(torch.tensor([[0.0, -2.0], [1.0, 5.0]]), "global")
    >>> low.tolist(), high.tolist()
    ([-2.0, -2.0], [5.0, 5.0])
    """
    low, high = check_values(values).double().aminmax(dim=0)
    if edges == "unit":
        return low, high
    if edges == "global":
        return low.amin().expand_as(low).clone(), high.amax().expand_as(high).clone()
    if edges != "layer":
        raise ValueError(f"edges is {quoted(edges)}; choose from {', '.join(get_args(Edges))}.")
    if layers is None or len(layers) != len(low):
        count = "no" if layers is None else len(layers)
        raise ValueError(f"{count} layers are given for {len(low)} units; name the layer of each.")
    for layer in dict.fromkeys(layers):
        members = torch.tensor([name == layer for name in layers], device=values.device)
        low[members], high[members] = low[members].amin(), high[members].amax()
    return low, high


@checked
def quantile_codes(values: Values, bins: int = 8) -> Tensor:
    """The quantile bin of each activation, for joint histograms; equal values share a bin.

    A bin counts the smaller values, so that all zeros after a ReLU fall into the same bin.

    Parameters
    ----------
    values : float ``[examples, units]``
    bins : int
        At least 2 and at most the number of examples. The mutual information of independent units
        comes out at about ``(bins - 1)² / 2n`` instead of 0, so few bins are better than many.

    Returns
    -------
    int64 ``[units, examples]``
        As :func:`memviz.engine.activations.binned_mutual_information` expects them.

    Examples
    --------
    >>> quantile_codes(torch.tensor([[3.0, 0.0], [1.0, 0.0], [2.0, 0.0], [4.0, 9.0]]), bins=2)
    tensor([[1, 0, 0, 1],
            [0, 0, 0, 1]])
    """
    values = check_values(values)
    n = len(values)
    bins = check_bins(n, bins)
    axes = values.double().T.contiguous()
    smaller = torch.searchsorted(axes.sort(1).values, axes)
    return smaller * bins // n


def check_bins(n: int, bins: int) -> int:
    """Refuse fewer than 2 bins, or more bins than examples."""
    bins = whole(bins, "bins")
    if bins < 2:
        raise ValueError(f"bins is {bins}; it must be at least 2.")
    if n < bins:
        raise ValueError(
            f"there are {n} examples for {bins} bins; give at least {bins} examples, or fewer bins."
        )
    return bins
