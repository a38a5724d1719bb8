"""Fused calls made with edits of values that never leave them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from memviz.units import units_of

from ._site import Site

_ATTENTION = inspect.signature(F.multi_head_attention_forward)


class Change(Protocol):
    """What is read of an edit."""

    @property
    def site(self) -> Site:
        """Where."""
        ...

    @property
    def change(self) -> Callable[..., Tensor]:
        """What becomes of the value."""
        ...


def inside(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    edits: Sequence[Change],
) -> Any:
    """A call with edits inside: torch's attention, a recurrent stack or cell, experts.

    Also the call that shows declared units, for edits that read the module's arguments.
    """
    if function is units_of:
        return _declared(args, edits)
    if function is F.multi_head_attention_forward:
        return _attention(function, args, kwargs, edits)
    name = str(getattr(function, "__name__", function))
    if name.endswith("_cell"):
        return _cell(function, args, kwargs, edits)
    if "grouped_mm" in name:
        return _experts(function, args, kwargs, edits)
    return _stack(function, Stack.of(args), edits)


def _declared(args: tuple[Any, ...], edits: Sequence[Change]) -> Tensor:
    entering, _, _, names, *given = args
    value: Tensor = entering.clone()
    for edit in edits:
        value = edit.change(value, dict(zip(names, given, strict=True)))
    return value


def _attention(
    function: Callable[..., Any], args: Any, kwargs: Any, edits: Sequence[Change]
) -> Any:
    # It projects the heads inside: let it project by the identity, edit the heads, then project.
    bound = _ATTENTION.bind(*args, **kwargs)
    weight, bias = bound.arguments["out_proj_weight"], bound.arguments["out_proj_bias"]
    features = weight.shape[1]
    bound.arguments["out_proj_weight"] = torch.eye(
        features, dtype=weight.dtype, device=weight.device
    )
    bound.arguments["out_proj_bias"] = None
    heads, weights = function(*bound.args, **bound.kwargs)
    for edit in edits:
        heads = edit.change(heads)
    return F.linear(heads, weight, bias), weights


def _cell(function: Callable[..., Any], args: Any, kwargs: Any, edits: Sequence[Change]) -> Any:
    output = function(*args, **kwargs)
    hidden, *rest = output if isinstance(output, tuple) else (output,)
    for edit in edits:
        hidden = edit.change(hidden)
    return (hidden, *rest) if rest else hidden


def _experts(function: Callable[..., Any], args: Any, kwargs: Any, edits: Sequence[Change]) -> Any:
    """Hidden features ``[rows, features]`` of experts, whose rows lie one expert after another."""
    hidden, ends = args[0], kwargs["offs"] if "offs" in kwargs else args[2]
    for edit in edits:
        expert = edit.site.argument
        start, end = int(ends[expert - 1]) if expert else 0, int(ends[expert])
        hidden = torch.cat([hidden[:start], edit.change(hidden[start:end]), hidden[end:]])
    return function(hidden, *args[1:], **kwargs)


@dataclass(frozen=True)
class Stack:
    """The arguments of torch's recurrent functions.

    ``state`` is one tensor, or ``(h, c)`` of an LSTM; ``sizes`` are the numbers of sequences at
    each step of a packed sequence.
    """

    values: Tensor
    sizes: Tensor | None
    state: Tensor | tuple[Tensor, ...]
    weights: Sequence[Tensor]
    has_biases: bool
    layers: int
    random: bool
    directions: int
    batch_first: bool

    @classmethod
    def of(cls, args: tuple[Any, ...]) -> Stack:
        """From the arguments of a call."""
        values, *rest = args
        first = rest[0]
        packed = isinstance(first, Tensor) and not first.is_floating_point()
        sizes = rest.pop(0) if packed else None
        state, weights, has_biases, layers, dropout, train, bidirectional, *more = rest
        return cls(
            values,
            sizes,
            state if isinstance(state, Tensor) else tuple(state),
            weights,
            bool(has_biases),
            int(layers),
            bool(train) and float(dropout) > 0 and int(layers) > 1,
            2 if bidirectional else 1,
            bool(more and more[0]),
        )

    @property
    def packed(self) -> bool:
        """Whether the sequences are packed."""
        return self.sizes is not None

    def alone(self, number: int, values: Tensor) -> tuple[Any, ...]:
        """Arguments that run one layer alone."""
        each, many = self.directions, len(self.weights) // self.layers
        own = slice(number * each, (number + 1) * each)
        state = self.state[own] if isinstance(self.state, Tensor) else [s[own] for s in self.state]
        weights = self.weights[number * many : (number + 1) * many]
        sizes = () if self.sizes is None else (self.sizes,)
        last = () if self.packed else (self.batch_first,)
        options = (self.has_biases, 1, 0.0, False, each == 2, *last)
        return (values, *sizes, state, list(weights), *options)

    def final(self, output: Tensor) -> Tensor:
        """The last hidden state of one layer, ``[directions, sequences, features]``."""
        forward, *backward = output.chunk(self.directions, -1)
        if self.sizes is None:
            steps = 1 if self.batch_first else 0
            return torch.stack(
                [forward.select(steps, -1), *(part.select(steps, 0) for part in backward)]
            )
        sizes = self.sizes.tolist()
        starts = [sum(sizes[:step]) for step in range(len(sizes))]
        # Sequences are sorted by falling length, and a step holds those that are long enough.
        lengths = [sum(size > row for size in sizes) for row in range(sizes[0])]
        last = [starts[length - 1] + row for row, length in enumerate(lengths)]
        ends = torch.tensor(last, device=output.device)
        return torch.stack([forward[ends], *(part[: sizes[0]] for part in backward)])


def _stack(function: Callable[..., Any], stack: Stack, edits: Sequence[Change]) -> Any:
    """The layers one by one, with edits of what each emits."""
    values, finals = stack.values, []
    for number in range(stack.layers):
        values, *state = function(*stack.alone(number, values))
        own = [edit for edit in edits if edit.site.argument == number]
        for edit in own:
            values = edit.change(values)
        if own:
            state[0] = stack.final(values)
        finals.append(state)
    return (values, *(torch.cat(parts) for parts in zip(*finals, strict=True)))
