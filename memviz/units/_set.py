"""Sets of units, made of whatever may stand for one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from memviz.checks import quoted

from ._text import checked_index, in_ranges, name_in_text, parsed, plain
from ._unit import Unit


class UnitSet:
    """An immutable set of units that prints and parses as ``"layer:5,17 fc:0-9"``.

    A layer name with spaces, colons, commas, quotes, backslashes or invisible characters stands in
    double quotes, as in JSON: ``'"my layer":5'``.

    Parameters
    ----------
    units : mapping of layer name to indices, or iterable of Unit
        Also text, or an iterable of texts: their union.

    Raises
    ------
    ValueError
        If text does not parse, or an index is negative or larger than any layer's (1,048,575).
    TypeError
        If something other than units is given, or an index is not a whole number.

    Examples
    --------
    >>> chosen = UnitSet.parse("layer3.0.conv2:5,17 fc:0-9")
    >>> len(chosen), str(chosen | UnitSet([Unit("fc", 10)]))
    (12, 'layer3.0.conv2:5,17 fc:0-10')
    """

    __slots__ = ("_layers",)

    def __init__(self, units: UnitsLike = ()) -> None:
        by_layer: dict[str, set[int]] = {}
        for layer, indices in _entries(plain(units)):
            by_layer.setdefault(layer, set()).update(indices)
        self._layers = _sorted(by_layer)

    @classmethod
    def parse(cls, text: str) -> UnitSet:
        """Parse ``"layer:5,17 fc:0-9"``; empty text is the empty set.

        Raises
        ------
        ValueError
            If the text does not parse.
        TypeError
            If it is no text.
        """
        if not isinstance(text, str):
            raise TypeError(f"{quoted(text)} is not text; make a set of it with UnitSet.of.")
        return cls(text)

    @classmethod
    def of(cls, units: UnitsLike) -> UnitSet:
        """Make a set from a UnitSet, text, a Unit, an iterable of Units or texts, or a mapping."""
        return units if isinstance(units, UnitSet) else cls(units)

    @property
    def layers(self) -> dict[str, tuple[int, ...]]:
        """Sorted indices of each layer, as a new dict."""
        return dict(self._layers)

    def __str__(self) -> str:
        return " ".join(
            f"{name_in_text(layer)}:{in_ranges(ids)}" for layer, ids in self._layers.items()
        )

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

    def __or__(self, other: UnitsLike) -> UnitSet:
        return self._combine(other, set.union)

    def __and__(self, other: UnitsLike) -> UnitSet:
        return self._combine(other, set.intersection)

    def __sub__(self, other: UnitsLike) -> UnitSet:
        return self._combine(other, set.difference)

    def __xor__(self, other: UnitsLike) -> UnitSet:
        return self._combine(other, set.symmetric_difference)

    def _combine(
        self, other: UnitsLike, operation: Callable[[set[int], set[int]], set[int]]
    ) -> UnitSet:
        left, right = self._layers, UnitSet.of(other)._layers
        combined = UnitSet()
        combined._layers = _sorted(
            {
                name: operation(set(left.get(name, ())), set(right.get(name, ())))
                for name in {**left, **right}
            }
        )
        return combined


UnitsLike = UnitSet | str | Unit | Iterable[Unit | str] | Mapping[str, Iterable[int]]


def _sorted(by_layer: Mapping[str, Iterable[int]]) -> dict[str, tuple[int, ...]]:
    return {layer: tuple(sorted(indices)) for layer, indices in by_layer.items() if indices}


def _entries(units: Any) -> Iterator[tuple[str, Iterable[int]]]:
    """Names of layers with some of their units, checked."""
    if isinstance(units, UnitSet):
        yield from units.layers.items()
    elif isinstance(units, str):
        yield from parsed(units).items()
    elif isinstance(units, Unit):
        yield _checked_name(units.layer), (checked_index(units.layer, units.index),)
    elif isinstance(units, Mapping):
        for layer, indices in units.items():
            yield _checked_name(layer), _indices(layer, indices)
    elif not isinstance(units, bytes) and isinstance(units, Iterable):
        for unit in units:
            if isinstance(unit, tuple) and len(unit) == 2 and isinstance(unit[0], str):
                yield from _entries(Unit(*unit))
            elif isinstance(unit, Unit | UnitSet | str):
                yield from _entries(unit)
            else:
                raise TypeError(f"{quoted(unit)} is not a unit; {_ADVICE}.")
    else:
        raise TypeError(f"expected units, got {quoted(units)}; {_ADVICE}.")


_ADVICE = (
    "give text such as 'fc:0-9', a list of Units, indices by layer, {'fc': [0, 1]}, or all units "
    "of a layer, mv.layers(study)[0].all()"
)


def _indices(layer: str, given: Iterable[int]) -> Iterator[int]:
    values: Any = plain(given)
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise TypeError(
            f"the units of layer {quoted(layer)} are given as {quoted(given)}; give a list of "
            "indices, for example [0, 1]."
        )
    if isinstance(values, range) and values:
        # The ends first: a long range is not spelled out only to be refused.
        checked_index(layer, values[0])
        checked_index(layer, values[-1])
    for value in values:
        yield checked_index(layer, value)


def _checked_name(layer: str) -> str:
    if not isinstance(layer, str):
        raise TypeError(
            f"a layer is named {quoted(layer)}; names of layers are texts, for example "
            f"{quoted(str(layer))}."
        )
    return layer
