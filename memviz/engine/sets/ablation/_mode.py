"""The mode that ablates units in one thread's calls while ``mv.ablate`` blocks run."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from memviz.engine.record import (
    METADATA,
    Edit,
    Site,
    Zero,
    edit,
    leaves,
    returned,
    run_edited,
    swap,
    tensors_in,
)
from memviz.units import Declarer

from ._activations import Activation, Activations
from ._block import Block, Group, Pass
from ._checkpointing import Again, follow_checkpoint
from ._places import Place, Places
from ._thread import called_by_memviz, in_hook, push, remove
from ._weights import Owners, Running, argument, has_units, unit_axis, versions, weight_axis

_NO_FILTER = (
    "the units of {name!r} cannot be ablated as filters: {function} is called with a weight whose "
    "rows are not one per unit; use 'zero'."
)
_SEVERAL = (
    "the units of {name!r} cannot be ablated as filters: the layer uses its weights in several "
    "calls; use 'zero'."
)
_NOT_RETURNED = (
    "layer {name!r} ({kind}) does not return its units on the axis where its type has them, so "
    "they could not be ablated; ablate units of another layer."
)
_TWICE = (
    "layer {name!r} returns what a layer inside it made, and units of both are ablated; ablate the "
    "units of one of the two layers."
)
_EXPORTED = (
    "an exported copy of the model was called, whose units memviz cannot follow; call the model "
    "itself inside the block."
)


class Ablating(TorchFunctionMode):
    """Sees every torch call of a thread, and changes the activations of the blocks' units.

    A layer is known by its weight, whoever calls it, and its axis of units by its own definition.

    Attributes
    ----------
    blocks : list of Block
        Those in force, the outermost first.
    passes : list of Pass
        What runs now of the models.
    running : list of Running
        Layers whose own forward runs now.
    met : dict of int to int
        How often each layer was used, by id.
    asleep : bool
        Whether all calls pass unseen.
    end : ExitStack
        What the last block does when it ends.
    """

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.passes: list[Pass] = []
        self.running: list[Running] = []
        self.met: dict[int, int] = {}
        self.asleep = False
        self.busy = False
        self.end = ExitStack()
        self.owners, self.places = Owners(), Places()
        self.activations = Activations(self._changed, lambda within: within in self.passes)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.busy or self.asleep or not self.blocks or func in METADATA:
            return func(*args, **kwargs)
        self.busy = True  # the mode may be on the stack twice, below and above another one
        try:
            return self._call(func, args, kwargs)
        finally:
            self.busy = False

    def _call(self, func: Any, args: Any, kwargs: Any) -> Any:
        following = self.activations
        args, kwargs = following.swapped(args, kwargs)
        tensors, _ = leaves(args, kwargs)
        name = getattr(func, "__name__", str(func))
        continued = None
        if following.known(tensors):
            if in_hook():
                return following.observed(tensors, func(*args, **kwargs))
            if following.is_copy(name, tensors):
                return following.copied(tensors[0], func(*args, **kwargs))
            if following.is_identity(name, func, args, kwargs, tensors):
                return func(*args, **kwargs)
            continued = following.continued(name, tensors)
            following.read(tensors, continued)
            args, kwargs = following.swapped(args, kwargs)
            tensors, _ = leaves(args, kwargs)
        if self.owners.are_fixed(tensors):
            output = self._run(func, args, kwargs)
            if tensors or self.passes:
                self.owners.derive(func, tensors, leaves((output,), {})[0])
            return output
        before = versions(tensors) if self.running else []
        owners = self.owners.of(tensors)
        layers = [running.meets(name) for running in self.running if running.layer in owners]
        layers += [] if self.running else self._by_function(func, args, kwargs, tensors)
        for layer in layers:
            args, kwargs = self._filtered(layer, name, args, kwargs, tensors)
        output = self._run(func, args, kwargs)
        if continued is not None:
            output = following.advance(continued, name, tensors[0], output)
        for running in self.running:
            running.sees(name, tensors, before, output, met=running.layer in owners)
        if layers and not self.running and isinstance(output, Tensor):
            return self._used(layers[0], name, output)
        return output

    def _by_function(
        self, func: Any, args: Any, kwargs: Any, tensors: list[Tensor]
    ) -> list[nn.Module]:
        """The layer whose units a function makes outside of the layer's own forward."""
        if not any(self.groups(layer) for layer in self.owners.of(tensors)):
            return []
        if isinstance(func, torch._ops.OpOverload | torch._ops.OpOverloadPacket):
            raise RuntimeError(_EXPORTED)
        if not self.passes and called_by_memviz():
            return []  # an engine that computes a recorded call again
        layer = self.owners.by_function(func, args, kwargs, tensors, self.name)
        return [] if layer is None else [layer]

    def _filtered(
        self, module: nn.Module, name: str, args: Any, kwargs: Any, tensors: list[Tensor]
    ) -> tuple[Any, Any]:
        """The call with the weights of units that are ablated as filters set to 0."""
        groups = [group for group in self.groups(module) if group.how.at == "filter"]
        if not groups:
            return args, kwargs
        if any(running.layer is module and running.met > 1 for running in self.running):
            raise RuntimeError(_SEVERAL.format(name=self.name(module)))
        weight = self.owners.weight(tensors, module)
        axis = weight_axis(name, weight, unit_axis(module)[1], kwargs.get("groups", 1))
        if axis is None:
            raise RuntimeError(_NO_FILTER.format(name=self.name(module), function=name))
        new = weight
        for group in groups:
            new = edit(Site(0, "output", axis), group.units, Zero(), None).change(new)
        exchanged = {id(weight): new}
        return swap(args, exchanged), swap(kwargs, exchanged)

    def _run(self, func: Any, args: Any, kwargs: Any) -> Any:
        """The call, edited where units are in what meets a weight, such as heads."""
        places = self.places.met(func, leaves(args, kwargs)[0])
        if not any(self.groups(place.module) for place in places):
            return func(*args, **kwargs)
        follow_checkpoint(self._remember)
        edits = []
        for place in places:
            use = self._count(place.module)
            for group in self.groups(place.module):
                change = partial(self._edited, group, place.site, use, "")
                if place.site.at == "input":
                    value = self._met_by_weight(func, args, kwargs, place)
                    exchanged = {id(value): change(value)}
                    args, kwargs = swap(args, exchanged), swap(kwargs, exchanged)
                else:
                    edits.append(Edit(place.site, change))
        call = partial(func, *args, **kwargs)
        return run_edited(places[0].trace, edits, call) if edits else call()

    def _met_by_weight(self, func: Any, args: Any, kwargs: Any, place: Place) -> Tensor:
        """The activation that meets the weight of a place, given by position or by name."""
        activations = [t for t in leaves(args, kwargs)[0] if not self.owners.are_fixed([t])]
        if len(activations) == 1:
            return activations[0]
        value: Tensor = argument(func, args, kwargs, place.site.argument)
        return value

    def returned(self, running: Running, output: Any) -> Any:
        """What a layer's own forward returns, its units ablated there.

        Raises
        ------
        RuntimeError
            If it does not return its units, or another ablated layer's as its own.
        """
        layer = running.layer
        for tensor in tensors_in(output):
            if tensor not in running.made or not has_units(layer, tensor):
                continue
            if self.activations.known([tensor]):
                raise RuntimeError(_TWICE.format(name=self.name(layer)))
            function, ended = running.start(tensor)
            with self.sleeping():
                new = self._used(layer, function, tensor, ended=ended)
            return output if new is tensor else swap(output, {id(tensor): new})
        raise RuntimeError(_NOT_RETURNED.format(name=self.name(layer), kind=type(layer).__name__))

    def declared(self, declarer: Declarer, output: Any, args: Any, kwargs: Any) -> Tensor:
        """What a module that declares its units returns, with those of the blocks ablated.

        Raises
        ------
        RuntimeError
            If that is the activation of an ablated layer inside it.
        """
        module = declarer.module
        if self.activations.known(tensors_in(output)):
            raise RuntimeError(_TWICE.format(name=declarer.name))
        follow_checkpoint(self._remember)
        use = self._count(module)
        with self.sleeping():
            value, axis = declarer.flattened(output)
            for group in self.groups(module):
                reads = group.how.needs == "input"
                given = (declarer.inputs(args, kwargs, output),) if reads else ()
                value = self._edited(group, Site(0, "output", axis), use, "", value, *given)
            return declarer.restored(value, output)

    def _used(self, layer: nn.Module, name: str, output: Tensor, *, ended: bool = False) -> Tensor:
        """A layer's activation, followed or, if it has ended, changed."""
        if not has_units(layer, output):
            return output
        follow_checkpoint(self._remember)
        use, groups = self._count(layer), [g for g in self.groups(layer) if g.how.at == "unit"]
        if not groups:
            return output
        within, words = self.passes[-1] if self.passes else None, [name.rstrip("_")]
        axis, _ = unit_axis(layer)
        activation = Activation(layer, self.name(layer), groups, axis, words, use, within)
        return (self._changed if ended else self.activations.start)(activation, output)

    def _count(self, module: nn.Module) -> int:
        """Count a use of a layer; which one it is in this pass."""
        self.met[id(module)] = self.met.get(id(module), 0) + 1
        if not self.passes:
            return 0
        uses = self.passes[-1].uses
        uses[id(module)] = uses.get(id(module), 0) + 1
        return uses[id(module)] - 1

    def _changed(self, activation: Activation, value: Tensor) -> Tensor:
        site = Site(0, "output", activation.axis)
        words = " > ".join(activation.words)
        for group in activation.groups:
            value = self._edited(group, site, activation.use, words, value)
        return value

    def _edited(
        self, group: Group, site: Site, use: int, words: str, value: Tensor, *given: Any
    ) -> Tensor:
        with self.sleeping():
            reference = group.reference(value, site, use, words, self.passes)
        return edit(site, group.units, group.how, reference).change(value, *given)

    def groups(self, module: nn.Module) -> list[Group]:
        """What the blocks in force do to a layer, one entry per intervention."""
        merged: list[Group] = []
        for block in self.blocks:
            group = block.groups.get(id(module))
            if group is not None:
                merged = Group.merged(merged, group)
        return merged

    def covers(self, module: nn.Module) -> bool:
        """Whether calls of a module are seen for a block of this thread."""
        return any(id(module) in block.covered for block in self.blocks)

    def name(self, module: nn.Module) -> str:
        """The name of a layer in its model."""
        names = (block.name(module) for block in self.blocks)
        return next((name for name in names if name), type(module).__name__)

    def released(self, value: Any, *, ended: bool) -> Any:
        """What a module returns, changed values in place of the old; ``ended`` at the model's."""
        plain = isinstance(value, Tensor | tuple | list | dict) or not hasattr(value, "__dict__")
        tensors, _ = leaves((value if plain else vars(value),), {})
        if ended:
            self.activations.returned(tensors)
        new = self.activations.new(tensors)
        return returned(value, new) if new else value

    @contextmanager
    def sleeping(self) -> Iterator[None]:
        """Let all calls pass."""
        asleep, self.asleep = self.asleep, True
        try:
            yield
        finally:
            self.asleep = asleep

    @contextmanager
    def seeing(self) -> Iterator[None]:
        """See calls before any other mode does, also in a call of its own, such as a backward."""
        push(self)
        busy, self.busy = self.busy, False
        try:
            yield
        finally:
            self.busy = busy
            remove(self)

    def _remember(self) -> Again:
        """What ablates again as in the passes that run now."""

        def counted(passes: list[Pass]) -> list[Pass]:
            return [replace(running, uses=dict(running.uses)) for running in passes]

        blocks, passes = list(self.blocks), counted(self.passes)
        return lambda: self._as_if(blocks, counted(passes))

    @contextmanager
    def _as_if(self, blocks: list[Block], passes: list[Pass]) -> Iterator[None]:
        """Ablate as blocks did in earlier passes, whatever is in force now."""
        before = self.blocks, self.passes, ablating()
        self.blocks, self.passes = blocks, passes
        set_ablating(self)
        try:
            with self.seeing():
                yield
        finally:
            self.blocks, self.passes = before[:2]
            set_ablating(before[2])


_LOCAL = threading.local()


def ablating() -> Ablating | None:
    """The mode of this thread, while blocks run."""
    mode: Ablating | None = getattr(_LOCAL, "mode", None)
    return mode


def set_ablating(mode: Ablating | None) -> None:
    """Make a mode this thread's."""
    _LOCAL.mode = mode
