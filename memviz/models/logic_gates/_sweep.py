"""Every gate of a hard network alone, on packed bits: only what changes is followed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from memviz.checks import quoted

from ._circuit import ONES, Circuit, Indices, Step, Words
from ._gates import INTERVENTIONS
from ._packed import packed, unpacked

_BYTES = 2**26  # of changes followed at once
_VOTES = 2**25  # of votes unpacked at once


@dataclass(frozen=True, eq=False)
class _Changes:
    """Values of a step that change: for which unit, which gate, in which examples.

    ``unit`` and ``gate`` are int64 ``[changes]``, ``bits`` words ``[changes, words]``.
    """

    unit: Indices
    gate: Indices
    bits: Words

    def some(self, chosen: NDArray[np.bool_]) -> _Changes:
        return _Changes(self.unit[chosen], self.gate[chosen], self.bits[chosen])

    @property
    def real(self) -> _Changes:
        """Those in which some bit does change."""
        return self.some(np.asarray(self.bits.any(1)))


class PackedSweep:
    """Votes of a hard network's examples with any of its gates replaced, each alone.

    The network becomes one circuit of gates with two wires. A gate that is replaced changes its
    bits in some examples; from gate to gate only those that read a changed bit, and use it, are
    worked out again, for 64 examples a word and many replaced gates at once. Exact: votes are
    whole numbers.

    Parameters
    ----------
    model : nn.Sequential or Circuit
        In evaluation mode, of the layers of this module, ``nn.Flatten`` and ``nn.MaxPool2d``.
    inputs : Tensor ``[n, ...]``

    Attributes
    ----------
    votes : int64 ``[n, classes]``
        With no gate replaced.
    tau : float
        Logits are votes over this.

    Raises
    ------
    ValueError
        If the model is in training mode, or has a layer that does not work on bits.

    Examples
    --------
    >>> from memviz.models.logic_gates import logic_dense_net
    >>> model, x = logic_dense_net(4, [8, 6], 3, tau=1.0).eval(), torch.rand(70, 4)
    >>> sweep = PackedSweep(model, x)
    >>> bool((sweep.votes == model(x)).all())
    True
    >>> sweep.ablated("3.gates", [0, 5], "zero").shape
    torch.Size([2, 70, 3])
    """

    def __init__(self, model: nn.Module | Circuit, inputs: Tensor) -> None:
        self.circuit = model if isinstance(model, Circuit) else Circuit(model, inputs)
        self.tau, self._n = self.circuit.tau, len(inputs)
        bits = self.circuit.bits(inputs)
        if not ((bits == 0) | (bits == 1)).all():
            raise ValueError("inputs must be bits, 0 or 1; begin the model with Thresholds.")
        words = packed(bits.flatten(1).bool().cpu().numpy())
        states = [np.concatenate([words, np.zeros_like(words[:1])])]
        for step in self.circuit.steps:
            states.append(step.run(states[-1]))
        self._states = states
        # Bits past the last example never count as changed.
        self._valid = packed(np.ones((self._n, 1), bool))[0]
        last = unpacked(states[-1][:-1], self._n).reshape(self._n, self.circuit.classes, -1)
        self.votes = torch.from_numpy(last.sum(2, dtype=np.int64))

    def ablated(self, layer: str, units: Sequence[int], how: str) -> Tensor:
        """Votes with each of these gates alone replaced, int64 ``[units, n, classes]``.

        Parameters
        ----------
        layer : str
            Such as ``"2.gates"`` or ``"1.trees.0"``.
        units : sequence of int
        how : {"zero", "constant 1", "input a", "input b", "negation"}

        Raises
        ------
        KeyError, IndexError, ValueError
            If there is no such layer, unit or intervention.
        """
        if how not in INTERVENTIONS:
            listed = ", ".join(map(quoted, INTERVENTIONS))
            raise ValueError(f"how is {quoted(how)}; gates are replaced by {listed}.")
        if layer not in self.circuit.places:
            known = ", ".join(map(quoted, self.circuit.places))
            raise KeyError(f"there is no layer {quoted(layer)} of gates; there are {known}.")
        size = self.circuit.places[layer].units
        wrong = next((unit for unit in units if not 0 <= unit < size), None)
        if wrong is not None:
            raise IndexError(f"layer {quoted(layer)} has gates 0 to {size - 1}, and no {wrong}.")
        changed = np.zeros((len(units), self.circuit.classes, self._n), np.int32)
        self._fill(changed, layer, np.asarray(units, np.int64), how)
        return self.votes + torch.from_numpy(changed).permute(0, 2, 1)

    def _fill(self, changed: NDArray[np.int32], layer: str, units: Indices, how: str) -> None:
        """Add changes of votes ``[units, classes, n]``; half the units at a time if too many."""
        place = self.circuit.places[layer]
        gates = (units[:, None] * place.places + np.arange(place.places)).ravel()
        number = np.repeat(np.arange(len(units)), place.places)
        changes = _Changes(number, gates, self._replaced(place.step, gates, how)).real
        for k in range(place.step + 1, len(self.circuit.steps)):
            changes = _followed(changes, self.circuit.steps[k], self._states[k])
            if changes.bits.nbytes > _BYTES and len(units) > 1:
                half = len(units) // 2
                self._fill(changed[:half], layer, units[:half], how)
                self._fill(changed[half:], layer, units[half:], how)
                return
        self._count(changed, changes)

    def _replaced(self, k: int, gates: Indices, how: str) -> Words:
        """The bits that change where gates of a step are replaced."""
        old = self._states[k + 1][gates]
        if how == "negation":
            old[:] = ONES
        elif how == "constant 1":
            old ^= ONES
        elif how != "zero":
            port = 0 if how == "input a" else 1
            old ^= self._states[k][self.circuit.steps[k].wires[port, gates]]
        old &= self._valid
        return old

    def _count(self, changed: NDArray[np.int32], changes: _Changes) -> None:
        """Add to the votes what gates of the last step change."""
        classes, last = self.circuit.classes, self._states[-1]
        vote = changes.unit * classes + changes.gate // ((len(last) - 1) // classes)
        order = np.argsort(vote, kind="stable")
        table = changed.reshape(-1, self._n)
        size = max(1, _VOTES // self._n)
        for start in range(0, len(order), size):
            some = order[start : start + size]
            bits = unpacked(changes.bits[some], self._n).T.astype(np.int8)
            was = unpacked(last[changes.gate[some]], self._n).T.astype(np.int8)
            votes, first = np.unique(vote[some], return_index=True)
            table[votes] += np.add.reduceat(bits * (1 - 2 * was), first, 0, dtype=np.int32)


def _followed(changes: _Changes, step: Step, words: Words) -> _Changes:
    """What the changes of one step make of the next, whose inputs were ``words``."""
    _, ca, cb, cab = step.masks
    reached = [_reached(changes, starts, gates) for starts, gates in step.readers]
    key_a, key_b = (part.unit * step.gates + part.gate for part in reached)
    # A gate both of whose inputs change is worked out once.
    _, both_a, both_b = np.intersect1d(key_a, key_b, assume_unique=True, return_indices=True)
    parts = []
    for part, linear, other, twice in zip(
        reached, (ca, cb), step.wires[::-1], (both_a, both_b), strict=True
    ):
        alone = np.ones(len(part.gate), bool)
        alone[twice] = False
        single = part.some(alone)
        factor = words[other[single.gate]]
        factor &= cab[single.gate, None]
        factor ^= linear[single.gate, None]
        factor &= single.bits
        parts.append(_Changes(single.unit, single.gate, factor))
    first, gate = reached[0], reached[0].gate[both_a]
    da, db = first.bits[both_a], reached[1].bits[both_b]
    a, b = words[step.wires[0, gate]], words[step.wires[1, gate]]
    together = da & (ca[gate, None] ^ (cab[gate, None] & b))
    together ^= db & (cb[gate, None] ^ (cab[gate, None] & (a ^ da)))
    parts.append(_Changes(first.unit[both_a], gate, together))
    return _Changes(
        np.concatenate([part.unit for part in parts]),
        np.concatenate([part.gate for part in parts]),
        np.concatenate([part.bits for part in parts]),
    ).real


def _reached(changes: _Changes, starts: Indices, gates: Indices) -> _Changes:
    """The gates that read changed values, with those values' changes."""
    first, counts = starts[changes.gate], starts[changes.gate + 1] - starts[changes.gate]
    source = np.repeat(np.arange(len(counts)), counts)
    within = np.arange(len(source)) - np.repeat(counts.cumsum() - counts, counts)
    return _Changes(
        changes.unit[source], gates[np.repeat(first, counts) + within], changes.bits[source]
    )
