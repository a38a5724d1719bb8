"""Histograms: how often the binned activations of two units fall together, for all pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache, partial
from itertools import combinations_with_replacement, pairwise
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from memviz.progress import slow

_SIDE = 640  # rows and columns of a product: large enough to be fast, small enough to cancel
_ONE_HOT = 2**22  # entries of a one-hot matrix: 4 MiB in int8, 16 in float32
_WHOLE = 2**28  # counts in a table that is given back whole: 2 GiB


def joint_histograms(codes: Tensor, bins: int, *, progress: bool = True) -> Tensor:
    """Counts of all pairs of bins of all pairs of units, as one table.

    Parameters
    ----------
    codes : integer ``[units, examples]``
        The bin of each activation, from 0 to ``bins - 1``.
    bins : int
        At least 2.
    progress : bool
        Show a bar when it takes more than a second.

    Returns
    -------
    int64 ``[units, units, bins, bins]``
        Entry ``[i, j, a, b]`` counts the examples where unit i is in bin a and unit j in bin b.

    Raises
    ------
    ValueError
        On codes that are not integers from 0 to ``bins - 1``, or a table above 2 GiB.

    Examples
    --------
    >>> joint_histograms(torch.tensor([[0, 1, 1], [0, 0, 1]]), bins=2)[0, 1]
    tensor([[1, 0],
            [1, 1]])
    """
    codes = _checked(codes, bins)
    units = len(codes)
    if units**2 * bins**2 > _WHOLE:
        raise ValueError(
            f"the table of {units} units and {bins} bins would take "
            f"{units**2 * bins**2 * 8 / 2**30:.1f} GiB; take it tile by tile (histogram_tiles)."
        )
    table = torch.empty(units, units, bins, bins, dtype=torch.int64, device=codes.device)
    for rows, columns, counts in histogram_tiles(codes, bins, progress=progress):
        table[rows, columns] = counts.long()
        table[columns, rows] = counts.long().permute(1, 0, 3, 2)
    return table


def binned_mutual_information(codes: Tensor, bins: int, *, progress: bool = True) -> Tensor:
    """Plug-in mutual information of all pairs of units, in nats.

    With counts c of N examples, ``I(i; j) = H(i) + H(j) - H(i, j)`` and ``H = ln N - Σ c ln c / N``
    (Cover & Thomas 2006, eq. 2.45); ``c ln c`` comes from a table, so no logarithm is taken per
    cell. The tables of counts are never held together.

    Parameters
    ----------
    codes : integer ``[units, examples]``
        The bin of each activation, from 0 to ``bins - 1``.
    bins : int
        At least 2. The plug-in estimate is biased upwards, about ``(bins - 1)² / 2N``.
    progress : bool
        Show a bar when it takes more than a second.

    Returns
    -------
    float64 ``[units, units]``
        Symmetric; the diagonal is each unit's entropy.

    Raises
    ------
    ValueError
        On codes that are not integers from 0 to ``bins - 1``.

    Examples
    --------
    >>> binned_mutual_information(torch.tensor([[0, 0, 1, 1], [0, 1, 0, 1]]), bins=2)
    tensor([[0.6931, 0.0000],
            [0.0000, 0.6931]], dtype=torch.float64)
    """
    codes = _checked(codes, bins)
    units, n = codes.shape
    weights = torch.arange(n + 1, dtype=torch.float64, device=codes.device)
    weights = torch.xlogy(weights, weights)
    joint = torch.zeros(units, units, dtype=torch.float64, device=codes.device)
    for rows, columns, counts in histogram_tiles(codes, bins, progress=progress):
        found = weights.index_select(0, counts.flatten()).view(*counts.shape[:2], -1).sum(-1)
        joint[rows, columns] = found
    joint = joint.triu() + joint.triu(1).T
    single = joint.diagonal()
    information = (joint - (single[:, None] + single) + weights[n]) / n
    return information.clamp_min_(0.0)


def histogram_tiles(
    codes: Tensor, bins: int, *, progress: bool = True
) -> Iterator[tuple[slice, slice, Tensor]]:
    """The joint histograms of all pairs, a tile of units by units at a time.

    Where bins are few, one product of one-hot matrices counts a whole tile: in int8 where that is
    quick, else in float32, which is exact below 2²⁴ (bfloat16 would round above 256). Where bins
    are many, ``np.bincount`` counts pair by pair. A short measurement decides; counts are the same.

    Yields
    ------
    rows, columns : slice
        Of units; tiles below the diagonal are left out, they are transposes of those above.
    counts : int32 ``[rows, columns, bins, bins]``

    Raises
    ------
    ValueError
        On codes that are not integers from 0 to ``bins - 1``.

    Examples
    --------
    >>> codes = torch.tensor([[0, 1, 1], [0, 0, 1]])
    >>> [counts.sum().item() for _, _, counts in histogram_tiles(codes, bins=2)]
    [12]
    """
    codes = _checked(codes, bins)
    units, n = codes.shape
    parts = -(-units // max(1, _SIDE // (bins - 1)))
    ends = [units * part // parts for part in range(parts + 1)]
    sides = [slice(*pair) for pair in pairwise(ends)]
    tiles = list(combinations_with_replacement(sides, 2))
    dtype, seconds = _fastest(codes.device)
    multiply = codes.is_cuda or n * (bins - 1) ** 2 * seconds < _seconds_a_pair(n)
    totals = torch.stack([torch.bincount(unit, minlength=bins) for unit in codes]).int()
    for rows, columns in slow(tiles, "pairs of units", progress=progress):
        if multiply:
            counts = _multiplied(codes[rows], codes[columns], bins, dtype)
            yield rows, columns, _completed(counts, totals[rows], totals[columns])
        else:
            yield rows, columns, _counted(codes[rows], codes[columns], bins)


def _checked(codes: Tensor, bins: int) -> Tensor:
    """Codes in the smallest type that holds them."""
    if codes.dim() != 2 or codes.is_floating_point() or codes.is_complex() or not codes.numel():
        raise ValueError(
            "codes must be integers [units, examples], at least one of each; "
            f"got {codes.dtype} {list(codes.shape)}."
        )
    if bins < 2:
        raise ValueError(f"bins is {bins}; it must be at least 2.")
    low, high = (int(end) for end in codes.aminmax())
    if low < 0 or high >= bins:
        raise ValueError(
            f"codes go from {low} to {high}; with {bins} bins they must be from 0 to {bins - 1}."
        )
    return codes.to(torch.uint8 if bins <= 256 else torch.int32)


def _multiplied(left: Tensor, right: Tensor, bins: int, dtype: torch.dtype) -> Tensor:
    """Counts of one tile but for the last bin, ``[left, right, bins - 1, bins - 1]``."""
    sides = left, right
    heights = [len(side) * (bins - 1) for side in sides]
    numbers = torch.arange(bins - 1, dtype=left.dtype, device=left.device)[:, None]
    counts = torch.zeros(heights, dtype=torch.int32, device=left.device)
    step = max(1, _ONE_HOT // max(heights))
    for start in range(0, left.shape[1], step):
        hot = []
        for side, height in zip(sides, heights, strict=True):
            part = side[:, None, start : start + step]
            ones = torch.empty(len(side), bins - 1, part.shape[2], dtype=dtype, device=left.device)
            hot.append(torch.eq(part, numbers, out=ones).view(height, -1))
        counts += _mm(*hot)
    return counts.view(len(left), bins - 1, len(right), bins - 1).transpose(1, 2)


def _completed(inner: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Counts with the last bin: what the others leave of each unit's totals."""
    counts = inner.new_empty(len(left), len(right), left.shape[1], right.shape[1])
    counts[..., :-1, :-1] = inner
    counts[..., :-1, -1] = left[:, None, :-1] - inner.sum(-1, dtype=torch.int32)
    counts[..., -1, :] = right - counts[..., :-1, :].sum(-2, dtype=torch.int32)
    return counts


