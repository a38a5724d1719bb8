"""Screen: scores of all pairs from one low-precision product, and a bound on their error.

A score is ``s = u·v`` of a query's row u and an index row v (both scaled; v and, for distances, u
shifted, which changes no order), minus ``|v|²/2`` for distances. The product sees rounded u', v'
instead. By Cauchy-Schwarz::

    |u·v - u'·v'| = |u'·(v - v') + (u - u')·v| <= |u'| |v - v'| + |u - u'| |v|

The norms are measured row by row, not assumed. Adding d products in float32, in any order, errs by
at most ``d 2⁻²³ |u'| |v'`` if every addition keeps 24 bits, even if it truncates. Rounding the
result errs by at most half its last digit. A product that sums in less than float32 would break the
bound; the CPU's does not, and on a GPU we ask for a float32 result.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from time import perf_counter
from typing import Literal

import torch
from torch import Tensor
from torch.linalg import vector_norm

Measure = Literal["cosine", "euclidean", "dot"]

_CACHED = 2**18  # entries whose float32 copies stay in the cache
_SHARE = 2.0**-22  # bounds the few float32 roundings of scaling and shifting
_TINY = 2.0**-100  # bounds what underflow takes from a score of rows with entries near 1


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows as the product sees them.

    Attributes
    ----------
    low : ``[n, features]``
    size : float32 ``[2, n]``
        Bounds on the length of each ``low`` row, and on its distance from the exact row.
    """

    low: Tensor
    size: Tensor


