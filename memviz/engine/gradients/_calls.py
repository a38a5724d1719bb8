"""Where a forward pass uses its parameters: the calls, and where their gradients arrive."""

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

from memviz.engine.record import METADATA, Layout, layout, leaves, tensors_in
from memviz.restored import version

_T = Tensor
# Their output holds each value of their input exactly once, so a gradient keeps its norm.
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
    """A call's function and output shapes, to compare with a pass of another size."""

    function: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Source:
    """A parameter, or a tensor made from parameters alone.

    ``of`` names the parameters; ``is_view`` says whether it is one of them, at most reshaped.
    """

    tensor: Tensor
    of: frozenset[str]
    is_view: bool


@dataclass(frozen=True)
class Use:
    """A call in which sources meet examples; the gradient of its output arrives at ``edge``."""

    index: int
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    sources: tuple[Source, ...]
    layout: Layout | None
    edge: GradientEdge


class ParameterCalls(TorchFunctionMode):
    """Finds every use of the parameters in one forward pass of ``examples`` examples.

    ``other`` are the calls of a pass of ``others`` examples: a tensor that does not depend on the
    examples, such as a position embedding, has the same shape in both.
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
        # By id and version: a buffer that examples were written into is no longer free of them.
        self.free: dict[tuple[int, int], Source] = {}
        for tensor in fixed:
            self._keep(Source(tensor, frozenset(), False))
        for name, parameter in parameters.items():
            self._keep(Source(parameter, frozenset([name]), True))

    @property
    def alike(self) -> bool:
        """Whether this pass makes the same calls as the other one."""
        return [call.function for call in self.seen] == [call.function for call in self.other]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in METADATA:
            return func(*args, **kwargs)
        if func is F.multi_head_attention_forward:
            with self:
                return _attention(*args, **kwargs)
        inputs = [self.free.get((id(t), version(t))) for t in leaves(args, kwargs)[0]]
        output = func(*args, **kwargs)
        outputs = tensors_in(output)
        index = len(self.seen)
        self.seen.append(Seen(func, tuple(tuple(tensor.shape) for tensor in outputs)))
        sources = tuple(source for source in inputs if source is not None and source.of)
        # Only free inputs and no growth with the batch: the output is free of the examples too.
        if None not in inputs and not self._grew(index):
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
        known = None
        if len(outputs) == 1 and index < len(self.other) and len(self.other[index].shapes) == 1:
            known = layout(
                self.other[index].shapes[0], self.others, outputs[0].shape, self.examples
            )
        # The edge, not the tensor: a later in-place call gives the tensor another gradient.
        edge = get_gradient_edge(outputs[0])
        self.uses.append(Use(index, function, args, kwargs, sources, known, edge))


def _opened(function: Any) -> Any:
    """A copy of a Python function that does not look for a mode, so that a mode sees its calls."""
    names = {**function.__globals__, "has_torch_function": lambda _: False}
    opened = FunctionType(
        function.__code__, names, function.__name__, function.__defaults__, function.__closure__
    )
    opened.__kwdefaults__ = function.__kwdefaults__
    return opened


# To a mode torch's attention is one call with four parameters; opened, it is linear layers.
_attention = _opened(F.multi_head_attention_forward)
