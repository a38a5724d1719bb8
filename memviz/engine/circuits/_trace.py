"""One example's bits through the circuit, and where a gate's bit comes from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memviz.models.logic_gates import Wiring

from ._readings import CircuitStudy, Settings

Bits = NDArray[np.uint8]


@dataclass(frozen=True)
class Traced:
    """A bit on the way to a gate.

    Attributes
    ----------
    row : int or None
        The gate's; None for a bit of the input, or outside the image.
    bit : int
        Its value; a wire from a pool is the largest of the pooled bits, of which this is one.
    number : int or None
        Of the input bit, or which of the sixteen gates it is; None outside the image.
    place : int
        Of a convolution's places, the one looked at.
    reads : tuple of Traced
        What inputs a and b come from; empty beyond the depth asked for.
    """

    row: int | None
    bit: int
    number: int | None
    place: int = 0
    reads: tuple[Traced, ...] = ()


@dataclass(frozen=True, eq=False)
class Trace:
    """One example in the circuit.

    Attributes
    ----------
    inputs : uint8 ``[bits]``
    layers : list of uint8 ``[gates, places]``
    """

    circuit: Wiring
    inputs: Bits
    layers: list[Bits]
    numbers: list[NDArray[np.int64]]

    def gate(self, row: int, depth: int = 2) -> Traced:
        """A gate's bit and what it comes from, ``depth`` gates back.

        In a convolution it is looked at where it first is 1, or else at the middle place.
        """
        place, gate = self.circuit.place(row)
        bits = self.layers[place][gate]
        at = int(bits.argmax()) if bits.any() else len(bits) // 2
        return self._gate(place, gate, at, depth)

    def _gate(self, place: int, gate: int, at: int, depth: int) -> Traced:
        layer = self.circuit.layers[place]
        reads = tuple(
            self._source(layer.before, layer.reads[side, gate, at], depth) for side in (0, 1)
        )
        number = int(self.numbers[place][gate])
        bit = int(self.layers[place][gate, at])
        return Traced(layer.start + gate, bit, number, at, reads if depth else ())

    def _source(self, before: int, alternatives: NDArray[np.int64], depth: int) -> Traced:
        inside = alternatives[alternatives >= 0]
        if not len(inside):
            return Traced(None, 0, None)
        bits = (self.inputs if before < 0 else self.layers[before].reshape(-1))[inside]
        one = int(inside[bits.argmax()])  # of pooled bits one that is 1, if there is any
        if before < 0:
            return Traced(None, int(bits.max()), one)
        gate, at = divmod(one, self.circuit.layers[before].places)
        if depth:
            return self._gate(before, gate, at, depth - 1)
        return Traced(self.circuit.layers[before].start + gate, int(bits.max()), None, at)


def trace(circuits: CircuitStudy, example: int, settings: Settings) -> Trace:
    """One example's bits in every gate, with some gates set to something else.

    Examples
    --------
    >>> import torch
    >>> from memviz.models.logic_gates import logic_dense_net
    >>> from memviz.study import Study
    >>> model = logic_dense_net(4, [8, 6], 3).eval()
    >>> study = Study(model, torch.rand(9, 4), torch.arange(9) % 3, {"test": range(9)})
    >>> found = trace(CircuitStudy(study), 0, {13: "constant 1"})
    >>> found.gate(13).bit
    1
    """
    circuit = circuits.circuit
    numbers = circuit.numbers(settings)
    layers = circuit.all_bits(circuits.words, example, numbers)
    word, bit = divmod(example, 64)
    words = circuits.words.reshape(-1, circuits.words.shape[-1])[:, word]
    inputs = (words >> np.uint64(bit) & np.uint64(1)).astype(np.uint8)
    return Trace(circuit, inputs, layers, numbers)
