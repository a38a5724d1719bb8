"""One ``mv.ablate`` block: which units of which modules, how, and from which examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from memviz.engine.record import Intervention, Replay, Site
from memviz.units import UnitSet, declared_units

from ._thread import no_modes
from ._weights import is_layer

_HOWS = (
    "unit {name}:{unit} is already ablated by {there}, in a block around this one, and {here} is "
    "another intervention; leave that block first, or leave the unit out."
)
_ANOTHER_PLACE = (
    "{how!r} takes its values after {there!r} of layer {name!r}, and this call reads the layer "
    "after {here!r}; call the whole model, or use 'zero'."
)
_NO_EXAMPLES = (
    "{how!r} gives each example of a batch the activation of another example, so it needs a call "
    "of the model itself on such a batch; use 'zero', 'mean' or a constant here."
)


@dataclass(eq=False)
class Pass:
    """A call of a module from outside of the model, until it returns."""

    module: nn.Module
    batch: int = 0
    uses: dict[int, int] = field(default_factory=dict)
    ran: set[int] = field(default_factory=set)  # modules with units whose forward ran


@dataclass(frozen=True)
class Group:
    """Units of one layer that are ablated alike."""

    name: str
    units: tuple[int, ...]
    how: Intervention
    root: nn.Module
    source: Replay | None = None
    origin: object = None  # the examples that values are taken from

    @property
    def words(self) -> str:
        """What is done, the same in every run of the program."""
        examples = "" if self.source is None else f" of {tuple(self.source.examples.shape)}"
        return f"{self.units} {self.how!r}{examples}"

    def same(self, other: Group) -> bool:
        """Whether both do the same to a unit."""
        return self.how == other.how and self.origin is other.origin

    @staticmethod
    def merged(groups: Sequence[Group], other: Group) -> list[Group]:
        """The groups and one more; alike ones become one.

        Raises
        ------
        ValueError
            If they do different things to a unit.
        """
        merged = []
        for group in groups:
            if group.same(other):
                other = replace(group, units=tuple(sorted({*group.units, *other.units})))
                continue
            both = sorted({*group.units} & {*other.units})
            if both:
                raise ValueError(
                    _HOWS.format(
                        name=other.name,
                        unit=both[0],
                        there=repr(str(group.how)),
                        here=repr(str(other.how)),
                    )
                )
            merged.append(group)
        return [*merged, other]

    def reference(
        self, value: Tensor, site: Site, use: int, words: str, passes: Sequence[Pass]
    ) -> Tensor | None:
        """What the intervention takes from its examples, for a value that passes a site.

        Raises
        ------
        RuntimeError
            If the place differs from that in the source, or its examples do not fit this call.
        """
        if self.source is None:
            return None
        located = self.source.located[self.name]
        sites, outermost = located.unit_sites, passes[0] if passes else None
        is_whole = outermost is not None and outermost.module is self.root
        if words and len(sites) == 1 and located.layer.site != words:
            raise RuntimeError(
                _ANOTHER_PLACE.format(
                    how=str(self.how), there=located.layer.site, name=self.name, here=words
                )
            )
        use = use if len(sites) > 1 else 0
        if (len(sites) > 1 or self.how.needs == "donor") and not (is_whole and use < len(sites)):
            raise RuntimeError(_NO_EXAMPLES.format(how=str(self.how)))
        batch = outermost.batch if outermost is not None else 0
        with no_modes():
            reference = self.source.reference_for(self.name, use, self.how, batch)
        if reference is None or self.how.needs == "donor":
            return None if reference is None else self._shaped(reference, value, site)
        shape = [1] * value.dim()
        shape[site.axis] = -1
        return reference.reshape(shape)

    def _shaped(self, reference: Tensor, value: Tensor, site: Site) -> Tensor:
        """A donor's activation in the shape of this one: a layer may return a view of its map."""
        if reference.shape == value.shape:
            return reference
        is_last = site.axis % value.dim() == value.dim() - 1
        alike = is_last and value.is_contiguous() and reference.shape[-1] == value.shape[-1]
        if not alike or reference.numel() != value.numel():
            raise RuntimeError(_NO_EXAMPLES.format(how=str(self.how)))
        return reference.reshape(value.shape)


class Block:
    """The units that one ``with`` ablates.

    Attributes
    ----------
    root : nn.Module
        The model.
    modules : dict of name to nn.Module
        Those that have the units; ``others`` are those among them that are no conv or linear layer
        and do not declare their units; ``plain`` says whether any is a conv or linear layer.
    groups : dict of the id of a module to Group
    path : list of nn.Module
        Those, and every module that contains one.
    covered : set of int
        Ids of the modules whose calls are seen.
    called : bool
        Whether the model itself was called from outside.
    rehearsed : set of int
        Ids of modules of which it is known where activations end in their passes.
    """

    def __init__(
        self,
        root: nn.Module,
        units: UnitSet,
        how: Intervention,
        source: Replay | None,
        origin: object,
    ) -> None:
        self.root = root
        modules = dict(root.named_modules())
        self.modules = {name: modules[name] for name in units.layers}
        self.plain = any(map(is_layer, self.modules.values()))
        self.others = {
            n: module
            for n, module in self.modules.items()
            if not is_layer(module) and declared_units(module) is None
        }
        self.groups = {
            id(modules[name]): Group(name, indices, how, root, source, origin)
            for name, indices in units.layers.items()
        }
        self.path = self._path()
        self.covered = {id(module) for module in self.path}
        self.called = False
        self.rehearsed: set[int] = set()

    def name(self, module: nn.Module) -> str:
        """The name of a module in the model."""
        names = (name for name, known in self.root.named_modules() if known is module)
        return next(names, "")

    def _path(self) -> list[nn.Module]:
        """The modules with the units, and every module that contains one."""
        return [
            module
            for module in self.root.modules()
            if any(id(inner) in self.groups for inner in module.modules())
        ]


def batch_of(arguments: Sequence[Any]) -> int:
    """How many examples a call has: the length of its first tensor."""
    first = next((value for value in arguments if isinstance(value, torch.Tensor)), None)
    return len(first) if first is not None and first.dim() else 0


def never_reached(name: str, module: nn.Module) -> str:
    """The sentence of a layer that no call came to."""
    return (
        f"layer {name!r} ({type(module).__name__}) is never reached as a layer with units in the "
        "forward pass."
    )
