"""A hard network as one circuit of gates with two wires each, on packed bits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ._gates import COEFFICIENTS, Gates, check_hard
from ._layers import DenseGates, GroupSum, Thresholds, TreeConv, bits_of

Words = NDArray[np.uint64]
Indices = NDArray[np.int64]
ONES = np.uint64(2**64 - 1)
_OR = 7


@dataclass(frozen=True, eq=False)
class Step:
    """Gates that run at once.

    Attributes
    ----------
    wires : int64 ``[2, gates]``
        What each reads of the step before; one past its end is the constant 0.
    masks : uint64 ``[4, gates]``
        The coefficients ``c, ca, cb, cab`` modulo 2: all bits, or none.
    inputs : int
        How many values the step before has.
    """

    wires: Indices
    masks: Words
    inputs: int

    @property
    def gates(self) -> int:
        """How many there are."""
        return int(self.wires.shape[1])

    @cached_property
    def readers(self) -> tuple[tuple[Indices, Indices], tuple[Indices, Indices]]:
        """For each input: the gates that read and really use it as their first, their second wire.

        Start of its gates among all of them, ``[inputs + 1]``, and the gates in that order.
        """
        _, ca, cb, cab = self.masks
        first, second = (self._readers(k, (linear | cab) != 0) for k, linear in ((0, ca), (1, cb)))
        return first, second

    def _readers(self, port: int, used: NDArray[np.bool_]) -> tuple[Indices, Indices]:
        wires = self.wires[port]
        gates = np.flatnonzero(used & (wires < self.inputs))
        gates = gates[np.argsort(wires[gates], kind="stable")]
        counts = np.bincount(wires[gates], minlength=self.inputs)
        return np.concatenate([[0], counts.cumsum()]), gates

    def run(self, words: Words) -> Words:
        """Outputs ``[gates + 1, words]`` of inputs with a last row of zeros, and such a row."""
        a, b = words[self.wires[0]], words[self.wires[1]]
        c, ca, cb, cab = self.masks[:, :, None]
        out = np.empty((self.gates + 1, words.shape[1]), np.uint64)
        value = out[:-1]
        np.bitwise_and(cab, b, out=value)
        value ^= ca
        value &= a
        b &= cb
        value ^= b
        value ^= c
        out[-1] = 0
        return out


@dataclass(frozen=True)
class Place:
    """Where a layer's units are in a circuit: unit u is ``places`` gates from ``u · places`` on."""

    step: int
    places: int
    units: int


