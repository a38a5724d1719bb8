"""Activations on their way: where each one ends, and who gets its changed value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from memviz.engine.record import NONLINEARITIES, NORMALIZATIONS, leaves, swap

from ._block import Group, Pass
from ._watched import Watched

# Where these return their own input, they are no call at all; else they make a changed copy.
_CONVERSIONS = frozenset(
    [
        *("contiguous", "to", "type", "type_as", "float", "double", "half", "bfloat16"),
        *("cpu", "cuda", "requires_grad_"),
    ]
)
_COPIES = frozenset(["detach", "clone"])
_DROPOUTS = frozenset(
    [
        *("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout"),
        "feature_alpha_dropout",
    ]
)
_SECOND_READER = (
    "an activation of {name!r} was used both by the function that follows the layer and elsewhere, "
    "outside of any module of the model, so the place of its units cannot be told; call the model "
    "or the module that computes it."
)
Key = tuple[int, int, int]  # the layer's module, the number of its use in a pass, the stage


class Conflict(BaseException):
    """The guess where a layer's activation ends was wrong: run the pass again, knowing better.

    Not an Exception, which a model might catch.
    """

    def __init__(self, key: Key) -> None:
        super().__init__()
        self.key = key


@dataclass(eq=False)
class Activation:
    """A layer's activation on its way through the norm and the non-linearity that may follow.

    ``use`` numbers the layer's calls in the pass that it is ``within``; ``stage`` counts the
    functions that have followed; ``values`` are the tensor it is now, and copies of it.
    """

    module: nn.Module
    name: str
    groups: list[Group]
    axis: int
    words: list[str]
    use: int
    within: Pass | None
    stage: int = 0
    values: Watched[None] = field(default_factory=Watched)

    @property
    def key(self) -> Key:
        """Names the activation at its stage, the same in each pass."""
        return id(self.module), self.use, self.stage


@dataclass(eq=False)
class Stopped:
    """An activation that ended early, as a former run of the pass showed; and its readers."""

    key: Key
    readers: list[bool] = field(default_factory=list)  # whether each one continues it


class Activations:
    """Follows activations until a call that is no norm or non-linearity reads them.

    The first reader alone does not tell: ``h * sigmoid(h)`` reads h again after the non-linearity,
    and then h is where the layer ends. The pass is then run again with that activation in
    ``stops``.

    Parameters
    ----------
    change : callable
        The value of an activation with the units ablated.
    is_running : callable
        Whether a pass still runs, so that it can be run again.
    """

    def __init__(
        self,
        change: Callable[[Activation, Tensor], Tensor],
        is_running: Callable[[Pass], bool],
    ) -> None:
        self.change, self.is_running = change, is_running
        self.stops: set[Key] = set()
        self._waiting: Watched[Activation] = Watched()
        self._continued: Watched[tuple[Activation, Key]] = Watched()
        self._stopped: Watched[Stopped] = Watched()
        self._early: list[Stopped] = []  # those of this pass
        self._exchanged: Watched[Tensor] = Watched()
        self._in_place: Watched[None] = Watched()

    def swapped(self, args: Any, kwargs: Any) -> tuple[Any, Any]:
        """Arguments with the changed values of activations that have ended."""
        new = self.new(leaves(args, kwargs)[0]) if len(self._exchanged) else {}
        return (swap(args, new), swap(kwargs, new)) if new else (args, kwargs)

    def new(self, tensors: list[Tensor]) -> dict[int, Tensor]:
        """The changed values of these tensors, by id."""
        new = {}
        for tensor in tensors:
            while (other := self._exchanged.get(tensor)) is not None:
                new[id(tensor)] = tensor = other
        return new

    def known(self, tensors: list[Tensor]) -> bool:
        """Whether one of these tensors is an activation that is followed."""
        return any(
            t in self._waiting or t in self._continued or t in self._stopped for t in tensors
        )

    def observed(self, tensors: list[Tensor], output: Any) -> Any:
        """A hook's call reads nothing for the model; what it makes may take a value's place."""
        for tensor in tensors:
            activation = self._waiting.get(tensor)
            is_new = isinstance(output, Tensor) and not self.known([output])
            if activation is not None and is_new and output.shape == tensor.shape:
                activation.values.put(output, None)
                self._waiting.put(output, activation)
        return output

    def is_copy(self, name: str, tensors: list[Tensor]) -> bool:
        """Whether a call only copies an activation, as hooks do; what reads the copy counts."""
        return name in _COPIES and len(tensors) == 1

    def copied(self, tensor: Tensor, copy: Tensor) -> Tensor:
        """Follow a copy with its original."""
        if copy is tensor:
            return copy
        activation = self._waiting.get(tensor)
        if activation is not None:
            activation.values.put(copy, None)
            self._waiting.put(copy, activation)
        passed = self._continued.get(tensor)
        if passed is not None:
            self._continued.put(copy, passed)
        stopped = self._stopped.get(tensor)
        if stopped is not None:
            self._stopped.put(copy, stopped)
        return copy

    def is_identity(
        self, name: str, func: Any, args: Any, kwargs: Any, tensors: list[Tensor]
    ) -> bool:
        """Whether a call returns its own input, like dropout in eval mode."""
        if name in _DROPOUTS:
            training = kwargs.get("training", kwargs.get("train", (*args[2:3], True)[0]))
            return not training or kwargs.get("p", (*args[1:2], 0.5)[0]) == 0
        return name in _CONVERSIONS and func(*args, **kwargs) is tensors[0]

    def continued(self, name: str, tensors: list[Tensor]) -> Activation | None:
        """The activation that a call takes a step further."""
        first = tensors[0]
        activation, stopped = self._waiting.get(first), self._stopped.get(first)
        stage = activation.stage if activation else stopped.key[2] if stopped else 0
        follows = name in NONLINEARITIES or (name in NORMALIZATIONS and stage == 0)
        if stopped is not None:
            stopped.readers.append(follows)
        if activation is None or not follows:
            return None
        if any(self._waiting.get(tensor) is activation for tensor in tensors[1:]):
            return None
        return activation

    def read(self, tensors: list[Tensor], continued: Activation | None) -> None:
        """End what a call reads, unless the call continues it."""
        for place, tensor in enumerate(tensors):
            stopped = self._stopped.get(tensor)
            if stopped is not None and place:
                stopped.readers.append(False)
            passed = self._continued.get(tensor)
            if passed is not None:
                self._conflict(*passed)
            activation = self._waiting.get(tensor)
            if activation is not None and activation is not continued:
                self._end(activation)

    def start(self, activation: Activation, value: Tensor) -> Tensor:
        """Follow a new activation, or one at its next stage; its value from here on."""
        if activation.key in self.stops:
            changed = self.change(activation, value)
            self._early.append(Stopped(activation.key))
            self._stopped.put(changed, self._early[-1])
            return changed
        activation.values.put(value, None)
        self._waiting.put(value, activation)
        return value

    def advance(self, activation: Activation, name: str, value: Tensor, output: Tensor) -> Tensor:
        """An activation after the norm or non-linearity ``name``; the call's output, changed."""
        activation.words.append(name.rstrip("_"))
        for old, _ in activation.values.living():
            self._waiting.pop(old)
            if old is not output:
                self._continued.put(old, (activation, activation.key))
        activation.stage += 1
        activation.values = Watched()
        if name not in NONLINEARITIES:
            return self.start(activation, output)
        changed = self.change(activation, output)
        if output is value:  # in place: who has the old name must see the changed value
            self._exchanged.put(value, changed)
            self._in_place.put(value, None)
        return changed

    def returned(self, tensors: list[Tensor]) -> None:
        """End what the model returns."""
        for tensor in tensors:
            activation, passed = self._waiting.get(tensor), self._continued.get(tensor)
            stopped = self._stopped.get(tensor)
            if stopped is not None:
                stopped.readers.append(False)
            if activation is not None:
                self._end(activation)
            if passed is not None:
                self._conflict(*passed)

    def check_stops(self) -> None:
        """An activation that ended early must have had a reason in this pass too."""
        for stopped in self._early:
            if stopped.readers == [True]:
                raise Conflict(stopped.key)

    def passed(self, outermost: Pass) -> None:
        """After a pass: who reads its values now only looks at them."""
        self._stopped.clear()
        self._early.clear()
        for value, (activation, _) in self._continued.living():
            if activation.within is outermost:
                self._continued.pop(value)

    def write_back(self) -> None:
        """Give tensors that outlive the blocks, in the caller's hands, their changed values."""
        for activation in {id(a): a for _, a in self._waiting.living()}.values():
            self._end(activation)
        for value, new in self._exchanged.living():
            if value in self._in_place and value.requires_grad:
                continue  # its gradient needs the value that the function gave it
            with torch.inference_mode(value.is_inference()):
                value.copy_(new)

    def _end(self, activation: Activation) -> None:
        for value, _ in activation.values.living():
            self._waiting.pop(value)
            self._exchanged.put(value, self.change(activation, value))

    def _conflict(self, activation: Activation, key: Key) -> None:
        if activation.within is not None and self.is_running(activation.within):
            raise Conflict(key)
        raise RuntimeError(_SECOND_READER.format(name=activation.name))
