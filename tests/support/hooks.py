"""Plain hooks at places: the independent way to ablate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Change = Callable[[Tensor], Tensor]


@contextmanager
def hooked(model: nn.Module, changes: Sequence[tuple[Any, Change]]) -> Iterator[None]:
    """Plain hooks at places; where the model calls a function itself, that function wrapped."""
    functions: list[tuple[Any, Change]] = []
    counts: dict[Any, int] = {}

    def once(place: Any, change: Change) -> Change:
        def at_its_call(value: Tensor) -> Tensor:
            counts[place] = counts.get(place, 0) + 1
            return change(value) if counts[place] - 1 == place.call else value

        return at_its_call

    linear, relu = F.linear, F.relu

    def my_linear(value: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        mine = [(p, c) for p, c in functions if parameters.get(p.name) is weight]
        for place, change in mine:
            value = change(value) if place.at == "linear_into" else value
        output = linear(value, weight, bias)
        for place, change in mine:
            output = change(output) if place.at == "linear_out" else output
        return output

    def my_relu(value: Tensor, inplace: bool = False) -> Tensor:
        output = relu(value)
        for place, change in functions:
            output = change(output) if place.at == "relu" else output
        return output

    parameters = dict(model.named_parameters())
    with ExitStack() as stack:
        for place, change in changes:
            change = once(place, change)
            if place.at == "out":
                module = model.get_submodule(place.name)
                handle = module.register_forward_hook(lambda _m, _i, out, c=change: c(out))
                stack.callback(handle.remove)
            elif place.at == "into":
                module = model.get_submodule(place.name)
                handle = module.register_forward_pre_hook(lambda _m, given, c=change: c(given[0]))
                stack.callback(handle.remove)
            else:
                functions.append((place, change))
        if functions:
            stack.enter_context(mock.patch.object(F, "linear", my_linear))
            stack.enter_context(mock.patch.object(F, "relu", my_relu))
            # The fused attention kernel has no linear call to wrap.
            stack.callback(torch.backends.mha.set_fastpath_enabled, True)
            torch.backends.mha.set_fastpath_enabled(False)
        yield
