"""A hard network as a circuit: every gate, what it reads, and all of its bits."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from memviz.checks import listed, quoted

from ._gates import COEFFICIENTS, Gates, live_gates
from ._layers import DenseGates, GroupSum, Thresholds, TreeConv, bits_of
from ._packed import Words, packed, unpacked

Ints = NDArray[np.int64]
_MASKS = np.where((COEFFICIENTS % 2).bool().numpy(), np.uint64(2**64 - 1), np.uint64(0))
# What a gate may be set to, the interventions of its units: each makes another of the sixteen.
SETTINGS: dict[str, Callable[[Ints], Ints]] = {
    "zero": lambda number: number * 0,
    "constant 1": lambda number: number * 0 + 15,
    "input a": lambda number: number * 0 + 3,
    "input b": lambda number: number * 0 + 5,
    "negation": lambda number: 15 - number,
}
# Called with a layer's place in the circuit, its inputs a and b, and its outputs, as words.
Visit = Callable[[int, Words, Words, Words], None]


@dataclass(frozen=True)
class GateLayer:
    """The gates of one layer, or of one level of all trees of a convolution.

    Attributes
    ----------
    name : str
        Of the module that holds them.
    title : str
        For people: "layer 2", or "conv 1.2" for the second level of a convolution's trees.
    start : int
        Row of its first gate in the circuit.
    numbers : int64 ``[gates]``
        Which of the sixteen each is.
    weights : float32 ``[gates]``
        Share of that one in the mixture that was trained.
    rows, columns : int
        Places at which a convolution evaluates each gate; 1 by 1 in a dense layer.
    before : int
        The layer it reads, by its place in the circuit; -1 for the inputs.
    reads : int64 ``[2, gates, places, alternatives]``
        What inputs a and b come from: ``gate · places + place`` of the layer before, or the number
        of an input bit; -1 outside the image. Of several alternatives the input is the maximum.
    """

    name: str
    title: str
    start: int
    numbers: Ints
    weights: NDArray[np.float32]
    rows: int
    columns: int
    before: int
    reads: Ints

    @property
    def gates(self) -> int:
        """How many gates there are."""
        return len(self.numbers)

    @property
    def places(self) -> int:
        """At how many places each is evaluated."""
        return self.rows * self.columns


class Wiring:
    """The gates of a hard network in rows, layer after layer, on words of 64 examples each.

    Parameters
    ----------
    model : nn.Sequential
        As for :class:`PackedNetwork`.
    shape : tuple of int
        Of one input.

    Attributes
    ----------
    layers : list of GateLayer
    gates, classes : int
    bits : tuple of int
        Shape of one example's input bits: features, or channels, rows and columns.
    features : int64 ``[bits]``
        Which value of an example each input bit, in their order, is made of.
    above : float64 ``[bits]``
        The threshold above which it is 1; NaN where the input is a bit itself.
    live : bool ``[gates]``
        Whether something reads the gate, as :func:`live_gates` says.

    Raises
    ------
    ValueError
        If the model is in training mode, or has a layer that does not work on bits.

    Examples
    --------
    >>> from memviz.models.logic_gates import logic_dense_net
    >>> model, x = logic_dense_net(4, [8, 6], 3, tau=1.0).eval(), torch.rand(70, 4)
    >>> circuit = Wiring(model, (4,))
    >>> words = circuit.words(x)
    >>> bool((circuit.votes(words, 70) == model(x)).all())
    True
    >>> circuit.votes(words, 70, circuit.numbers({13: "constant 1"}))[:, 2].min().item()
    1
    """

    def __init__(self, model: nn.Sequential, shape: tuple[int, ...]) -> None:
        if not isinstance(model, nn.Sequential):
            raise TypeError(
                f"model is of type {type(model).__name__}; give a network of logic gates, an "
                "nn.Sequential as logic_dense_net makes it."
            )
        if model.training:
            raise ValueError(
                "the model is in training mode, in which its gates are mixtures; call model.eval()."
            )
        self.layers: list[GateLayer] = []
        self.classes = self.gates = self._blocks = 0
        self.bits = shape
        self._origin: Ints = np.arange(prod(shape)).reshape(*shape, 1)
        self.features = np.arange(prod(shape))
        self.above = np.full(prod(shape), np.nan)
        self._before: list[nn.Module] = []
        self._steps: list[Callable[[Words, Sequence[Ints], Visit], Words]] = []
        for name, layer in model.named_children():
            self._add(name, layer, shape)
        if not self.classes or not self.layers:
            raise ValueError("the model does not end with gates and GroupSum, which counts votes.")
        live = live_gates(model)
        self.live = np.concatenate([live[layer.name].cpu().numpy() for layer in self.layers])

    def _add(self, name: str, layer: nn.Module, shape: tuple[int, ...]) -> None:
        if isinstance(layer, Thresholds) or (not self._steps and isinstance(layer, nn.Flatten)):
            self._before.append(layer)
            self.bits = tuple(bits_of(self._before, torch.zeros(1, *shape)).shape[1:])
            self._origin = np.arange(prod(self.bits)).reshape(*self.bits, 1)
            if isinstance(layer, Thresholds):
                each = self._origin.size // len(self.features)  # bits of one value
                self._threshold(layer, each)
            return
        if isinstance(layer, GroupSum):
            self.classes = layer.classes
        elif isinstance(layer, DenseGates):
            self._dense(f"{name}.gates", layer)
        elif isinstance(layer, TreeConv):
            self._trees(name, layer)
        elif isinstance(layer, nn.MaxPool2d):
            self._pool(layer)
        elif isinstance(layer, nn.Flatten):
            self._origin = self._origin.reshape(-1, self._origin.shape[-1])
            self._steps.append(lambda words, *_: words.reshape(-1, words.shape[-1]))
        else:
            raise ValueError(
                f"a layer of type {type(layer).__name__} does not work on bits; circuits have "
                "Thresholds, DenseGates, TreeConv, MaxPool2d, Flatten and GroupSum."
            )

    # Evaluation ---------------------------------------------------------------------------------

    def words(self, inputs: Tensor) -> Words:
        """The input bits of examples ``[n, ...]``, uint64 ``[..., ceil(n / 64)]``."""
        bits = bits_of(self._before, inputs)
        if not ((bits == 0) | (bits == 1)).all():
            raise ValueError("inputs must be bits, 0 or 1; begin the model with Thresholds.")
        return packed(bits.bool().numpy())

    def numbers(self, settings: Mapping[int, str]) -> list[Ints]:
        """Which of the sixteen each gate is, by layer, with some set to something else.

        Parameters
        ----------
        settings : mapping of row to a key of ``SETTINGS``

        Raises
        ------
        ValueError, IndexError
            If there is no such setting or gate.
        """
        found = [layer.numbers for layer in self.layers]
        for row, setting in settings.items():
            if setting not in SETTINGS:
                raise ValueError(
                    f"a gate can't be set to {quoted(setting)}; choose from {listed(SETTINGS)}."
                )
            place, gate = self.place(row)
            if found[place] is self.layers[place].numbers:
                found[place] = found[place].copy()
            number = self.layers[place].numbers[gate : gate + 1]
            found[place][gate] = SETTINGS[setting](number)[0]
        return found

    def votes(self, words: Words, n: int, numbers: Sequence[Ints] | None = None) -> Tensor:
        """How many gates vote for each class, int64 ``[n, classes]``."""
        last = self.run(words, numbers)
        bits = unpacked(last, n).reshape(n, self.classes, -1)
        return torch.from_numpy(bits.sum(2, dtype=np.int64))

    def run(
        self, words: Words, numbers: Sequence[Ints] | None = None, visit: Visit | None = None
    ) -> Words:
        """The last layer's outputs, uint64 ``[gates, ceil(n / 64)]``."""
        chosen = [layer.numbers for layer in self.layers] if numbers is None else numbers
        for step in self._steps:
            words = step(words, chosen, visit or _pass_by)
        return words

    def all_bits(
        self, words: Words, example: int, numbers: Sequence[Ints] | None = None
    ) -> list[NDArray[np.uint8]]:
        """Every gate's output for one example, by layer, ``[gates, places]``."""
        word, bit = divmod(example, 64)
        found: list[NDArray[np.uint8]] = []

        def keep(_: int, a: Words, b: Words, out: Words) -> None:
            found.append((out >> np.uint64(bit) & np.uint64(1)).astype(np.uint8))

        self.run(np.ascontiguousarray(words[..., word : word + 1]), numbers, keep)
        both = zip(found, self.layers, strict=True)
        return [bits.reshape(layer.gates, -1) for bits, layer in both]

    def inputs_of(
        self, row: int, words: Words, n: int, numbers: Sequence[Ints] | None = None
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """What a gate reads, for all examples and places: a and b, uint8 ``[n, places]``."""
        place, gate = self.place(row)
        found: list[NDArray[np.uint8]] = []

        def keep(layer: int, a: Words, b: Words, out: Words) -> None:
            if layer == place:
                of = self.layers[place]
                both = (side.reshape(of.gates, -1, of.places)[gate].T for side in (a, b))
                found.extend(unpacked(side, n) for side in both)

        self.run(words, numbers, keep)
        return found[0], found[1]

    def words_for(self, row: int) -> str:
        """A gate in words, such as "layer 2 gate 100"."""
        place, gate = self.place(row)
        return f"{self.layers[place].title} gate {gate}"

    def place(self, row: int) -> tuple[int, int]:
        """The layer that a row is in, by its place, and the gate in it.

        Raises
        ------
        IndexError
            If there is no such gate.
        """
        if not 0 <= row < self.gates:
            raise IndexError(f"there is no gate {quoted(row)}; there are {self.gates:,}.")
        place = bisect_right(self.layers, row, key=lambda layer: layer.start) - 1
        return place, row - self.layers[place].start

    # Building -----------------------------------------------------------------------------------

    def _threshold(self, layer: Thresholds, each: int) -> None:
        """The bits of one feature or channel stand together, for each of its places."""
        rest = self.bits[1:]
        shape = (-1, 1, prod(rest))
        levels = layer.levels.cpu().double().numpy()
        self.features = np.repeat(self.features.reshape(shape), each, 1).reshape(-1)
        above = np.broadcast_to(levels[:, None], (self.bits[0] // each, each, prod(rest)))
        self.above = above.reshape(-1)

    def _layer(
        self, name: str, title: str, gates: Gates, places: tuple[int, int], reads: Ints
    ) -> int:
        numbers = gates.chosen().cpu().numpy().reshape(-1)
        logits = gates.logits.detach().cpu().float().reshape(-1, 16)
        weights = logits.softmax(-1).max(-1).values.numpy()
        before = len(self.layers) - 1
        self.layers.append(
            GateLayer(name, title, self.gates, numbers, weights, *places, before, reads)
        )
        self.gates += len(numbers)
        return before + 1

    def _dense(self, name: str, layer: DenseGates) -> None:
        first, second = layer.wires.cpu().numpy()
        reads = np.stack([self._origin[first], self._origin[second]])[:, :, None]
        self._blocks += 1
        place = self._layer(name, f"layer {self._blocks}", layer.gates, (1, 1), reads)

        def run(words: Words, numbers: Sequence[Ints], visit: Visit) -> Words:
            a, b = words[first], words[second]
            out = _gates(numbers[place], a, b)
            visit(place, a, b, out)
            return out

        self._steps.append(run)
        self._origin = np.arange(len(first))[:, None]

    def _trees(self, name: str, layer: TreeConv) -> None:
        channel, rest = np.divmod(layer.leaves.cpu().numpy(), layer.window**2)
        row, column = np.divmod(rest, layer.window)
        pad = ((0, 0), (layer.padding,) * 2, (layer.padding,) * 2)
        origin = np.pad(self._origin, (*pad, (0, 0)), constant_values=-1)
        height, width = (size - layer.window + 1 for size in origin.shape[1:3])
        window = (height, width)
        views = np.lib.stride_tricks.sliding_window_view(origin, window, axis=(1, 2))
        leaves = np.moveaxis(views[channel, row, column], 2, -1)  # [kernels, leaves, h, w, alt]
        reads = leaves.reshape(*channel.shape, height * width, -1)
        levels: list[int] = []
        self._blocks += 1
        for level, gates in enumerate(layer.trees):
            assert isinstance(gates, Gates)
            sides = np.stack([reads[:, 0::2], reads[:, 1::2]])
            sides = sides.reshape(2, -1, *sides.shape[3:])
            title = f"conv {self._blocks}.{level + 1}"
            place = self._layer(f"{name}.trees.{level}", title, gates, window, sides)
            levels.append(place)
            n = self.layers[place].gates
            reads = np.arange(n * height * width).reshape(len(channel), -1, height * width, 1)

        def run(words: Words, numbers: Sequence[Ints], visit: Visit) -> Words:
            views = np.lib.stride_tricks.sliding_window_view(
                np.pad(words, (*pad, (0, 0))), window, axis=(1, 2)
            )
            values = views[channel, row, column]  # [kernels, leaves, words, height, width]
            for place in levels:
                a, b = values[:, 0::2], values[:, 1::2]
                values = _gates(numbers[place].reshape(a.shape[:2]), a, b)
                visit(place, a, b, values)
            return np.ascontiguousarray(np.moveaxis(values[:, 0], 1, -1))

        self._steps.append(run)
        self._origin = reads.reshape(len(channel), height, width, 1)

    def _pool(self, layer: nn.MaxPool2d) -> None:
        size = layer.kernel_size
        if not isinstance(size, int) or layer.stride != size or layer.padding:
            raise ValueError("a circuit pools whole windows: MaxPool2d(size), with no padding.")

        def tiles(array: NDArray[np.generic]) -> NDArray[np.generic]:
            channels, height, width, n = array.shape
            whole = array[:, : height // size * size, : width // size * size]
            split = whole.reshape(channels, height // size, size, width // size, size, n)
            return split.transpose(0, 1, 3, 2, 4, 5).reshape(
                channels, height // size, width // size, size * size, n
            )

        self._steps.append(lambda words, *_: np.bitwise_or.reduce(tiles(words), axis=3))
        joined = tiles(self._origin)
        self._origin = joined.reshape(*joined.shape[:3], -1).astype(np.int64)


def _gates(numbers: Ints, a: Words, b: Words) -> Words:
    more = (1,) * (a.ndim - numbers.ndim)
    c, ca, cb, cab = (_MASKS[numbers, k].reshape(*numbers.shape, *more) for k in range(4))
    value: Words = cab & b
    value ^= ca
    value &= a
    value ^= cb & b
    value ^= c
    return value


def _pass_by(place: int, a: Words, b: Words, out: Words) -> None:
    """Visit nothing."""
