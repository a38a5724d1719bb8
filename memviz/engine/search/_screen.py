"""Screen: scores of all pairs from one low-precision product, and a bound on their error.

A score is ``s = u·v`` of a query's row u and an index row v (both scaled; v and, for distances, u
shifted, which changes no order), minus ``|v|²/2`` for distances. The product sees u', v' instead.
By Cauchy-Schwarz::

    |u·v - u'·v'| = |u'·(v - v') + (u - u')·v| <= |u'| |v - v'| + |u - u'| |v|

The norms are measured row by row, not assumed. Adding d products in float32, in whatever order,
errs by at most ``d 2⁻²³ |u'| |v'|`` where every addition keeps 24 bits, truncating ones included.
Rounding the result errs by at most half its last digit. A product that sums in less than float32
would break the bound; the CPU's does not, and on a GPU the result is asked for in float32.
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
_SHARE = 2.0**-22  # scaling, shifting: a few float32 roundings
_TINY = 2.0**-100  # what underflow may take from a score of rows with entries near 1


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows as the product sees them.

    Attributes
    ----------
    low : ``[n, features]``
    size : float32 ``[2, n]``
        Bounds on the length of each ``low`` row, and on its distance from the row that is meant.
    """

    low: Tensor
    size: Tensor


class Screen:
    """How the rows of one search are scaled, shifted and rounded, and the bound that follows.

    Parameters
    ----------
    sample : float32 ``[n, features]``
        Rows of the index; the shift is their mean. Any shift is right, this one makes scores small
        and so the bound tight.
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
        """The rows of queries, float32 ``[n, features]``."""
        found = self._rounded(self._query(rows), low)
        if self.measure != "euclidean":
            return found
        return Rows(torch.cat([found.low, found.low.new_ones(len(rows), 3)], 1), found.size)

    def index(self, rows: Tensor, low: torch.dtype) -> Rows:
        """The rows of the index, float32 ``[n, features]``."""
        n, d = rows.shape
        extra = 3 if self.measure == "euclidean" else 0
        found = Rows(rows.new_empty(n, d + extra, dtype=low), rows.new_empty(2, n))
        step = max(1, _CACHED // d)
        for start in range(0, n, step):
            part = slice(start, start + step)
            meant = self._moved(rows[part])
            rounded = self._rounded(meant, low)
            found.low[part, :d], found.size[:, part] = rounded.low, rounded.size
            if extra:
                found.low[part, d:] = _half_squares(meant)
        return found

    def error(self, queries: Tensor, rows: Tensor) -> Tensor:
        """Bound on the error of scores, from the sizes ``[2, n]`` of the rows on both sides."""
        meant = rows[0] + rows[1]
        terms = queries[0] * rows[0]
        if self.measure == "euclidean":
            terms = terms + 2 * meant * meant
        bound = queries[0] * rows[1] + queries[1] * meant + self.sums * terms
        return bound * (1 + _SHARE) + self.features * _TINY

    def at_least(self, queries: Tensor, values: Tensor) -> Tensor:
        """The scores of exact values (float64 ``[n]``, one a query), rounded down to float32."""
        meant = self._query(queries.double())
        shift = self.shift.double()
        if self.measure == "euclidean":
            scores = (meant.square().sum(1) - (values * self.scale).square()) / 2
        else:
            scaled = values * self.scale * _power(_peak(queries))[:, 0].double()
            scores = (values if self.measure == "cosine" else scaled) - meant @ shift
        reach = vector_norm(meant, dim=1) + vector_norm(shift) + self.features**0.5
        lower: Tensor = scores - self.features * 2.0**-44 * reach**2 - _SHARE * scores.abs()
        return lower.float()

    def _query(self, rows: Tensor) -> Tensor:
        if self.measure == "euclidean":
            return self._moved(rows)
        # The scale of a query changes nothing in its order.
        return unit(rows) if self.measure == "cosine" else rows * _power(_peak(rows))

    def _moved(self, rows: Tensor) -> Tensor:
        """Scaled, less the shift."""
        shift = self.shift.to(rows.dtype)
        if self.measure == "cosine":
            rows, length = _lengths(rows)
            return torch.addcmul(-shift, rows, 1 / length)
        return torch.add(-shift, rows, alpha=self.scale)

    def _rounded(self, meant: Tensor, low: torch.dtype) -> Rows:
        rounded = meant.to(low)
        norm = vector_norm(meant, dim=1) * (1 + self.sums)
        if self.measure == "cosine":  # behind a row of length 1 stands a float32 sum of squares
            off = (norm + self.away) * self.sums
        else:
            off = norm * _SHARE
        if low == torch.float32:
            off += norm * _float32_inputs()
        else:
            off += vector_norm(meant - rounded, dim=1) * (1 + self.sums)
        return Rows(rounded, torch.stack([norm + off, off]))


def _half_squares(rows: Tensor) -> Tensor:
    """``-|v|²/2`` as three bfloat16 numbers: 24 bits, whatever a product rounds its inputs to."""
    left = vector_norm(rows, dim=1, keepdim=True, dtype=torch.float64).square().div(-2)
    pieces = []
    for _ in range(3):
        pieces.append(left.bfloat16())
        left = left - pieces[-1]
    return torch.cat(pieces, 1)


def unit(rows: Tensor) -> Tensor:
    """Rows of length 1; none may be zero."""
    rows, length = _lengths(rows)
    return rows / length


def _lengths(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows, scaled where their squares could leave float32, and their lengths ``[n, 1]``."""
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
        # A bfloat16 result may be summed from bfloat16 parts there.
        return torch.mm(rows, queries.T, out_dtype=torch.float32)
    return torch.mm(rows, queries.T)


def _float32_inputs() -> float:
    """How far a float32 product may round its inputs, as a share of them (TF32, bfloat16)."""
    try:
        setting = torch.get_float32_matmul_precision()
    except RuntimeError:  # set for one backend only: take the coarsest there is
        setting = "medium"
    return {"highest": 0.0, "high": 2.0**-10}.get(setting, 2.0**-7)


@cache
def bfloat16_pays(device: torch.device) -> bool:
    """Whether a product is quicker in bfloat16 than in float32, by enough to re-score for."""
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
