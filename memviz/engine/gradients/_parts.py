"""What one call contributes to a parameter's gradient, per example, and the norms from it.

``squares`` are the squared norms of all examples, where possible without the gradients themselves
("ghost norms"): Goodfellow 2015 (arXiv:1510.01799) for linear layers, Bu et al. 2022
(arXiv:2205.10683) over unfolded inputs for convolutions. Here a convolution's Gram matrix is that
of the input itself, summed over the shifts of the kernel, so nothing is unfolded.
``gradients`` are those of a few examples, to be added where a parameter is used more than once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

# What a value of a gradient (written and read again) and of a Gram matrix cost, in multiply-adds:
# fitted to one thread of a Zen 4 core in float32; benchmarks/gradient_norms.py tests the choice.
_OF_GRADIENT = 50
_OF_GRAM = 20
# Values worked on at once: few enough to stay in cache.
_BLOCK = 2**17
# A Gram sum this many times smaller than the sum of its absolute terms has lost too many digits.
_CANCELLED = 64

Shifts = list[tuple[slice, slice]]


class Part(Protocol):
    """What one call contributes to the gradient of one source."""

    def squares(self) -> Tensor:
        """Squared norm of each example's gradient, ``[n]``."""

    def gradients(self, rows: slice) -> Tensor:
        """Gradients of some examples, ``[rows, ...]``, flattened in the source's order."""


@dataclass
class Summed:
    """Gradients small enough to hold, ``[n, ...]``: of biases, scales, position embeddings."""

    values: Tensor

    def squares(self) -> Tensor:
        """Squared norms, ``[n]``."""
        return self.values.flatten(1).square().sum(1)

    def gradients(self, rows: slice) -> Tensor:
        """The values themselves."""
        return self.values[rows]


@dataclass
class Product:
    """A linear layer: inputs ``[n, p, in]`` and gradients ``[n, p, out]`` at p positions."""

    a: Tensor
    g: Tensor
    transposed: bool = False

    def squares(self) -> Tensor:
        """|Σ_p g_p a_pᵀ|² = Σ_pq (a_p·a_q)(g_p·g_q), or from the product if that is cheaper."""
        n, positions, features = self.a.shape
        size = features * self.g.shape[2]
        if positions == 1:  # an outer product: its norm is the product of two norms
            return self.a.square().sum((1, 2)) * self.g.square().sum((1, 2))
        if positions**2 * (features + self.g.shape[2] + _OF_GRAM) > size * (
            positions + _OF_GRADIENT
        ):
            return _squares(self, n, size)
        squares = []
        for rows in _blocks(n, positions**2):
            a, g = self.a[rows], self.g[rows]
            squares.append(_inner(self, rows, a @ a.mT, g @ g.mT))
        return torch.cat(squares)

    def gradients(self, rows: slice) -> Tensor:
        """``gᵀ a``; ``aᵀ g`` if the weight is stored as inputs × outputs."""
        a, g = self.a[rows], self.g[rows]
        return a.mT @ g if self.transposed else g.mT @ a


