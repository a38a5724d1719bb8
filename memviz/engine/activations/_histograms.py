"""Histograms: joint counts of the binned activations of two units, for all pairs of units."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache, partial
from itertools import combinations_with_replacement, pairwise
from numbers import Integral
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memviz.progress import slow

_SIDE = 640  # rows and columns of a product: large enough to be fast, small enough to interrupt
_ONE_HOT = 2**22  # entries of a one-hot matrix: 4 MiB in int8, 16 in float32
_WHOLE = 2**28  # most counts of a table that is returned whole: 2 GiB
_SMALL = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def joint_histograms(codes: Tensor | np.ndarray, bins: int, *, progress: bool = True) -> Tensor:
    """Counts of all pairs of bins of all pairs of units, in one table.

    Parameters
    ----------
    codes : integer ``[units, examples]``
        The bin of each activation, from 0 to ``bins - 1``.
    bins : int
        At least 2.
    progress : bool

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
            f"{units**2 * bins**2 * 8 / 2**30:.1f} GiB; use histogram_tiles, tile by tile."
        )
    table = torch.empty(units, units, bins, bins, dtype=torch.int64, device=codes.device)
    for rows, columns, counts in histogram_tiles(codes, bins, progress=progress):
        table[rows, columns] = counts.long()
        table[columns, rows] = counts.long().permute(1, 0, 3, 2)
    return table


def binned_mutual_information(
    codes: Tensor | np.ndarray, bins: int, *, progress: bool = True
) -> Tensor:
    """Plug-in mutual information of all pairs of units, in nats.

    With counts c of N examples, ``I(i; j) = H(i) + H(j) - H(i, j)`` and ``H = ln N - Σ c ln c / N``
    (Cover & Thomas 2006, eq. 2.45).

    Parameters
    ----------
    codes : integer ``[units, examples]``
        The bin of each activation, from 0 to ``bins - 1``.
    bins : int
        At least 2. The plug-in estimate is biased upwards by about ``(bins - 1)² / 2N``.
    progress : bool

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
    # c ln c is looked up in a table: a logarithm per cell would cost more than the counting.
    c_log_c = torch.arange(n + 1, dtype=torch.float64, device=codes.device)
    c_log_c = torch.xlogy(c_log_c, c_log_c)
    joint = torch.zeros(units, units, dtype=torch.float64, device=codes.device)
    for rows, columns, counts in histogram_tiles(codes, bins, progress=progress):
        terms = c_log_c.index_select(0, counts.flatten())
        joint[rows, columns] = terms.view(*counts.shape[:2], -1).sum(-1)
    joint = joint.triu() + joint.triu(1).T
    # A unit with itself has counts on the diagonal of its table alone, so this is its own sum.
    single = joint.diagonal()
    information = (joint - (single[:, None] + single) + c_log_c[n]) / n
    return information.clamp_min_(0.0)


def histogram_tiles(
    codes: Tensor | np.ndarray, bins: int, *, progress: bool = True
) -> Iterator[tuple[slice, slice, Tensor]]:
    """The joint histograms of all pairs, one tile of units × units at a time.

    With few bins, a product of one-hot matrices counts a whole tile; with many, ``np.bincount``
    counts pair by pair. A short measurement decides which; the counts are the same.

    Yields
    ------
    rows, columns : slice
        The units; tiles below the diagonal are left out, as transposes of those above.
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
    multiply = codes.is_cuda or n * (bins - 1) ** 2 * seconds < _seconds_per_pair(n)
    totals = torch.stack([torch.bincount(unit, minlength=bins) for unit in codes]).int()
    for rows, columns in slow(tiles, "pairs of units", progress=progress):
        if multiply:
            counts = _multiplied(codes[rows], codes[columns], bins, dtype)
            yield rows, columns, _completed(counts, totals[rows], totals[columns])
        else:
            yield rows, columns, _counted(codes[rows], codes[columns], bins)


def _checked(given: Any, bins: Any) -> Tensor:
    """Codes, of a tensor or an array, in the smallest dtype that holds them."""
    codes = torch.from_numpy(np.ascontiguousarray(given)) if _is_integers(given) else given
    if not isinstance(codes, Tensor) or codes.is_meta:
        kind = "a meta tensor" if isinstance(codes, Tensor) else type(given).__name__
        raise ValueError(f"codes must be integers [units, examples]; got {kind}.")
    if codes.dim() != 2 or codes.is_floating_point() or codes.is_complex() or not codes.numel():
        raise ValueError(
            "codes must be integers [units, examples], at least one of each; "
            f"got {codes.dtype} {list(codes.shape)}."
        )
    if not isinstance(bins, Integral) or int(bins) < 2:
        raise ValueError(f"bins is {bins}; it must be a whole number, at least 2.")
    codes = codes if codes.dtype in _SMALL else codes.long()
    low, high = (int(end) for end in codes.aminmax())
    if low < 0 or high >= bins:
        raise ValueError(
            f"codes range from {low} to {high}; with {bins} bins they must be 0 to {bins - 1}."
        )
    return codes.to(torch.uint8 if bins <= 256 else torch.int32)


