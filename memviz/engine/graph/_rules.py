"""How a change of a few features passes through each function while it stays narrow.

Activations, norms, pools and sums keep a part a part; the first convolution or linear layer makes
it dense by a low-rank update of the recorded output (``_products.py``). Where no rule applies, the
change becomes dense and the function is called again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from memviz.engine.record import take

from . import _kernels as kernels
from . import _products as products
from ._flow import Flow, Result, Rule
from ._nodes import MOVES, POOLS, REDUCTIONS, RESHAPES, Node, names_of_unary
from ._states import Bent, Part, State


def _elementwise(flow: Flow, node: Node) -> Result:
    state = flow.first(node)
    if state is None or len(node.inputs) != 1:
        return None
    if isinstance(state, Part):
        # An in-place call must not change a part that other calls read.
        value = state.value.clone() if node.mutates else state.value
        return Part(node.out, state.axis, state.features, node.call(value))
    value = flow.whole(state)
    return node.call(flow.take_over(node.args[0], value) if node.mutates else value)


def _relu(flow: Flow, node: Node) -> Result:
    state = flow.first(node)
    if isinstance(state, Tensor):
        return torch.relu_(flow.take_over(node.args[0], state))
    return _elementwise(flow, node)


def _batch_norm(flow: Flow, node: Node) -> Result:
    state = flow.first(node)
    if not isinstance(state, Part) or state.axis != 1 or not flow.only_first_changed(node):
        return None
    return products.normed_part(flow, node, state)


def _pool(flow: Flow, node: Node) -> Result:
    state = flow.first(node)
    if node.name == "max_pool2d" and isinstance(state, Tensor) and kernels.halves(node, state):
        return kernels.largest_of_squares(state)
    if not isinstance(state, Part) or state.axis != 1 or node.out.dim() != state.value.dim():
        return None
    return Part(node.out, 1, state.features, node.call(state.value))


def _reshape(flow: Flow, node: Node) -> Result:
    source, state = node.args[0], flow.first(node)
    old, new = list(source.shape), list(node.out.shape)
    if isinstance(state, Tensor):
        if flow.rows is not None:
            new[0] = len(state)
        return state.reshape(new)
    if not isinstance(state, Part):
        return None
    axis, value = state.axis, state.value
    if new[: axis + 1] == old[: axis + 1]:
        shape = [*value.shape[: axis + 1], *new[axis + 1 :]]
        return Part(node.out, axis, state.features, value.reshape(shape))
    # Flattened with the channels first: each channel becomes `inner` neighbouring features.
    inner = source[0].numel() // max(old[1], 1) if axis == 1 else 0
    if axis == 1 and new == [old[0], old[1] * inner]:
        steps = torch.arange(inner, device=value.device)
        features = (state.features[..., None] * inner + steps).flatten(-2)
        return Part(node.out, 1, features, value.reshape(len(value), -1))
    return None


def _reduce(flow: Flow, node: Node) -> Result:
    # mean(x, dims): the features keep their axis if all reduced dimensions come after it.
    state = flow.first(node)
    dims = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    if not isinstance(state, Part) or dims is None:
        return None
    rank = state.of.dim()
    listed = [dims] if isinstance(dims, int) else list(dims)
    if any(dim % rank <= state.axis for dim in listed):
        return None
    return Part(node.out, state.axis, state.features, node.call(state.value))


def _move(flow: Flow, node: Node) -> Result:
    state = flow.first(node)
    if not isinstance(state, Part) or state.features.dim() != 1:
        return None
    # Moving a tensor with all different sizes shows where each axis goes, for any arguments.
    sizes = range(1, state.of.dim() + 1)
    moved = node.call(torch.empty(*sizes, device="meta")).shape
    axis = list(moved).index(state.axis + 1)
    return Part(node.out, axis, state.features, node.call(state.value))


def _binary(flow: Flow, node: Node) -> Result:
    if node.kwargs or len(node.args) != 2:
        return None
    sides = list(reversed(node.args)) if node.reversed else list(node.args)
    states = [flow.states.get(id(side)) for side in sides]
    if sum(state is not None for state in states) == 1:
        place = 0 if states[0] is not None else 1
        state, other = states[place], sides[1 - place]
        if isinstance(state, Bent):
            # The recorded sum contains the other side: only the change is added to it.
            plain = isinstance(other, Tensor) and other.shape == node.out.shape
            if plain and node.name == "add" and state.ratio is None:
                return Bent(node.out, state.change, state.along)
        if isinstance(state, Part):
            return _part_beside(flow, node, state, other, place)
    elif any(isinstance(state, Part) for state in states):
        return None
    return _dense_sides(flow, node, sides, states)


def _part_beside(flow: Flow, node: Node, part: Part, other: Any, place: int) -> Result:
    if part.of.shape != node.out.shape:
        return None
    operate, beside = _OPERATIONS[node.name], _beside(flow, part, other)
    value = operate(beside, part.value) if place else operate(part.value, beside)
    return Part(node.out, part.axis, part.features, value)


def _dense_sides(flow: Flow, node: Node, sides: list[Any], states: list[State | None]) -> Tensor:
    values = [
        flow.clean_like(side, node.out) if state is None else flow.whole(state)
        for side, state in zip(sides, states, strict=True)
    ]
    if node.name in _IN_PLACE:
        for place in (0, 1):
            full = isinstance(sides[place], Tensor) and sides[place].shape == node.out.shape
            if full and flow.owns(sides[place], states[place]):
                return _IN_PLACE[node.name](values[place], values[1 - place])
    return _OPERATIONS[node.name](*values)


def _beside(flow: Flow, part: Part, other: Any) -> Any:
    """The other operand of a sum or product with a part: its same features."""
    if not isinstance(other, Tensor) or other.dim() == 0:
        return other
    axis = part.axis - (part.of.dim() - other.dim())
    by_row = flow.rows if other.dim() == part.of.dim() and len(other) == flow.batch else None
    if axis < 0 or other.shape[axis] == 1:
        return other if by_row is None else other.index_select(0, by_row)
    if part.features.dim() == 2 and by_row is None:
        other, axis, by_row = other.expand(part.of.shape), part.axis, flow.rows
    return take(other, axis, part.features, by_row)


def _cat(flow: Flow, node: Node) -> Result:
    dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
    axis = int(dim) % node.out.dim()
    offset, features, values = 0, [], []
    for tensor in node.args[0]:
        if tensor.dim() != node.out.dim():
            continue  # an empty tensor, such as a cache that holds nothing yet
        state = flow.states.get(id(tensor))
        if isinstance(state, Part):
            if state.axis != axis or state.features.dim() != 1:
                return None
            features.append(state.features + offset)
            values.append(state.value)
        elif state is not None:
            # A dense operand is a part with all of its features.
            every = torch.arange(offset, offset + tensor.shape[axis], device=tensor.device)
            features.append(every)
            values.append(flow.whole(state))
        offset += tensor.shape[axis]
    chosen = torch.cat(features)
    if len(chosen) > products.NARROW * offset:
        return None
    return Part(node.out, axis, chosen, torch.cat(values, axis))


_OPERATIONS: dict[str, Callable[[Any, Any], Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
}
_IN_PLACE: dict[str, Callable[[Any, Any], Tensor]] = {"add": Tensor.add_, "mul": Tensor.mul_}
RULES: dict[str, Rule] = {
    **dict.fromkeys(names_of_unary(), _elementwise),
    **dict.fromkeys(_OPERATIONS, _binary),
    **dict.fromkeys(POOLS, _pool),
    **dict.fromkeys(RESHAPES, _reshape),
    **dict.fromkeys(REDUCTIONS, _reduce),
    **dict.fromkeys(MOVES, _move),
    "relu": _relu,
    "batch_norm": _batch_norm,
    "cat": _cat,
    "linear": products.linear,
    "layer_norm": products.layer_norm,
    "conv2d": products.conv2d,
}
