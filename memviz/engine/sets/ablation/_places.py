"""Places of units in calls with other weights than a layer's own, such as attention heads."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from memviz.engine.record import Site, Trace, check_located, locate, trace
from memviz.study import twin
from memviz.units import check_units

from ._block import Block

_NO_WEIGHT = (
    "the units of {name!r} ({kind}) are in a call without weights, which mv.ablate cannot "
    "recognize; ablate units of another layer, or use mv.readout."
)
_NO_FILTER = (
    "the units of {name!r} ({kind}) have no filter of their own that a block could set to 0; "
    "use 'zero' or 'mean'."
)


@dataclass(eq=False)
class Place:
    """A call with a weight where units of a layer are, as a trace has shown.

    ``trace`` holds that call alone.
    """

    module: nn.Module
    trace: Trace
    site: Site

    @property
    def function(self) -> Any:
        """The function that is called."""
        return self.trace.calls[0].function

    @property
    def weight(self) -> Tensor:
        """The weight by which the call is known."""
        return self.trace.calls[0].weights[0][1]

    def same(self, other: Place) -> bool:
        """Whether both are the same place, met again."""
        return (
            self.module is other.module
            and self.site == other.site
            and self.function is other.function
            and self.weight is other.weight
        )


class Places:
    """The places that traces have shown, by the weight of the call."""

    def __init__(self) -> None:
        self._by_weight: dict[int, list[Place]] = {}
        self._found: set[int] = set()
        self._tried: set[tuple[int, int]] = set()

    def wanted(self, block: Block, called: nn.Module) -> list[str]:
        """A block's layers whose places are not known yet and may be seen in this module."""
        inner = {id(module) for module in called.modules()}
        return [
            name
            for name, module in block.others.items()
            if id(module) in inner
            and id(module) not in self._found
            and (id(module), id(called)) not in self._tried
        ]

    def learn(
        self, block: Block, names: list[str], called: nn.Module, args: Any, kwargs: Any
    ) -> None:
        """Trace a call of a module of the block's model, and find the places of these layers.

        Raises
        ------
        ValueError, IndexError
            If the whole model never reaches one of them, or it has no such unit.
        """
        # Others may call the model meanwhile: hooks and changed attributes must not be theirs.
        own = twin(block.root)
        for module in own.modules():
            module._forward_hooks, module._forward_pre_hooks = OrderedDict(), OrderedDict()
        module = own.get_submodule(block.name(called))
        seen = trace(own, lambda: module(*args, **kwargs))
        located = locate(own, seen)
        for name in names:
            module = block.modules[name]
            self._tried.add((id(module), id(called)))
            if name in located:
                layer, group = located[name].layer, block.groups[id(module)]
                check_units({name: group.units}, [layer])
                if group.how.at == "filter" and layer.kind != "heads":
                    raise ValueError(_NO_FILTER.format(name=name, kind=layer.kind))
                self._found.add(id(module))
                for site in located[name].unit_sites:
                    self._add(module, name, seen, site)
            elif block.root is called:
                check_located(own, seen, located, {name: block.groups[id(module)].units})

    def met(self, func: Any, tensors: list[Tensor]) -> list[Place]:
        """The places in a call."""
        return [
            place
            for tensor in (tensors if self._by_weight else ())
            for place in self._by_weight.get(id(tensor), ())
            if place.weight is tensor and place.function is func
        ]

    def _add(self, module: nn.Module, name: str, seen: Trace, site: Site) -> None:
        call = seen.calls[site.call]
        if not call.weights:
            raise RuntimeError(_NO_WEIGHT.format(name=name, kind=type(module).__name__))
        # Without its tensors, which would be kept as long as the block runs.
        call = replace(
            call, inputs=[], input_keys=[], args=(), kwargs={}, output=None, output_keys=[]
        )
        alone = replace(
            seen, calls=[call], volatile=frozenset(), raw=None, random=False, counting=None
        )
        place = Place(module, alone, replace(site, call=0))
        known = self._by_weight.setdefault(id(place.weight), [])
        if not any(other.same(place) for other in known):
            known.append(place)
