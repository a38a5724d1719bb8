"""Ablation by plain module hooks: the independent answer that every engine must give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from memviz.restored import hooked
from memviz.units import Declarer, declared_units, units_of

from .._replay import Edit, returned
from .._trace import ModuleCall, Trace
from .._values import Key, key_of, leaves, swap, tensors_in


@dataclass(frozen=True, eq=False)
class _Place:
    """One end of one call of a module, and which of the tensors there is changed.

    ``change`` is given the tensor, and the arguments of the module's call.
    """

    module: nn.Module
    number: int
    at: Literal["input", "output"]
    position: int
    change: Callable[[Tensor, Any, Any], Tensor]


class Hooks(hooked):
    """Hooks that make some edits at the ends of modules, for one forward pass."""

    def __init__(self, places: Sequence[_Place]) -> None:
        self._places = places
        self._numbers: dict[tuple[nn.Module, str], int] = {}
        modules = dict.fromkeys(place.module for place in places)
        super().__init__([(module, self._entering, self._leaving) for module in modules])

    def begin(self) -> None:
        """Put them on, and count the calls of each module from 0."""
        self._numbers.clear()
        super().begin()

    def _at(self, module: nn.Module, end: str) -> list[_Place]:
        number = self._numbers[module, end] = self._numbers.get((module, end), -1) + 1
        return [
            place
            for place in self._places
            if (place.module, place.at, place.number) == (module, end, number)
        ]

    def _entering(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        new = _changed(leaves(args, kwargs)[0], self._at(module, "input"), args, kwargs)
        return (swap(args, new), swap(kwargs, new)) if new else None

    def _leaving(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        places = self._at(module, "output")
        if not places:
            return None
        made = tensors_in(output)
        given = {id(tensor) for tensor in leaves(args, kwargs)[0]}
        new = _changed(made, places, args, kwargs)
        for place in places:
            tensor = made[place.position]
            if id(tensor) in given:
                # It was changed in place, and other code may hold it: it must see the edit.
                tensor.copy_(new.pop(id(tensor)))
        return returned(output, new) if new else None


def _changed(
    tensors: Sequence[Tensor], places: Sequence[_Place], args: Any, kwargs: Any
) -> dict[int, Tensor]:
    new: dict[int, Tensor] = {}
    for place in places:
        tensor = tensors[place.position]
        new[id(tensor)] = place.change(new.get(id(tensor), tensor), args, kwargs)
    return new


def hooks_for(trace: Trace, edits: Sequence[Edit]) -> Hooks | None:
    """The hooks that make these edits; None if one of them is not at the end of a module.

    Examples
    --------
    >>> import torch
    >>> from memviz.engine.record import Site, trace
    >>> model, inputs = nn.Sequential(nn.Linear(4, 8), nn.ReLU()).eval(), torch.ones(2, 4)
    >>> zeroed = Edit(Site(1, "output", 1), torch.zeros_like)
    >>> with hooks_for(trace(model, lambda: model(inputs)), [zeroed]):
    ...     model(inputs).abs().max().item()
    0.0
    """
    readers = _readers(trace)
    returned = {key_of(tensor) for tensor in tensors_in(trace.raw)}
    places = [
        _declared_place(trace, edit)
        if trace.calls[edit.site.call].function is units_of
        else _place(trace, edit, readers, returned)
        for edit in edits
    ]
    if any(place is None for place in places):
        return None
    return Hooks([place for place in places if place is not None])


def _readers(trace: Trace) -> dict[Key, list[int]]:
    readers: dict[Key, list[int]] = {}
    for index, call in enumerate(trace.calls):
        for key in call.input_keys:
            readers.setdefault(key, []).append(index)
    return readers


def _declared_place(trace: Trace, edit: Edit) -> _Place | None:
    """The module that declares the units, if it was called as one."""
    name = trace.calls[edit.site.call].args[1]
    for module in trace.modules:  # the innermost comes first
        if module.first <= edit.site.call < module.end:
            break
    else:
        return None
    units = declared_units(module.module)
    if units is None or module.name != name:
        return None
    declarer = Declarer(name, module.module, units)

    def change(output: Tensor, args: Any, kwargs: Any) -> Tensor:
        flat, _ = declarer.flattened(output)
        given = declarer.inputs(args, kwargs, output) if edit.site.at == "inside" else None
        changed = edit.change(flat) if given is None else edit.change(flat, given)
        return declarer.restored(changed, output)

    return _Place(module.module, module.number, "output", 0, change)


def _alone(edit: Edit) -> Callable[[Tensor, Any, Any], Tensor]:
    return lambda value, _args, _kwargs: edit.change(value)


def _place(
    trace: Trace, edit: Edit, readers: dict[Key, list[int]], returned: set[Key]
) -> _Place | None:
    site, call = edit.site, trace.calls[edit.site.call]
    if site.at == "input":
        key = call.input_keys[site.argument]
        # Only this call may read what enters the module.
        reading = [site.call]
        return _entered(trace.modules, key, edit, readers, reading, returned=False)
    if site.at != "output" or not call.output_keys:
        return None
    key = call.output_keys[0]
    for module in trace.modules:  # the innermost comes first
        inside = range(site.call + 1, module.end)
        if module.first <= site.call < module.end and key in module.outputs:
            if any(reader in inside for reader in readers.get(key, [])):
                return None
            position = module.outputs.index(key)
            return _Place(module.module, module.number, "output", position, _alone(edit))
    after = [reader for reader in readers.get(key, []) if reader > site.call]
    return _entered(trace.modules, key, edit, readers, after, returned=key in returned)


def _entered(
    modules: Sequence[ModuleCall],
    key: Key,
    edit: Edit,
    readers: dict[Key, list[int]],
    wanted: list[int],
    *,
    returned: bool,
) -> _Place | None:
    """The module that a value enters, if exactly the wanted calls read it there."""
    if returned or not wanted:
        return None
    for module in modules:
        if key not in module.inputs:
            continue
        within = [r for r in readers.get(key, []) if module.first <= r < module.end]
        if within == wanted:
            position = module.inputs.index(key)
            return _Place(module.module, module.number, "input", position, _alone(edit))
    return None
