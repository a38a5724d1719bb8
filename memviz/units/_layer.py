"""Layers, and units checked against them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from memviz.checks import coded, quoted

from ._set import UnitSet, UnitsLike


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
        GRU or RNN. Modules that declare their units name a kind of their own.
    units : int
        Channels, features, attention heads (of grouped-query attention, the query heads), neurons,
        or the features a recurrent layer emits at each step, both directions.
    site : str
        Where a unit's activation is read and replaced, e.g. ``"conv2d > batch_norm > relu"``.
    is_output : bool
        Whether the layer's activation is the model's output itself.
    interventions : tuple of str
        The only ones that the module's declaration allows; empty if it leaves them open.
    axes : tuple of int
        Of what the module returns: the axis, or the neighbouring axes, along which it declares its
        units. Empty if the units were found.
    dead : frozenset of int
        Units that nothing reads: whatever replaces them, no output changes.

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
    interventions: tuple[str, ...] = ()
    axes: tuple[int, ...] = ()
    dead: frozenset[int] = field(default=frozenset(), repr=False)

    @property
    def is_plain(self) -> bool:
        """Whether it is a convolution or linear layer, whose module returns its units."""
        return self.kind in ("conv", "linear")

    def all(self) -> UnitSet:
        """Every unit of the layer."""
        return UnitSet({self.name: range(self.units)})


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
                coded(
                    "E12",
                    f"layer {quoted(name)} has {size} units, 0 to {size - 1}; there is no unit "
                    f"{indices[-1]}.",
                )
            )
    return chosen


class UnknownLayerError(KeyError):
    """The model has no such layer; the message suggests the nearest names it has."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        known = list(known)
        near = difflib.get_close_matches(str(name)[:200], known, n=3, cutoff=0.4) or known[:3]
        if near:
            listed = ", ".join(map(quoted, near))
            hint = f"the nearest name{'s are' if len(near) > 1 else ' is'} {listed}"
        else:
            hint = "the model has no layer with units"
        self.sentence = coded(
            "E10", f"there is no layer {quoted(name)} with units in this model; {hint}."
        )
        super().__init__(self.sentence)

    def __str__(self) -> str:
        # KeyError would print the sentence in quotes.
        return self.sentence
