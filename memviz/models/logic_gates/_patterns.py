"""Trees of gates over bits, in training: each tree once for every pattern, then looked up.

Eight leaves have 256 patterns of bits, a batch many times as many places. :func:`trees_of_gates`
computes a tree for all patterns, each place takes its own from that table, and the backward pass
adds up the gradients of a pattern before it goes through the levels. Values are the same to the
last bit; gradients are summed in another order, so that they differ by rounding: by some 1e-5 of
the largest in single precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from ._trees import trees_of_gates

_LEAVES = 8  # at most: a pattern is a whole number below 256, exact also in half precision


def has_few_patterns(x: Tensor, leaves: Tensor, window: int, padding: int) -> bool:
    """Whether trees over this input can be looked up, and are then computed for fewer patterns.

    Only bits, zeros or ones, that want no gradient, on a CPU: elsewhere reading them would wait.
    """
    count = leaves.shape[1]
    if count > _LEAVES or x.requires_grad or not x.is_floating_point() or x.device.type != "cpu":
        return False
    rows, columns = (size + 2 * padding - window + 1 for size in x.shape[2:])
    return len(x) * rows * columns > 2**count and bool(((x == 0) | (x == 1)).all())


def trees_by_pattern(
    x: Tensor, leaves: Tensor, coefficients: Sequence[Tensor], window: int, padding: int
) -> Tensor:
    """What :func:`trees_of_gates` gives, for inputs that :func:`has_few_patterns`."""
    kernels, count = leaves.shape
    bits = torch.arange(2**count)[:, None] >> torch.arange(count) & 1
    patterns = bits.to(x.dtype)[:, :, None, None]  # examples of one place, a channel a leaf
    own = torch.arange(count).expand(kernels, count)
    table = trees_of_gates(patterns, own, coefficients, 1, 0).flatten(1).T
    output: Tensor = _LookUp.apply(x, table, leaves, window, padding)  # type: ignore[no-untyped-call]
    return output


class _LookUp(torch.autograd.Function):
    """Entries of the table ``[kernels, patterns]``; of the inputs there is no derivative."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, table: Tensor, leaves: Tensor, window: int, padding: int
    ) -> Tensor:
        kernels, count = leaves.shape
        # The leaves' bits as one number: a convolution with their powers of two.
        powers = (2 ** torch.arange(count)).to(x.dtype).expand(kernels, count)
        weights = x.new_zeros(kernels, x.shape[1] * window * window)
        weights.scatter_add_(1, leaves, powers)
        number = F.conv2d(x, weights.view(kernels, -1, window, window), padding=padding)
        # Rounded: a convolution by Winograd's scheme is a little off whole numbers.
        first = torch.arange(kernels, dtype=torch.int32) << count
        entry = number.round().int() + first[:, None, None]
        ctx.save_for_backward(entry)
        ctx.shape = table.shape
        return table.flatten().index_select(0, entry.flatten()).view(entry.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (entry,) = ctx.saved_tensors
        weights, size = gradient.flatten().double(), ctx.shape.numel()
        of_table = torch.bincount(entry.flatten(), weights, minlength=size)
        return None, of_table.view(ctx.shape).to(gradient.dtype), None, None, None
