"""Units, sets of units, and the layers they belong to."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_PART = re.compile(r"(?P<layer>[^\s:]*):(?P<ranges>\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*)")


@dataclass(frozen=True, order=True, slots=True)
class Unit:
    """One unit: a channel, a feature, a neuron or a head of a layer.

    Examples
    --------
    >>> str(Unit("conv4", 59))
    'conv4:59'
    """

    layer: str
    index: int

    def __str__(self) -> str:
        return f"{self.layer}:{self.index}"

    def __iter__(self) -> Iterator[Any]:
        yield self.layer
        yield self.index


@dataclass(frozen=True)
class Layer:
    """A layer as the forward pass reaches it.

    Attributes
    ----------
    name : str
        Its name in ``model.named_modules()``. The layers of one recurrent module, and experts whose
        weights are one tensor, are numbered: ``"lstm.l0"``, ``"mlp.experts.3"``.
    kind : {"conv", "linear", "heads", "neurons", "experts", "recurrent"}
        ``"neurons"`` are the hidden features of a gated MLP, ``act(gate) * up``, and ``"experts"``
        those of an expert, at the positions routed to it; ``"recurrent"`` is a layer of an LSTM,
        GRU or RNN.
    units : int
        Channels, features, attention heads (of grouped-query attention, the query heads), neurons,
        or the features a recurrent layer emits at each step, both directions.
    site : str
        Where a unit's activation is read and replaced, e.g. ``"conv2d > batch_norm > relu"``.
    is_output : bool
        Whether the layer's activation is the model's output itself.

    Examples
    --------
    >>> Layer("fc", "linear", 10, "linear > relu").all()
    UnitSet.parse('fc:0-9')
    """

    name: str
    kind: str
    units: int
    site: str
    is_output: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether it is a convolution or linear layer, whose module returns its units."""
        return self.kind in ("conv", "linear")

    def all(self) -> UnitSet:
        """Every unit of the layer."""
        return UnitSet({self.name: range(self.units)})


class UnitSet:
    """An immutable set of units that prints and parses as ``"layer:5,17 fc:0-9"``.

    Parameters
    ----------
    units : mapping of layer name to indices, or iterable of Unit

    Raises
    ------
    ValueError
        If text does not parse or an index is negative.

    Examples
    --------
    >>> chosen = UnitSet.parse("layer3.0.conv2:5,17 fc:0-9")
    >>> len(chosen), str(chosen | UnitSet([Unit("fc", 10)]))
    (12, 'layer3.0.conv2:5,17 fc:0-10')
    """

    __slots__ = ("_layers",)

    def __init__(self, units: Mapping[str, Iterable[int]] | Iterable[Unit] = ()) -> None:
        by_layer: dict[str, set[int]] = {}
        if isinstance(units, Mapping):
            for layer, indices in units.items():
                by_layer.setdefault(layer, set()).update(int(i) for i in indices)
        else:
            for layer, index in units:
                by_layer.setdefault(layer, set()).add(int(index))
        for layer, indices in by_layer.items():
            if indices and min(indices) < 0:
                raise ValueError(
                    f"unit {layer}:{min(indices)} is negative; units are counted from 0."
                )
        self._layers = {
            layer: tuple(sorted(indices)) for layer, indices in by_layer.items() if indices
        }

    @classmethod
    def parse(cls, text: str) -> UnitSet:
        """Parse ``"layer:5,17 fc:0-9"``; empty text is the empty set.

        Raises
        ------
        ValueError
            If the text does not parse.
        """
        by_layer: dict[str, list[int]] = {}
        for part in text.split():
            match = _PART.fullmatch(part)
            if match is None:
                raise ValueError(
                    f"{part!r} is not a set of units; write layer:indices, "
                    "for example 'layer3.0.conv2:5,17 fc:0-9'."
                )
            indices = by_layer.setdefault(match["layer"], [])
            for piece in match["ranges"].split(","):
                first, _, last = piece.partition("-")
                indices.extend(range(int(first), int(last or first) + 1))
        return cls(by_layer)

    @classmethod
    def of(cls, units: UnitsLike) -> UnitSet:
        """Make a set from a UnitSet, text, a Unit, an iterable of Units or a mapping."""
        if isinstance(units, UnitSet):
            return units
        if isinstance(units, str):
            return cls.parse(units)
        if isinstance(units, Unit):
            return cls([units])
        return cls(units)

    @property
    def layers(self) -> dict[str, tuple[int, ...]]:
        """Sorted indices of each layer, as a new dict."""
        return dict(self._layers)

    def __str__(self) -> str:
        return " ".join(f"{layer}:{_ranges(ids)}" for layer, ids in self._layers.items())

    def __repr__(self) -> str:
        return f"UnitSet.parse({str(self)!r})"

    def __len__(self) -> int:
        return sum(len(indices) for indices in self._layers.values())

    def __iter__(self) -> Iterator[Unit]:
        for layer, indices in self._layers.items():
            for index in indices:
                yield Unit(layer, index)

    def __contains__(self, unit: object) -> bool:
        return isinstance(unit, Unit) and unit.index in self._layers.get(unit.layer, ())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UnitSet) and self._layers == other._layers

    def __hash__(self) -> int:
        return hash(frozenset(self._layers.items()))

    def __or__(self, other: UnitSet) -> UnitSet:
        return self._combine(other, set.union)

    def __and__(self, other: UnitSet) -> UnitSet:
        return self._combine(other, set.intersection)

    def __sub__(self, other: UnitSet) -> UnitSet:
        return self._combine(other, set.difference)

    def __xor__(self, other: UnitSet) -> UnitSet:
        return self._combine(other, set.symmetric_difference)

    def _combine(
        self, other: UnitSet, operation: Callable[[set[int], set[int]], set[int]]
    ) -> UnitSet:
        left, right = self._layers, other._layers
        return UnitSet(
            {
                name: operation(set(left.get(name, ())), set(right.get(name, ())))
                for name in {**left, **right}
            }
        )