class Screen:
    """How the rows of one search are scaled, shifted and rounded, and the bound that follows.

    Parameters
    ----------
    sample : float32 or float64 ``[n, features]``
        Rows of the index. Their mean is the shift: any shift is right, and this one makes scores
        small and so the bound tight.
    largest : float
        The largest absolute entry of the index (and, for distances, of the queries).
    measure : "cosine", "euclidean" or "dot"
    """

    def __init__(self, sample: Tensor, largest: float, measure: Measure) -> None:
        self.measure = measure
        self.features = sample.shape[1]
        self.sums = (self.features + 8) * 2.0**-23
        self.scale = float(_power(torch.tensor(largest)))
        self.shift = torch.zeros_like(sample[0])
        self.shift = self._moved(sample).mean(0)
        self.away = float(vector_norm(self.shift))

    def queries(self, rows: Tensor, low: torch.dtype) -> Rows:
        """The queries ``[n, features]``, float32 or float64, as the product sees them."""
        rounded = self._rounded(self._query(rows), low)
        if self.measure != "euclidean":
            return rounded
        # Three columns of ones add up the index's three columns of -|v|²/2.
        return Rows(torch.cat([rounded.low, rounded.low.new_ones(len(rows), 3)], 1), rounded.size)

    def index(self, rows: Tensor, low: torch.dtype) -> Rows:
        """Rows of the index ``[n, features]``, float32 or float64, as the product sees them."""
        n, d = rows.shape
        extra = 3 if self.measure == "euclidean" else 0
        sizes = rows.new_empty(2, n, dtype=torch.float32)
        prepared = Rows(rows.new_empty(n, d + extra, dtype=low), sizes)
        step = max(1, _CACHED // d)
        for start in range(0, n, step):
            part = slice(start, start + step)
            exact = self._moved(rows[part])
            rounded = self._rounded(exact, low)
            prepared.low[part, :d], prepared.size[:, part] = rounded.low, rounded.size
            if extra:
                prepared.low[part, d:] = _half_squares(exact)
        return prepared

    def error(self, queries: Tensor, rows: Tensor) -> Tensor:
        """Bound on the error of scores, from the sizes ``[2, n]`` of the rows on both sides."""
        exact = rows[0] + rows[1]  # bounds the length of the exact row
        terms = queries[0] * rows[0]
        if self.measure == "euclidean":
            terms = terms + 2 * exact * exact  # the columns of -|v|²/2 are summed too
        bound = queries[0] * rows[1] + queries[1] * exact + self.sums * terms
        return bound * (1 + _SHARE) + self.features * _TINY

    def at_least(self, queries: Tensor, values: Tensor) -> Tensor:
        """Lower bounds, float32, on the scores of exact values (float64 ``[n]``, one per query)."""
        exact = self._query(queries.double())
        shift = self.shift.double()
        if self.measure == "euclidean":
            scores = (exact.square().sum(1) - (values * self.scale).square()) / 2
        else:
            scaled = values * self.scale * _power(_peak(queries))[:, 0].double()
            scores = (values if self.measure == "cosine" else scaled) - exact @ shift
        reach = vector_norm(exact, dim=1) + vector_norm(shift) + self.features**0.5
        lower: Tensor = scores - self.features * 2.0**-44 * reach**2 - _SHARE * scores.abs()
        return lower.float()

    def _query(self, rows: Tensor) -> Tensor:
        if self.measure == "euclidean":
            return self._moved(rows)
        # The scale of a query does not change the order of its scores.
        return unit(rows) if self.measure == "cosine" else rows * _power(_peak(rows))

    def _moved(self, rows: Tensor) -> Tensor:
        """Rows, scaled, minus the shift."""
        shift = self.shift.to(rows.dtype)
        if self.measure == "cosine":
            rows, length = _lengths(rows)
            return torch.addcmul(-shift, rows, 1 / length)
        return torch.add(-shift, rows, alpha=self.scale)

    def _rounded(self, exact: Tensor, low: torch.dtype) -> Rows:
        """Rows in low precision, with bounds on their length and on their distance from exact."""
        rounded = exact.to(low)
        norm = vector_norm(exact, dim=1) * (1 + self.sums)
        if self.measure == "cosine":  # the length divided by is itself a rounded float32 sum
            off = (norm + self.away) * self.sums
        else:
            off = norm * _SHARE
        if low == torch.float32:
            off += norm * _float32_inputs()
        if low != exact.dtype:
            off += vector_norm(exact - rounded, dim=1) * (1 + self.sums)
        sizes = torch.stack([norm + off, off])
        # The sizes of float64 rows are rounded to float32 here, and must not become smaller.
        return Rows(
            rounded, sizes if exact.dtype == torch.float32 else (sizes * (1 + _SHARE)).float()
        )


def _half_squares(rows: Tensor) -> Tensor:
    """``-|v|²/2`` as three bfloat16 numbers: 24 bits, whatever precision a product has."""
    left = vector_norm(rows, dim=1, keepdim=True, dtype=torch.float64).square().div(-2)
    pieces = []
    for _ in range(3):
        pieces.append(left.bfloat16())
        left = left - pieces[-1]
    return torch.cat(pieces, 1)


def unit(rows: Tensor) -> Tensor:
    """The rows scaled to length 1; none may be zero."""
    rows, length = _lengths(rows)
    return rows / length


def _lengths(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows, rescaled if their squares could over- or underflow, and their lengths ``[n, 1]``."""
    length = vector_norm(rows, dim=1, keepdim=True)
    if bool((length < 2.0**-50).any()) or bool((length > 2.0**50).any()):
        rows = rows * _power(_peak(rows))
        length = vector_norm(rows, dim=1, keepdim=True)
    return rows, length


def _peak(rows: Tensor) -> Tensor:
    return rows.abs().amax(1, keepdim=True)


def _power(peak: Tensor) -> Tensor:
    """The power of two that brings a largest entry near 1: scaling by it is exact."""
    exponent = torch.frexp(peak).exponent.clamp(-126, 126)
    return torch.ldexp(torch.ones_like(peak), -exponent)


def product(rows: Tensor, queries: Tensor) -> Tensor:
    """Scores ``[rows, queries]``, summed in float32."""
    if rows.is_cuda and rows.dtype == torch.bfloat16:
        # With a bfloat16 result, partial sums may be rounded to bfloat16 there.
        return torch.mm(rows, queries.T, out_dtype=torch.float32)
    return torch.mm(rows, queries.T)


def _float32_inputs() -> float:
    """The relative error to which a float32 product may round its inputs (TF32, bfloat16)."""
    try:
        setting = torch.get_float32_matmul_precision()
    except RuntimeError:  # set for one backend only: take the coarsest there is
        setting = "medium"
    return {"highest": 0.0, "high": 2.0**-10}.get(setting, 2.0**-7)


@cache
def bfloat16_pays(device: torch.device) -> bool:
    """Whether bfloat16 products are so much faster than float32 that scoring again pays."""
    seconds = []
    for dtype in (torch.float32, torch.bfloat16):
        rows = torch.ones(1024, 256, dtype=dtype, device=device)
        times = []
        try:
            for _ in range(4):
                start = perf_counter()
                product(rows, rows[:512])[0, 0].item()
                times.append(perf_counter() - start)
        except (RuntimeError, TypeError):  # no such product on this device or in this torch
            return False
        seconds.append(min(times))
    return seconds[1] * 1.5 < seconds[0]
