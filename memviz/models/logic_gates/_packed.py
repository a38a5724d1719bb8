"""Hard networks on packed bits: 64 examples in each word."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ._gates import COEFFICIENTS, Gates
from ._layers import DenseGates, GroupSum, Thresholds, TreeConv, bits_of

Words = NDArray[np.uint64]
_ONES = np.uint64(2**64 - 1)
_MOST = 1024  # examples at once: their words should stay in the cache


class PackedNetwork:
    """A network of hard gates, run on words of 64 examples each.

    A gate is a polynomial over bits, ``c ^ ca·a ^ cb·b ^ cab·a·b``, with its four coefficients
    modulo 2; for words these are masks of zeros or ones.

    Parameters
    ----------
    model : nn.Sequential
        In evaluation mode, of the layers of this module, ``nn.Flatten`` and ``nn.MaxPool2d``; on
        any device. The words are on the CPU, and so are votes and predictions.

    Raises
    ------
    ValueError
        If the model is in training mode, or has a layer that does not work on bits.

    Examples
    --------
    >>> from memviz.models.logic_gates import logic_dense_net
    >>> model, x = logic_dense_net(4, [8, 6], 3, tau=1.0).eval(), torch.rand(70, 4)
    >>> bool((PackedNetwork(model).votes(x) == model(x)).all())
    True
    """

    def __init__(self, model: nn.Sequential) -> None:
        if model.training:
            raise ValueError(
                "the model is in training mode, in which its gates are mixtures; call model.eval()."
            )
        self._before: list[nn.Module] = []
        self._steps: list[Callable[[Words], Words]] = []
        self._classes = 0
        for layer in model:
            if isinstance(layer, Thresholds) or (not self._steps and isinstance(layer, nn.Flatten)):
                self._before.append(layer)
            elif isinstance(layer, GroupSum):
                self._classes = layer.classes
            else:
                self._steps.append(_step(layer))
        if not self._classes:
            raise ValueError("the model does not end with GroupSum; add it, it counts the votes.")

    def votes(self, inputs: Tensor) -> Tensor:
        """How many gates vote for each class, int64 ``[n, classes]``."""
        with torch.no_grad():
            parts = [self._votes(part) for part in inputs.split(_MOST) if len(part)]
        return torch.cat([torch.zeros(0, self._classes, dtype=torch.int64), *parts])

    def predictions(self, inputs: Tensor) -> Tensor:
        """The class with the most votes, int64 ``[n]``; of equal ones the first."""
        return self.votes(inputs).argmax(1)

    def _votes(self, inputs: Tensor) -> Tensor:
        inputs = bits_of(self._before, inputs)
        if not ((inputs == 0) | (inputs == 1)).all():
            raise ValueError("inputs must be bits, 0 or 1; begin the model with Thresholds.")
        words = packed(inputs.bool().numpy())
        for step in self._steps:
            words = step(words)
        bits = unpacked(words, len(inputs)).reshape(len(inputs), self._classes, -1)
        return torch.from_numpy(bits.sum(2, dtype=np.int64))


def packed(bits: NDArray[np.bool_]) -> Words:
    """Bits ``[n, ...]`` as words ``[..., ceil(n / 64)]``; the last word is filled with zeros.

    Examples
    --------
    >>> packed(np.array([[True], [False], [True]]))
    array([[5]], dtype=uint64)
    """
    missing = -len(bits) % 64
    padded = np.concatenate([bits, np.zeros((missing, *bits.shape[1:]), bool)])
    rows = np.packbits(np.moveaxis(padded, 0, -1), axis=-1, bitorder="little")
    return np.ascontiguousarray(rows).view("<u8").astype(np.uint64, copy=False)


def unpacked(words: Words, n: int) -> NDArray[np.uint8]:
    """The bits of n examples, ``[n, ...]``."""
    content = np.ascontiguousarray(words.astype("<u8", copy=False)).view(np.uint8)
    bits = np.unpackbits(content, axis=-1, bitorder="little")[..., :n]
    return np.moveaxis(bits, -1, 0)


def _step(layer: nn.Module) -> Callable[[Words], Words]:
    if isinstance(layer, DenseGates):
        first, second = layer.wires.cpu().numpy()
        gates = _gates(layer.gates)
        return lambda words: gates(words[first], words[second])
    if isinstance(layer, TreeConv):
        return _tree(layer)
    if isinstance(layer, nn.MaxPool2d):
        return _pool(layer)
    if isinstance(layer, nn.Flatten):
        return lambda words: words.reshape(-1, words.shape[-1])
    raise ValueError(
        f"a layer of type {type(layer).__name__} does not work on bits; packed networks have "
        "Thresholds, DenseGates, TreeConv, MaxPool2d, Flatten and GroupSum."
    )


def _gates(gates: Gates) -> Callable[[Words, Words], Words]:
    """A function of words ``[*shape, ...]`` of both inputs."""
    odd = (COEFFICIENTS[gates.chosen().cpu()] % 2).bool().numpy()
    masks = np.where(odd, _ONES, np.uint64(0))

    def run(a: Words, b: Words) -> Words:
        more = (1,) * (a.ndim - masks.ndim + 1)
        c, ca, cb, cab = (masks[..., k].reshape(*masks.shape[:-1], *more) for k in range(4))
        value = cab & b
        value ^= ca
        value &= a
        value ^= cb & b
        value ^= c
        return value

    return run


def _tree(layer: TreeConv) -> Callable[[Words], Words]:
    window, padding = layer.window, layer.padding
    place = layer.leaves.cpu().numpy()
    channel, rest = np.divmod(place, window * window)
    row, column = np.divmod(rest, window)
    levels = [_gates(gates) for gates in layer.trees if isinstance(gates, Gates)]

    def run(words: Words) -> Words:
        around = ((0, 0), (padding, padding), (padding, padding), (0, 0))
        padded = np.pad(words, around)
        height, width = (size - window + 1 for size in padded.shape[1:3])
        views = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
        values = views[channel, row, column]  # [kernels, leaves, words, height, width]
        for gates in levels:
            values = gates(values[:, 0::2], values[:, 1::2])
        return np.ascontiguousarray(np.moveaxis(values[:, 0], 1, -1))

    return run


def _pool(layer: nn.MaxPool2d) -> Callable[[Words], Words]:
    size = layer.kernel_size
    if not isinstance(size, int) or layer.stride != size or layer.padding or layer.dilation != 1:
        raise ValueError("a packed network pools whole windows: MaxPool2d(size), with no padding.")

    def run(words: Words) -> Words:
        channels, height, width, n = words.shape
        whole = words[:, : height // size * size, : width // size * size]
        tiles = whole.reshape(channels, height // size, size, width // size, size, n)
        pooled: Words = np.bitwise_or.reduce(np.bitwise_or.reduce(tiles, 4), 2)
        return pooled

    return run