UnitsLike = UnitSet | str | Unit | Iterable[Unit] | Mapping[str, Iterable[int]]


def _ranges(indices: Sequence[int]) -> str:
    """Runs of three or more become a range: 0,1,2,9 is written 0-2,9."""
    pieces: list[str] = []
    start = 0
    for stop in range(1, len(indices) + 1):
        if stop < len(indices) and indices[stop] == indices[stop - 1] + 1:
            continue
        run = indices[start:stop]
        pieces.extend([f"{run[0]}-{run[-1]}"] if len(run) > 2 else [str(i) for i in run])
        start = stop
    return ",".join(pieces)


def check_units(units: UnitsLike, layers: Sequence[Layer]) -> UnitSet:
    """The units as a set, once every one of them is known to exist.

    Raises
    ------
    KeyError
        If a layer is unknown; the message suggests the nearest names.
    IndexError
        If a layer has no such unit.

    Examples
    --------
    >>> check_units("fc:9", [Layer("fc", "linear", 10, "linear")])
    UnitSet.parse('fc:9')
    """
    chosen = UnitSet.of(units)
    by_name = {layer.name: layer for layer in layers}
    for name, indices in chosen.layers.items():
        if name not in by_name:
            raise UnknownLayerError(name, by_name)
        size = by_name[name].units
        if indices[-1] >= size:
            raise IndexError(
                f"layer {name!r} has {size} units, 0 to {size - 1}; there is no unit {indices[-1]}."
            )
    return chosen


class UnknownLayerError(KeyError):
    """The model has no such layer; the message suggests the nearest names it has."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        known = list(known)
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or known[:3]
        if near:
            listed = ", ".join(map(repr, near))
            hint = f"the nearest name{'s are' if len(near) > 1 else ' is'} {listed}"
        else:
            hint = "the model has no layer with units"
        self.sentence = f"there is no layer {name!r} with units in this model; {hint}."
        super().__init__(self.sentence)

    def __str__(self) -> str:
        # KeyError would print the sentence in quotes.
        return self.sentence