@dataclass
class Lookup:
    """An embedding: indices ``[n, p]`` and gradients ``[n, p, features]``."""

    ids: Tensor
    g: Tensor
    size: int

    def squares(self) -> Tensor:
        """Gradients of equal indices are added first, without the whole tables."""
        n, device = len(self.ids), self.ids.device
        # One key per example and index, so that equal indices of two examples stay apart.
        keys = self.ids + self.size * torch.arange(n, device=device)[:, None]
        known, place = keys.unique(return_inverse=True)
        sums = self.g.new_zeros(len(known), self.g.shape[2])
        sums.index_add_(0, place.flatten(), self.g.flatten(0, 1))
        return self.g.new_zeros(n).index_add_(0, known // self.size, sums.square().sum(1))

    def gradients(self, rows: slice) -> Tensor:
        """The whole tables, mostly zero, ``[rows, size, features]``."""
        ids, g = self.ids[rows], self.g[rows]
        keys = ids + self.size * torch.arange(len(ids), device=ids.device)[:, None]
        tables = g.new_zeros(len(ids) * self.size, g.shape[2])
        tables.index_add_(0, keys.flatten(), g.flatten(0, 1))
        return tables.view(len(ids), self.size, -1)


@dataclass
class Convolution:
    """Inputs ``[n, k, channels, ...]``, gradients ``[n, k, units, ...]``: k images per example."""

    a: Tensor
    g: Tensor
    weight: Tensor
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    output_padding: tuple[int, ...]
    transposed: bool
    groups: int

    def squares(self) -> Tensor:
        """From shifted Gram matrices if they are cheaper, else from each example's gradient."""
        n, size = len(self.a), self.weight.numel()
        plain = self.weight.dim() == 4 and not self.transposed and self.groups == 1
        if plain and self.weight[0, 0].numel() <= self.stride[0] * self.stride[1]:
            return self._patches().squares()
        after = self.g[0, 0, 0].numel()
        if not plain or self.a.shape[1] > 1 or self._gram_cost() > size * (after + _OF_GRADIENT):
            return _squares(self, n, size)
        squares = [_inner(self, rows, *self._grams(rows)) for rows in _blocks(n, after**2)]
        return torch.cat(squares)

    def gradients(self, rows: slice) -> Tensor:
        """Each example's weight gradient, by torch's own kernel."""
        return torch.stack(
            [
                torch.ops.aten.convolution_backward(
                    *(g, a, self.weight, None, self.stride, self.padding, self.dilation),
                    *(self.transposed, self.output_padding, self.groups, (False, True, False)),
                )[1]
                for a, g in zip(self.a[rows], self.g[rows], strict=True)
            ]
        )

    def _patches(self) -> Product:
        """The linear layer on patches that a convolution without overlap is."""
        a = F.unfold(
            self.a.flatten(0, 1),
            self.weight.shape[2:],
            dilation=self.dilation,
            padding=self.padding,
            stride=self.stride,
        )
        positions = a.unflatten(0, self.a.shape[:2]).transpose(2, 3).flatten(1, 2)
        return Product(positions, self.g.flatten(3).transpose(2, 3).flatten(1, 2))

    def _gram_cost(self) -> int:
        """Cost of both Gram matrices and the shifts, in multiply-adds."""
        units, channels, *kernel = self.weight.shape
        after = self.g[0, 0, 0].numel() ** 2
        before = [phase[0, 0].numel() ** 2 for phase, _, _ in self._phases(slice(0, 1))]
        shifts = sum(kernel) * len(before) * after
        return sum(before) * channels + after * units + shifts * _OF_GRAM

    def _grams(self, rows: slice) -> tuple[Tensor, Tensor]:
        """Gram matrices of the patches and of the gradients, ``[rows, positions, positions]``."""
        g = self.g[rows].flatten(3)[:, 0]
        high, wide = self.g.shape[3:]
        patches = g.new_zeros(len(g), high, wide, high, wide)
        for phase, down, across in self._phases(rows):
            height, width = phase.shape[2:]
            a = phase.flatten(2)
            pixels = (a.mT @ a).view(-1, height, width, height, width)
            # Summed along one axis of the kernel and then the other: kh + kw shifts, not kh * kw.
            columns = pixels.new_zeros(len(a), high, width, high, width)
            for to, of in down:
                columns[:, to, :, to] += pixels[:, of, :, of]
            for to, of in across:
                patches[:, :, to, :, to] += columns[:, :, of, :, of]
        return patches.view(len(g), high * wide, -1), g.mT @ g

    def _phases(self, rows: slice) -> Iterator[tuple[Tensor, Shifts, Shifts]]:
        """The input split by stride: at stride 2, a kernel position meets every second pixel."""
        downs, acrosses = ([*self._shifts(axis)] for axis in (0, 1))
        for y, down in downs:
            for x, across in acrosses:
                yield self.a[rows, 0, :, y :: self.stride[0], x :: self.stride[1]], down, across

    def _shifts(self, axis: int) -> Iterator[tuple[int, Shifts]]:
        """For each phase and kernel position: the outputs, and the inputs they see there."""
        stride, after = self.stride[axis], self.g.shape[3 + axis]
        for phase in range(min(stride, self.a.shape[3 + axis])):
            before = len(range(phase, self.a.shape[3 + axis], stride))
            shifts = []
            for place in range(self.weight.shape[2 + axis]):
                offset, rest = divmod(
                    place * self.dilation[axis] - self.padding[axis] - phase, stride
                )
                first, last = max(0, -offset), min(after, before - offset)
                if rest == 0 and first < last:
                    shifts.append((slice(first, last), slice(first + offset, last + offset)))
            if shifts:
                yield phase, shifts


def _blocks(n: int, values: int) -> Iterator[slice]:
    step = max(1, _BLOCK // values)
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))


def _squares(part: Part, n: int, size: int) -> Tensor:
    """From the gradients themselves, a few examples at a time."""
    return torch.cat([part.gradients(rows).flatten(1).square().sum(1) for rows in _blocks(n, size)])


def _inner(part: Part, rows: slice, of_inputs: Tensor, of_gradients: Tensor) -> Tensor:
    """Inner products of Gram matrices; where they cancel, from the gradients themselves."""
    terms = of_inputs.mul_(of_gradients).flatten(1)
    squares = terms.sum(1)
    lost = squares * _CANCELLED < terms.abs().sum(1)
    for k in lost.nonzero()[:, 0].tolist():
        row = rows.start + k
        squares[k] = part.gradients(slice(row, row + 1)).square().sum()
    return squares
