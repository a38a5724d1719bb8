"""Where a layer's activation passes in a forward pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from memviz.units import DeclaredUnits, Layer


@dataclass(frozen=True)
class Site:
    """Where a layer's activation passes: a call, and the axis and width of its units.

    ``at`` is the call's ``"output"``, its ``"input"``, the tensor number ``argument`` that it is
    given, or ``"inside"``: a value that never leaves a fused call, such as the heads of torch's own
    attention. Which of several such values is meant, ``argument`` says: the layer of an LSTM, or
    the expert.
    """

    call: int
    at: Literal["output", "input", "inside"]
    axis: int
    width: int = 1
    argument: int = 0


@dataclass(frozen=True)
class Located:
    """A layer with its sites, one per time the forward pass reaches it.

    ``unfiltered`` says why filter ablation is not possible; empty if it is. ``by_example`` is False
    where a value's positions can't be told apart by example, as in a packed sequence. ``read_by``
    are the calls that project heads or neurons; there are none for other layers. ``biases`` are
    those of the calls at the filter sites. ``declared`` is the module's own declaration, if the
    units come from one.
    """

    layer: Layer
    unit_sites: tuple[Site, ...]
    filter_sites: tuple[Site, ...]
    unfiltered: str = ""
    by_example: bool = True
    read_by: tuple[int, ...] = ()
    biases: tuple[Tensor | None, ...] = ()
    declared: DeclaredUnits | None = None

    def and_again(self, later: Located) -> Located:
        """The same layer, reached once more."""
        return Located(
            self.layer,
            (*self.unit_sites, *later.unit_sites),
            (*self.filter_sites, *later.filter_sites),
            self.unfiltered or later.unfiltered,
            self.by_example and later.by_example,
            (*self.read_by, *later.read_by),
            (*self.biases, *later.biases),
            self.declared,
        )