class Circuit:
    """A hard network whose trees and pools are laid out, place by place, for inputs of one size.

    Parameters
    ----------
    model : nn.Sequential
        In evaluation mode, of the layers of this module, ``nn.Flatten`` and ``nn.MaxPool2d``.
    inputs : Tensor ``[n, ...]``
        Examples of the size that the network is to run on.

    Attributes
    ----------
    steps : list of Step
    places : dict of layer name to Place
    classes : int
    tau : float

    Raises
    ------
    ValueError
        If the model is in training mode, or has a layer that does not work on bits.

    Examples
    --------
    >>> from memviz.models.logic_gates import logic_dense_net
    >>> circuit = Circuit(logic_dense_net(4, [8, 6], 3).eval(), torch.rand(2, 4))
    >>> [step.gates for step in circuit.steps], circuit.places["3.gates"]
    ([8, 6], Place(step=1, places=1, units=6))
    """

    def __init__(self, model: nn.Module, inputs: Tensor) -> None:
        check_hard(model)
        self.steps: list[Step] = []
        self.places: dict[str, Place] = {}
        self._before: list[nn.Module] = []
        self.classes, self.tau = 0, 1.0
        if type(model) is not nn.Sequential:
            raise ValueError(
                f"{type(model).__name__} is no nn.Sequential; give one of gate layers."
            )
        layers = list(model.named_children())
        if len(layers) != len(model) or not layers or type(layers[-1][1]) is not GroupSum:
            raise ValueError("a circuit ends with GroupSum and has each of its layers once.")
        shape = tuple(inputs.shape[1:])
        for name, layer in layers[:-1]:
            if not self.steps and type(layer) in (Thresholds, nn.Flatten):
                self._before.append(layer)
                shape = tuple(self.bits(inputs[:1]).shape[1:])
            else:
                shape = self._add(name, layer, shape)
        last = layers[-1][1]
        if not self.steps or not isinstance(last, GroupSum) or shape[0] % last.classes:
            raise ValueError("a circuit has gates, in groups of equal size at its end.")
        self.classes, self.tau = last.classes, last.tau

    def bits(self, inputs: Tensor) -> Tensor:
        """What the first gates read of inputs ``[n, ...]``, on the CPU."""
        return bits_of(self._before, inputs)

    def _add(self, name: str, layer: nn.Module, shape: tuple[int, ...]) -> tuple[int, ...]:
        if type(layer) is DenseGates and len(shape) == 1:
            self._step(f"{name}.gates", layer.gates, layer.wires.cpu().numpy(), shape[0])
            return (layer.gates.logits.shape[0],)
        if type(layer) is TreeConv and len(shape) == 3:
            return self._tree(name, layer, shape)
        if type(layer) is nn.MaxPool2d and len(shape) == 3:
            return self._pool(layer, shape)
        if type(layer) is nn.Flatten and layer.start_dim == 1:
            return (int(np.prod(shape)),)
        raise ValueError(
            f"layer {name!r} ({type(layer).__name__}) does not work on bits of shape {shape}; a "
            "circuit has Thresholds, DenseGates, TreeConv, MaxPool2d, Flatten and GroupSum."
        )

    def _step(self, name: str, gates: Gates, wires: Indices, inputs: int) -> None:
        """Gates at every place, ``wires`` ``[2, gates, places]`` or ``[2, gates]``."""
        chosen = gates.chosen().flatten().cpu()
        places = wires[0].size // len(chosen)
        self.places[name] = Place(len(self.steps), places, len(chosen))
        masks = np.repeat(_masks(chosen), places, axis=1)
        self.steps.append(Step(wires.reshape(2, -1), masks, inputs))

    def _tree(self, name: str, layer: TreeConv, shape: tuple[int, ...]) -> tuple[int, ...]:
        (channels, height, width), window, padding = shape, layer.window, layer.padding
        rows, columns = height + 2 * padding - window + 1, width + 2 * padding - window + 1
        channel, rest = np.divmod(layer.leaves.cpu().numpy()[..., None, None], window**2)
        row = rest // window + np.arange(rows)[:, None] - padding
        column = rest % window + np.arange(columns) - padding
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        inputs = channels * height * width
        read = np.where(inside, (channel * height + row) * width + column, inputs)
        read = read.reshape(*read.shape[:2], -1)  # [kernels, leaves, places]
        for level, gates in enumerate(layer.trees):
            assert isinstance(gates, Gates)
            self._step(f"{name}.trees.{level}", gates, _paired(read), inputs)
            inputs = self.steps[-1].gates
            read = np.arange(inputs).reshape(len(read), -1, read.shape[2])
        return len(read), rows, columns

    def _pool(self, layer: nn.MaxPool2d, shape: tuple[int, ...]) -> tuple[int, ...]:
        size = layer.kernel_size
        whole = layer.padding == 0 and layer.dilation == 1 and not layer.ceil_mode
        if not isinstance(size, int) or layer.stride != size or not whole:
            raise ValueError("a circuit pools whole windows: MaxPool2d(size), with no padding.")
        channels, rows, columns = shape[0], shape[1] // size, shape[2] // size
        read = np.arange(int(np.prod(shape))).reshape(shape)
        read = read[:, : rows * size, : columns * size].reshape(channels, rows, size, columns, size)
        read = np.moveaxis(read, 2, 3).reshape(-1, size * size, 1)
        inputs = int(np.prod(shape))
        while read.shape[1] > 1:
            if read.shape[1] % 2:  # the last of an odd number is joined with 0
                read = np.concatenate([read, np.full_like(read[:, :1], inputs)], 1)
            wires = _paired(read).reshape(2, -1)
            masks = np.repeat(_masks(torch.tensor([_OR])), wires.shape[1], axis=1)
            self.steps.append(Step(wires, masks, inputs))
            inputs = wires.shape[1]
            read = np.arange(inputs).reshape(len(read), -1, 1)
        return channels, rows, columns

    @property
    def values(self) -> int:
        """How many bits an example takes, those that the first gates read among them."""
        return self.steps[0].inputs + sum(step.gates for step in self.steps)


def _paired(read: Indices) -> Indices:
    return np.stack([read[:, 0::2], read[:, 1::2]])


def _masks(chosen: Tensor) -> Words:
    return np.where((COEFFICIENTS[chosen] % 2).bool().numpy(), ONES, np.uint64(0)).T
