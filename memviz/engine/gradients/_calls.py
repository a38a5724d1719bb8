"""Where a forward pass uses its parameters: which calls, with what, and their gradient's place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from memviz.engine.record import METADATA, Layout, layout, leaves, tensors_in, version

_T = Tensor
# What they give holds each value of what they are given once, so a gradient's norm stays the same.
_VIEWS: frozenset[Any] = frozenset(
    [
        *(_T.t, _T.transpose, _T.permute, _T.movedim, _T.view, _T.reshape, _T.flatten),
        *(
            _T.unflatten,
            _T.unsqueeze,
            _T.squeeze,
            _T.contiguous,
            _T.T.__get__,  # type: ignore[attr-defined]
            _T.mT.__get__,  # type: ignore[attr-defined]
        ),
        *(torch.t, torch.transpose, torch.permute, torch.movedim, torch.reshape, torch.flatten),
        *(torch.unsqueeze, torch.squeeze),
    ]
)


@dataclass(frozen=True)
class Seen:
    """What a call was in a pass of another size."""

    function: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Source:
    """A parameter, or a tensor that was made from parameters alone.

    ``of`` names the parameters; ``is_view`` where it is one of them, reshaped at most.
    """

    tensor: Tensor
    of: frozenset[str]
    is_view: bool


@dataclass(frozen=True)
class Use:
    """A call in which sources meet the examples; its output's gradient arrives at ``edge``."""

    index: int
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    sources: tuple[Source, ...]
    layout: Layout | None
    edge: GradientEdge


class ParameterCalls(TorchFunctionMode):
    """Finds every use of the parameters in one forward pass of ``examples`` examples.

    ``other`` is what a pass of ``others`` examples called: a tensor without examples, such as a
    position embedding, has the same shape in both.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        fixed: Sequence[Tensor],
        examples: int,
        other: Sequence[Seen] = (),
        others: int = 0,
    ) -> None:
        self.examples, self.other, self.others = examples, other, others
        self.seen: list[Seen] = []
        self.uses: list[Use] = []
        # By id and version: a buffer that examples are written into is no longer free of them.
        self.free: dict[tuple[int, int], Source] = {}
        for tensor in fixed:
            self._keep(Source(tensor, frozenset(), False))
        for name, parameter in parameters.items():
            self._keep(Source(parameter, frozenset([name]), True))

    @property
    def alike(self) -> bool:
        """Whether this pass made the same calls as the other one."""
        return [call.function for call in self.seen] == [call.function for call in self.other]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in METADATA:
            return func(*args, **kwargs)
        if func is F.multi_head_attention_forward:
            with self:
                return _attention(*args, **kwargs)
        found = [self.free.get((id(t), version(t))) for t in leaves(args, kwargs)[0]]
        output = func(*args, **kwargs)
        outputs = tensors_in(output)
        index = len(self.seen)
        self.seen.append(Seen(func, tuple(tuple(tensor.shape) for tensor in outputs)))
        sources = tuple(source for source in found if source is not None and source.of)
        if None not in found and not self._grew(index):
            of = frozenset[str]().union(*(source.of for source in sources))
            is_view = func in _VIEWS and len(sources) == 1 and sources[0].is_view
            for tensor in outputs:
                self._keep(Source(tensor, of if tensor.requires_grad else frozenset(), is_view))
        elif sources and any(tensor.requires_grad for tensor in outputs):
            self._use(index, func, args, kwargs, sources, outputs)
        return output

    def _keep(self, source: Source) -> None:
        self.free[id(source.tensor), version(source.tensor)] = source

    def _grew(self, index: int) -> bool:
        return index < len(self.other) and self.seen[index].shapes != self.other[index].shapes

    def _use(
        self,
        index: int,
        function: Any,
        args: Any,
        kwargs: Any,
        sources: tuple[Source, ...],
        outputs: list[Tensor],
    ) -> None:
        found = None
        if len(outputs) == 1 and index < len(self.other) and len(self.other[index].shapes) == 1:
            found = layout(
                self.other[index].shapes[0], self.others, outputs[0].shape, self.examples
            )
        edge = get_gradient_edge(outputs[0])  # the in-place calls that follow have their own
        self.uses.append(Use(index, function, args, kwargs, sources, found, edge))


def _opened(function: Any) -> Any:
    """The same Python function without its question whether a mode is on: its calls are seen."""
    names = {**function.__globals__, "has_torch_function": lambda _: False}
    opened = FunctionType(
        function.__code__, names, function.__name__, function.__defaults__, function.__closure__
    )
    opened.__kwdefaults__ = function.__kwdefaults__
    return opened


# torch's attention is one call to a mode, with four parameters; inside it are linear layers.
_attention = _opened(F.multi_head_attention_forward)
