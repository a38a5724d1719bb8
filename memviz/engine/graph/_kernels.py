"""The dense arithmetic of the graph engine: folded norms, narrow convolutions, memory layout."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from . import _winograd as winograd

if TYPE_CHECKING:
    from ._nodes import Node

Pair = tuple[int, int]
# Wider changes are convolved; narrower ones are gathered into the columns of a matrix product.
_COLUMNS = 8


class Kernels:
    """Prepared weights, shared by all chunks of a study; keyed by the call's place in the trace.

    ``memory`` bounds, in bytes, the weights transformed for Winograd's convolution, which take four
    times the memory of the plain ones.
    """

    def __init__(self, memory: int = 2**30) -> None:
        self._memory = memory
        self._affine: dict[int, tuple[Tensor, Tensor]] = {}
        self._weights: dict[tuple[int, int], tuple[Tensor, Tensor | None]] = {}
        self._transformed: dict[int, tuple[Node | None, Tensor]] = {}
        self._transformed_bytes = 0
        self._packed: dict[int, Tensor] = {}

    def affine(self, norm: Node) -> tuple[Tensor, Tensor]:
        """Scale and shift of a batch norm in eval mode, ``[channels]`` each."""
        if norm.index not in self._affine:
            bound = norm.bound
            mean, variance = bound["running_mean"], bound["running_var"]
            scale = torch.rsqrt(variance + bound["eps"])
            if bound["weight"] is not None:
                scale = scale * bound["weight"].detach()
            shift = -mean * scale
            if bound["bias"] is not None:
                shift = shift + bound["bias"].detach()
            self._affine[norm.index] = scale, shift
        return self._affine[norm.index]

    def weights(self, node: Node, fold: Node | None) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of a convolution, with the norm after it folded in."""
        key = (node.index, -1 if fold is None else fold.index)
        if key not in self._weights:
            weight, bias = node.bound["weight"].detach(), node.bound["bias"]
            bias = None if bias is None else bias.detach()
            if fold is not None:
                scale, shift = self.affine(fold)
                weight = weight * scale.view(-1, 1, 1, 1)
                bias = shift if bias is None else bias * scale + shift
            weight = weight.contiguous(memory_format=torch.channels_last)
            self._weights[key] = weight, bias
        return self._weights[key]

    def geometry(self, node: Node) -> tuple[Pair, Pair, Pair]:
        """Stride, padding and dilation."""
        stride, padding, dilation = (
            _pair(node.bound[name]) for name in ("stride", "padding", "dilation")
        )
        return stride, padding, dilation

    def groups(self, node: Node) -> int:
        """The number of groups of a convolution."""
        return int(node.bound["groups"])

    def conv2d(
        self, node: Node, fold: Node | None, value: Tensor, clean: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """The convolution of a value of which every channel may have changed."""
        weight, bias = self.weights(node, fold)
        value = value.contiguous(memory_format=torch.channels_last)
        out = (fold or node).out
        if self._is_winograd(node, value, out):
            # Of the change alone: Winograd rounds coarsely, and a change is small.
            change = value - clean(node.bound["input"])
            weights = self._transformed_weights(node, fold, weight)
            return winograd.convolve(change, weights).add_(clean(out))
        stride, padding, dilation = self.geometry(node)
        return F.conv2d(value, weight, bias, stride, padding, dilation, self.groups(node))

    def _is_winograd(self, node: Node, value: Tensor, out: Tensor) -> bool:
        weight = node.bound["weight"]
        plain = self.geometry(node) == ((1, 1), (1, 1), (1, 1)) and self.groups(node) == 1
        fits = node.index in self._transformed or (
            self._transformed_bytes + winograd.bytes_of(weight) <= self._memory
        )
        return (
            value.device.type == "cpu"
            and value.dtype == torch.float32
            and plain
            and fits
            and weight.shape[2:] == (3, 3)
            and winograd.pays(value.shape[1], out.shape[1], *out.shape[2:])
        )

    def _transformed_weights(self, node: Node, fold: Node | None, weight: Tensor) -> Tensor:
        known = self._transformed.get(node.index)
        if known is None or known[0] is not fold:
            self._transformed[node.index] = known = fold, winograd.transformed(weight)
            self._transformed_bytes += known[1].nbytes
        return known[1]

    def narrow_conv2d(
        self, node: Node, fold: Node | None, base: Tensor, change: Tensor, features: Tensor
    ) -> Tensor:
        """The recorded output plus the convolution of a change of a few channels."""
        weight, _ = self.weights(node, fold)
        stride, padding, dilation = self.geometry(node)
        width = features.shape[-1]
        if features.dim() == 1 and width > _COLUMNS:
            chosen = weight.index_select(1, features)
            return base + F.conv2d(change, chosen, None, stride, padding, dilation)
        # A matrix product over few channels: torch's convolution is slow there.
        columns = _columns(change, weight.shape[2:], stride, padding, dilation)
        rows, channels = len(change), base.shape[1]
        flat = base.permute(0, 2, 3, 1).reshape(rows, -1, channels)
        by_channel = weight.permute(1, 2, 3, 0)  # [in, kh, kw, out]
        if features.dim() == 1:
            chosen = by_channel.index_select(0, features).flatten(0, 2)
            out = torch.addmm(flat.flatten(0, 1), columns.flatten(0, 1), chosen)
        else:
            out = torch.baddbmm(flat, columns, by_channel[features].flatten(1, 3))
        high, wide = base.shape[2:]
        return out.view(rows, high, wide, channels).permute(0, 3, 1, 2)

    def linear(self, node: Node, fold: Node | None, value: Tensor, *, by_row: bool) -> Tensor:
        """The linear layer of a dense value, with the activation after it if there is a fold."""
        weight, bias = node.bound["weight"], node.bound["bias"]
        # oneDNN prepares again for each number of rows, which does not pay where that varies.
        if by_row or not fused_linear(value):
            out = F.linear(value, weight, bias)
            return out if fold is None else fold.call(out)
        flat = value.reshape(-1, value.shape[-1])
        if node.index not in self._packed:
            reorder = torch.ops.mkldnn._reorder_linear_weight
            self._packed[node.index] = reorder(weight.detach(), len(flat))
        name, how = ("none", "") if fold is None else activation(fold)
        packed = self._packed[node.index]
        fused: Tensor = torch.ops.mkldnn._linear_pointwise(flat, packed, bias, name, [], how)
        return fused.view(*value.shape[:-1], fused.shape[-1])


def halves(node: Node, value: Tensor) -> bool:
    """Whether a max pool takes the largest of each 2×2 square of a channels-last batch."""
    bound = node.bound
    sides = (_pair(bound["kernel_size"]), _pair(bound["stride"] or bound["kernel_size"]))
    return (
        sides == ((2, 2), (2, 2))
        and (_pair(bound["padding"]), _pair(bound["dilation"])) == ((0, 0), (1, 1))
        and value.dim() == 4
        and value.shape[2] % 2 == value.shape[3] % 2 == 0
        and value.is_contiguous(memory_format=torch.channels_last)
    )


def largest_of_squares(value: Tensor) -> Tensor:
    """Max pool by 2×2, in a third of the time of torch's, which also keeps the indices.

    Examples
    --------
    >>> largest_of_squares(torch.arange(16.0).view(1, 1, 4, 4))
    tensor([[[[ 5.,  7.],
              [13., 15.]]]])
    """
    rows = torch.maximum(value[:, :, ::2], value[:, :, 1::2])
    return torch.maximum(rows[..., ::2], rows[..., 1::2])


def fused_linear(value: Tensor) -> bool:
    """Whether oneDNN's linear layer with a fused activation can be used."""
    return value.device.type == "cpu" and value.dtype == torch.float32 and _has_fused_linear()


@functools.cache
def _has_fused_linear() -> bool:
    # Not public in torch: used only if it exists and gives the right answer.
    value, weight = torch.arange(-6.0, 6.0).view(4, 3), torch.arange(6.0).view(2, 3)
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight)
        out = torch.ops.mkldnn._linear_pointwise(value, packed, None, "gelu", [], "none")
    except (AttributeError, RuntimeError, TypeError):
        return False
    return torch.allclose(out, F.gelu(F.linear(value, weight)), atol=1e-5)