def _is_integers(given: Any) -> bool:
    return isinstance(given, np.ndarray) and given.dtype.kind in "iu"


def _multiplied(left: Tensor, right: Tensor, bins: int, dtype: torch.dtype) -> Tensor:
    """Counts of one tile without the last bin, ``[left, right, bins - 1, bins - 1]``."""
    sides = left, right
    heights = [len(side) * (bins - 1) for side in sides]
    bin_numbers = torch.arange(bins - 1, dtype=left.dtype, device=left.device)[:, None]
    counts = torch.zeros(heights, dtype=torch.int32, device=left.device)
    step = max(1, _ONE_HOT // max(heights))
    for start in range(0, left.shape[1], step):
        one_hot = []
        for side, height in zip(sides, heights, strict=True):
            part = side[:, None, start : start + step]
            room = torch.empty(len(side), bins - 1, part.shape[2], dtype=dtype, device=left.device)
            # Written straight into the product's dtype: no bool matrix to convert.
            one_hot.append(torch.eq(part, bin_numbers, out=room).view(height, -1))
        counts += _mm(*one_hot)
    return counts.view(len(left), bins - 1, len(right), bins - 1).transpose(1, 2)


def _completed(inner: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Counts with the last bin: what remains of each unit's totals."""
    counts = inner.new_empty(len(left), len(right), left.shape[1], right.shape[1])
    counts[..., :-1, :-1] = inner
    counts[..., :-1, -1] = left[:, None, :-1] - inner.sum(-1, dtype=torch.int32)
    counts[..., -1, :] = right - counts[..., :-1, :].sum(-2, dtype=torch.int32)
    return counts


def _counted(left: Tensor, right: Tensor, bins: int) -> Tensor:
    """Counts of one tile, pair by pair."""
    # bins * a + b numbers the pairs of bins; intp is what bincount takes without a copy.
    left_codes = left.cpu().numpy().astype(np.intp) * bins
    right_codes = right.cpu().numpy().astype(np.intp)
    counts = np.empty((len(left), len(right), bins * bins), np.int32)
    pair_codes = np.empty_like(left_codes[0])
    for i, a in enumerate(left_codes):
        for j, b in enumerate(right_codes):
            counts[i, j] = np.bincount(np.add(a, b, out=pair_codes), minlength=bins * bins)
    return torch.from_numpy(counts).view(len(left), len(right), bins, bins)


def _mm(left: Tensor, right: Tensor) -> Tensor:
    """``left @ right.T`` of zeros and ones, int32."""
    if left.dtype == torch.int8 and left.shape[1] > 1:  # torch 2.13 is wrong for one column
        with suppress(RuntimeError):  # some devices refuse some shapes
            return torch._int_mm(left, right.T)
    # Exact: a step has fewer than 2²⁴ columns. bfloat16 would round counts above 256.
    return torch.mm(left.float(), right.float().T).int()


def _synced(ones: Tensor) -> float:
    return _mm(ones, ones)[0, 0].item()  # item() waits for a GPU


@cache
def _fastest(device: torch.device) -> tuple[torch.dtype, float]:
    """The dtype in which zeros and ones are multiplied fastest, and its seconds per multiply-add.

    Measured: int8 products are missing on some devices and a slow loop on others.
    """
    timed = []
    for dtype in (torch.int8, torch.float32):
        ones = torch.ones(512, 512, dtype=dtype, device=device)
        with suppress(AttributeError):  # this torch has no _int_mm
            timed.append((_seconds(partial(_synced, ones)), dtype))
    seconds, dtype = min(timed, key=lambda pair: pair[0])
    return dtype, seconds / 512**3


@cache
def _seconds_per_pair(n: int) -> float:
    """The time ``np.bincount`` takes for n examples in 30 × 30 bins."""
    codes = np.arange(n, dtype=np.intp) * 31 % 450
    return _seconds(lambda: np.bincount(np.add(codes, codes), minlength=900))


def _seconds(run: Callable[[], object]) -> float:
    """The shortest of a few runs."""
    times = []
    for _ in range(4):
        start = perf_counter()
        run()
        times.append(perf_counter() - start)
    return min(times)
