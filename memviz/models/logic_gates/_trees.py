"""Trees of gates over all windows of an image, a piece at a time that stays in the cache.

A level's gates take some ten operations on all leaves. On whole batches each of them would read
and write main memory, which takes most of the time of a training; on a piece of a few examples and
kernels they do not. The backward pass computes the levels again, piece by piece, and sums the
gradients of leaves that read the same place row by row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

_PIECE = 2**18  # values of leaves at once on a CPU: 1 MB in single precision
_COLUMNS = 256  # values of one leaf in a piece: with few, the overhead of each row counts


def trees_of_gates(
    x: Tensor, leaves: Tensor, coefficients: Sequence[Tensor], window: int, padding: int
) -> Tensor:
    """Every kernel's tree at every place: ``[n, kernels, rows, columns]``.

    Parameters
    ----------
    x : ``[n, channels, height, width]``
    leaves : int64 ``[kernels, 2 ** depth]``
        Places in the window, as :class:`TreeConv` has them.
    coefficients : one ``[kernels, gates, 4]`` a level, leaves first
    window, padding : int
    """
    depth = len(coefficients)
    # In this order the two inputs of all gates of a level are the two halves of the level before.
    ordered = leaves[:, _reversed_bits(depth)].T
    four = [
        table[:, _reversed_bits(depth - 1 - level)].permute(2, 1, 0).unsqueeze(3)
        for level, table in enumerate(coefficients)
    ]
    output: Tensor = _Trees.apply(x, ordered, window, padding, *four)  # type: ignore[no-untyped-call]
    return output


def _reversed_bits(bits: int) -> list[int]:
    """The numbers of so many bits, each with its bits in reverse.

    Examples
    --------
    >>> _reversed_bits(2)
    [0, 2, 1, 3]
    """
    order = [0]
    for _ in range(bits):
        order = [2 * number for number in order] + [2 * number + 1 for number in order]
    return order


class _Trees(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, leaves: Tensor, window: int, padding: int, *four: Tensor
    ) -> Tensor:
        ctx.save_for_backward(x, leaves, *four)
        ctx.window, ctx.padding = window, padding
        rows, columns = (size + 2 * padding - window + 1 for size in x.shape[2:])
        output = x.new_empty(len(x), leaves.shape[1], rows, columns)
        for examples, kernels in _pieces(x, leaves, rows * columns):
            places = _places(x[examples], window, padding)
            for some in kernels:
                values = _gathered(places, leaves[:, some])
                for of_level in four:
                    values = _level(values, of_level[:, :, some])
                result = values.view(values.shape[1], -1, rows, columns)
                output[examples, some] = result.transpose(0, 1)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, leaves, *four = ctx.saved_tensors
        window, padding = ctx.window, ctx.padding
        for_x = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        of_four = [torch.zeros_like(of_level) for of_level in four]
        gradient = gradient.flatten(2)
        for examples, kernels in _pieces(x, leaves, gradient.shape[2]):
            places = _places(x[examples], window, padding)
            of_places = torch.zeros_like(places) if for_x is not None else None
            for some in kernels:
                inputs = [_gathered(places, leaves[:, some])]
                for of_level in four[:-1]:
                    inputs.append(_level(inputs[-1], of_level[:, :, some]))
                g = gradient[examples, some].transpose(0, 1).flatten(1).unsqueeze(0)
                for level in reversed(range(len(four))):
                    last = level == 0 and of_places is None
                    g = _back(
                        g, inputs[level], four[level][:, :, some], of_four[level][:, :, some], last
                    )
                if of_places is not None:
                    of_places.index_add_(0, leaves[:, some].flatten(), g.flatten(0, 1))
            if for_x is not None and of_places is not None:
                unfolded = of_places.view(len(places), -1, gradient.shape[2]).transpose(0, 1)
                for_x[examples] = F.fold(
                    unfolded, (x.shape[2], x.shape[3]), window, padding=padding
                )
        return for_x, None, None, None, *of_four


def _pieces(x: Tensor, leaves: Tensor, places: int) -> Iterator[tuple[slice, list[slice]]]:
    """Slices of the examples, each with slices of the kernels."""
    count, kernels = leaves.shape
    examples = max(1, _COLUMNS // places, _PIECE // (count * kernels * places))
    step = max(1, _PIECE // (count * examples * places))
    if x.device.type != "cpu":
        examples, step = max(1, len(x)), kernels
    of_kernels = [slice(start, start + step) for start in range(0, kernels, step)]
    for start in range(0, len(x), examples):
        yield slice(start, start + examples), of_kernels


def _places(x: Tensor, window: int, padding: int) -> Tensor:
    """Pixels of all windows, ``[channels · window · window, n · places]``."""
    return F.unfold(x, window, padding=padding).transpose(0, 1).flatten(1)


def _gathered(places: Tensor, leaves: Tensor) -> Tensor:
    """Values of the leaves, ``[leaves, kernels, n · places]``."""
    return places.index_select(0, leaves.flatten()).view(*leaves.shape, -1)


def _level(values: Tensor, four: Tensor) -> Tensor:
    """The gates' values ``[gates, kernels, ...]`` of inputs ``[2 · gates, kernels, ...]``."""
    a, b = values.chunk(2)
    c, ca, cb, cab = four
    value: Tensor = cab * a
    return value.add_(cb).mul_(b).add_(ca * a).add_(c)


def _back(g: Tensor, values: Tensor, four: Tensor, of_four: Tensor, last: bool) -> Tensor:
    """The gradient of a level's inputs; that of its coefficients is added to ``of_four``."""
    a, b = values.chunk(2)
    _, ca, cb, cab = four
    product = g * a
    of_four[0] += g.sum(-1, keepdim=True)
    of_four[1] += product.sum(-1, keepdim=True)
    of_four[2] += torch.linalg.vecdot(g, b).unsqueeze(-1)
    of_four[3] += torch.linalg.vecdot(product, b).unsqueeze(-1)
    if last:
        return g
    both = torch.empty_like(values)
    of_a, of_b = both.chunk(2)
    torch.mul(b, cab, out=of_a).add_(ca).mul_(g)
    torch.mul(a, cab, out=of_b).add_(cb).mul_(g)
    return both