def activation(node: Node) -> tuple[str, str]:
    """The name and variant of an activation in oneDNN; an empty name if it can't be fused."""
    if node.name == "relu":
        return "relu", ""
    if node.name == "gelu":
        approximate = node.args[1] if len(node.args) > 1 else node.kwargs.get("approximate", "none")
        return "gelu", str(approximate)
    return "", ""


def _pair(value: Any) -> Pair:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[-1]))


def _columns(change: Tensor, kernel: Any, stride: Pair, padding: Pair, dilation: Pair) -> Tensor:
    """The values under the kernel at each position, ``[rows, positions, K * kh * kw]``."""
    (high, wide), (kh, kw) = padding, kernel
    padded = F.pad(change, (wide, wide, high, high)) if high or wide else change.contiguous()
    rows, width, tall, broad = padded.shape
    places = _places((width, tall, broad), (kh, kw), stride, dilation).to(change.device)
    return padded.flatten(1).index_select(1, places).view(rows, -1, width * kh * kw)


@functools.lru_cache(maxsize=16)
def _places(size: tuple[int, int, int], kernel: Pair, stride: Pair, dilation: Pair) -> Tensor:
    """Where in a flattened ``[K, h, w]`` each position finds its values, int32."""
    width, tall, broad = size
    out_high = (tall - dilation[0] * (kernel[0] - 1) - 1) // stride[0] + 1
    out_wide = (broad - dilation[1] * (kernel[1] - 1) - 1) // stride[1] + 1
    # Cached indices for one gather, which is faster than copying the strided view each time.
    across = (tall * broad, dilation[0] * broad, dilation[1])
    windows = torch.arange(width * tall * broad, dtype=torch.int32).as_strided(
        (out_high, out_wide, width, *kernel), (stride[0] * broad, stride[1], *across)
    )
    return windows.flatten()
