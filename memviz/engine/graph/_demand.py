"""What the output needs of each value: a class token's head needs one token of the last block.

A transformer that reads ``x[:, 0]`` at its end computes all other positions after the last
attention for nothing. Going backwards from such a selection, each call that works position by
position is narrowed to that position; attention needs it only as the query.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from memviz.engine.record import swap

from ._nodes import Node, names_of_unary


@dataclass(frozen=True)
class At:
    """One position along one axis."""

    axis: int
    position: int


def narrowed(nodes: list[Node], returned: set[int]) -> list[Node]:
    """The same calls, narrowed to one position where nothing else is needed.

    Calls whose results nobody reads are dropped.
    """
    nodes = _living(nodes, returned)
    demands: dict[int, set[At | None]] = {key: {None} for key in returned}  # None: all of it
    pulls: dict[int, dict[int, At]] = {}
    for node in reversed(nodes):  # a value's readers come before its maker
        pull = _pull(node, demands)
        pulls[node.index] = pull
        for tensor in node.inputs:
            demands.setdefault(id(tensor), set()).add(pull.get(id(tensor)))
    if not any(pulls.values()):
        return nodes
    return _rewritten(nodes, demands, pulls)


def _living(nodes: list[Node], returned: set[int]) -> list[Node]:
    read, kept = set(returned), []
    for node in reversed(nodes):
        if node.mutates or any(id(t) in read for t in node.outputs):
            read.update(id(t) for t in node.inputs)
            kept.append(node)
    return kept[::-1]


def _pull(node: Node, demands: dict[int, set[At | None]]) -> dict[int, At]:
    """Which inputs are needed at one position only, and where."""
    if node.mutates or len(node.outputs) != 1:
        return {}
    if not node.args or not isinstance(node.args[0], Tensor):
        return {}
    chosen = _selection(node)
    if chosen is not None:
        return {id(node.args[0]): chosen}
    (want,) = wants if len(wants := demands.get(id(node.out), set())) == 1 else (None,)
    return {} if want is None else _through(node, want)


def _selection(node: Node) -> At | None:
    """The position that ``x[:, k]`` selects; None for any other call."""
    if node.name != "getitem" or not node.args or node.args[0].dim() < 2:
        return None
    index = node.args[1]
    if not isinstance(index, tuple) or len(index) != 2 or type(index[1]) is not int:
        return None
    if index[0] != slice(None):
        return None
    return At(1, index[1] % node.args[0].shape[1])


def _through(node: Node, want: At) -> dict[int, At]:
    """Where the inputs are needed if the output is needed at one position; else nothing."""
    source, rank = node.args[0], node.out.dim()
    if node.name in names_of_unary() and len(node.inputs) == 1:
        return {id(source): want}
    if node.name in ("add", "sub", "mul", "div") and not node.kwargs:
        return _operands(node, want)
    if node.name == "linear" and want.axis < rank - 1:
        return {id(source): want}
    if node.name == "layer_norm" and want.axis < rank - len(node.args[1]):
        return {id(source): want}
    if node.name in ("reshape", "view", "flatten"):
        same = source.shape[: want.axis + 1] == node.out.shape[: want.axis + 1]
        return {id(source): want} if same else {}
    if node.name == "transpose":
        first, second = (int(axis) % rank for axis in node.args[1:3])
        axis = {first: second, second: first}.get(want.axis, want.axis)
        return {id(source): At(axis, want.position)}
    if node.name == "scaled_dot_product_attention" and want.axis == rank - 2:
        # A mask or is_causal would have to be narrowed too; keys and values are needed whole.
        alone = len(node.args) == 3 and not any(node.kwargs.get(k) for k in ("is_causal",))
        if alone and node.kwargs.get("attn_mask") is None and not node.kwargs.get("enable_gqa"):
            return {id(source): want} if source is not node.args[1] else {}
    return {}


def _operands(node: Node, want: At) -> dict[int, At]:
    needed = {}
    for side in node.args[:2]:
        if isinstance(side, Tensor):
            axis = want.axis - (node.out.dim() - side.dim())
            if axis >= 0 and side.shape[axis] == node.out.shape[want.axis] != 1:
                needed[id(side)] = At(axis, want.position)
    return needed


def _rewritten(
    nodes: list[Node], demands: dict[int, set[At | None]], pulls: dict[int, dict[int, At]]
) -> list[Node]:
    views: dict[tuple[int, At], Tensor] = {}
    written: list[Node] = []
    makers = {id(t): node for node in nodes for t in node.outputs}

    def view(tensor: Tensor, at: At) -> Tensor:
        key = (id(tensor), at)
        if key not in views:
            views[key] = tensor.narrow(at.axis, at.position, 1)
            whole = demands[id(tensor)] != {at} or not _can_narrow(makers.get(id(tensor)), pulls)
            if whole and id(tensor) in makers:
                # Computed whole and changing: the narrowing becomes a call. Negative indices are
                # free, since recorded calls count from 0.
                args = (tensor, at.axis, at.position, 1)
                index = -1 - len(written)
                narrow = Node(index, torch.narrow, args, {}, [tensor], [views[key]], {})
                written.append(narrow)
        return views[key]

    for node in nodes:
        pull = pulls[node.index]
        new = {id(t): view(t, pull[id(t)]) for t in node.inputs if id(t) in pull}
        if not new:
            written.append(node)
            continue
        (want,) = demands[id(node.out)] if _selection(node) is None else (None,)
        out = node.out if want is None else view(node.out, want)
        inputs = [new.get(id(t), t) for t in node.inputs]
        args: tuple[Any, ...] = swap(node.args, new)
        function, name = node.function, node.name
        if want is None:
            function, args = torch.select, (args[0], 1, 0)
        elif name in ("reshape", "view", "flatten"):
            function, args = torch.reshape, (args[0], tuple(out.shape))
        written.append(replace(node, function=function, args=args, inputs=inputs, outputs=[out]))
    return written


def _can_narrow(maker: Node | None, pulls: dict[int, dict[int, At]]) -> bool:
    return maker is not None and bool(pulls[maker.index])