def _counted(left: Tensor, right: Tensor, bins: int) -> Tensor:
    """Counts of one tile, pair by pair."""
    shifted = left.cpu().numpy().astype(np.intp) * bins
    others = right.cpu().numpy().astype(np.intp)
    counts = np.empty((len(left), len(right), bins * bins), np.int32)
    both = np.empty_like(shifted[0])
    for i, row in enumerate(shifted):
        for j, other in enumerate(others):
            counts[i, j] = np.bincount(np.add(row, other, out=both), minlength=bins * bins)
    return torch.from_numpy(counts).view(len(left), len(right), bins, bins)


def _mm(left: Tensor, right: Tensor) -> Tensor:
    """``left @ right.T`` of zeros and ones, int32; fewer than 2²⁴ columns, so float32 is exact."""
    if left.dtype == torch.int8 and left.shape[1] > 1:  # of one column torch 2.13 makes garbage
        with suppress(RuntimeError):  # some devices refuse some shapes
            return torch._int_mm(left, right.T)
    return torch.mm(left.float(), right.float().T).int()


def _synced(ones: Tensor) -> float:
    return _mm(ones, ones)[0, 0].item()


@cache
def _fastest(device: torch.device) -> tuple[torch.dtype, float]:
    """The type in which zeros and ones are multiplied fastest, and the seconds of one product.

    Measured, since int8 may be missing or no more than a plain loop.
    """
    found = []
    for dtype in (torch.int8, torch.float32):
        ones = torch.ones(512, 512, dtype=dtype, device=device)
        with suppress(AttributeError):
            found.append((_seconds(partial(_synced, ones)), dtype))
    seconds, dtype = min(found, key=lambda pair: pair[0])
    return dtype, seconds / 512**3


@cache
def _seconds_a_pair(n: int) -> float:
    """Of counting n examples in 30 × 30 bins."""
    codes = np.arange(n, dtype=np.intp) * 31 % 450
    return _seconds(lambda: np.bincount(np.add(codes, codes), minlength=900))


def _seconds(run: Callable[[], object]) -> float:
    """The shortest of a few."""
    times = []
    for _ in range(4):
        start = perf_counter()
        run()
        times.append(perf_counter() - start)
    return min(times)
