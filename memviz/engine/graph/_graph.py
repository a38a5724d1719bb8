"""The graph engine: a recorded pass as a graph of calls, of which only what changes is computed.

The graph is read off the record call by call, so it holds everything that ran; the model's own
Python does not run again. Its answers equal replay's to float rounding, and are compared with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from memviz.engine.record import Edit, Tape, tensors_in

from ._demand import narrowed
from ._kernels import Kernels, activation
from ._nodes import BY_ROW, Node

# Calls by which Python sees a value: with another value it may take another path.
_READS = {"item", "bool", "int", "float", "index", "tolist", "numpy", "array", "nonzero", "equal"}
_READS |= {"argwhere", "unique", "masked_select", "is_nonzero", "allclose", "contains"}


class Graph:
    """One chunk's recorded pass, ready to be computed again with changes."""

    def __init__(self, tape: Tape, batch: int, kernels: Kernels, *, narrow: bool = True) -> None:
        self.tape, self.batch, self.kernels = tape, batch, kernels
        self.nodes: list[Node] = []
        for index, call in enumerate(tape.calls):
            outputs = {id(t): t for t in [*tensors_in(call.output), *call.replaced.values()]}
            if not call.replaced and outputs.keys() <= {id(t) for t in call.inputs}:
                continue  # it returned its own input, as dropout does in eval mode
            given = (call.function, call.args, call.kwargs, call.inputs)
            self.nodes.append(Node(index, *given, [*outputs.values()], call.replaced))
        self.returned = {id(t) for t in tensors_in(tape.raw)}
        if narrow:
            self.nodes = narrowed(self.nodes, self.returned)
        self.readers: dict[int, list[Node]] = {}
        for node in self.nodes:
            for tensor in {id(t): t for t in node.inputs}.values():
                self.readers.setdefault(id(tensor), []).append(node)
        self._folds = {node.index: fold for node in self.nodes if (fold := self._fold(node))}
        self._channels_last: dict[int, Tensor] = {}
        self._variances: dict[int, Tensor] = {}
        self._plans: dict[tuple[tuple[int, str], ...], Plan] = {}

    @staticmethod
    def unfit(tape: Tape) -> str:
        """Why this pass cannot be a graph; empty if it can."""
        trace = tape.trace
        if trace.random or trace.counting is not None:
            return "it draws random numbers or writes into its buffers"
        return "it writes into a tensor through a view of it" if trace.volatile else ""

    def reads_after(self, edits: Sequence[Edit]) -> bool:
        """Whether the model's Python reads a value that these edits change."""
        changed: set[int] = set()
        starts = {edit.site.call for edit in edits}
        for index, call in enumerate(self.tape.calls):
            reached = any(id(tensor) in changed for tensor in call.inputs)
            # What enters an edited call is changed for that call alone.
            if reached and self.tape.trace.calls[index].name.strip("_") in _READS:
                return True
            if reached or index in starts:
                changed.update(id(t) for t in [*tensors_in(call.output), *call.replaced.values()])
        return False

    def plan(self, edits: Sequence[Edit]) -> Plan:
        """The calls that these edits reach."""
        # A plan depends on the sites alone, so all units of a layer share one.
        key = tuple(sorted({(edit.site.call, edit.site.at) for edit in edits}))
        if key not in self._plans:
            self._plans[key] = self._planned(dict(key))
        return self._plans[key]

    def work(self, edits: Sequence[Edit]) -> int:
        """Multiplications that these edits take, without those of the first, narrow update."""
        heavy = [node.work for node in self.plan(edits).nodes]
        first = next((k for k, work in enumerate(heavy) if work and k), len(heavy))
        return sum(heavy[first + 1 :])

    def work_from(self, index: int) -> int:
        """Multiplications of all calls from this index on."""
        return sum(node.work for node in self.nodes if node.index >= index)

    def fold(self, node: Node) -> Node | None:
        """The norm after a convolution, or the activation after a linear layer, to fold into it."""
        return self._folds.get(node.index)

    def recorded(self, value: Tensor) -> Tensor:
        """A recorded value; images are channels last, on which convolutions run fastest."""
        if value.dim() != 4 or value.is_contiguous(memory_format=torch.channels_last):
            return value
        if id(value) not in self._channels_last:
            self._channels_last[id(value)] = value.contiguous(memory_format=torch.channels_last)
        return self._channels_last[id(value)]

    def variance(self, norm: Node) -> Tensor:
        """Variance of a layer norm's input along its last axis, ``[..., 1]``."""
        if norm.index not in self._variances:
            self._variances[norm.index] = norm.args[0].var(-1, correction=0, keepdim=True)
        return self._variances[norm.index]

    def only_read_by(self, tensor: Tensor, node: Node) -> bool:
        """Whether only this call reads the value."""
        return id(tensor) not in self.returned and self.readers.get(id(tensor)) == [node]

    def _fold(self, node: Node) -> Node | None:
        # Folded, the value between the calls is never computed: nothing else may read it.
        readers = self.readers.get(id(node.out), []) if node.outputs else []
        if len(readers) != 1 or id(node.out) in self.returned:
            return None
        after = readers[0]
        if not after.args or after.args[0] is not node.out or len(after.outputs) != 1:
            return None
        if node.name == "linear":
            return after if activation(after)[0] else None
        if node.name != "conv2d" or after.name != "batch_norm" or after.bound["training"]:
            return None
        return after if after.bound["running_mean"] is not None else None

    def _planned(self, starts: dict[int, str]) -> Plan:
        changed: set[int] = set()
        nodes = []
        for node in self.nodes:
            reached = any(id(t) in changed for t in node.inputs)
            if reached or node.index in starts:
                changed.update(id(t) for t in node.outputs)
                nodes.append(node)
        last: dict[int, int] = {}
        for place, node in enumerate(nodes):
            for tensor in (*node.inputs, *node.outputs):
                last[id(tensor)] = place
        release: list[list[int]] = [[] for _ in nodes]
        for key, place in last.items():
            if key in changed and key not in self.returned:
                release[place].append(key)
        # A call whose output is edited is not made again, so it need not work by row.
        inner = [node for node in nodes if starts.get(node.index) != "output"]
        by_row = "inside" not in starts.values() and all(map(self._is_by_row, inner))
        return Plan(nodes, release, by_row, bool(changed & self.returned))

    @staticmethod
    def _keeps_rows(node: Node) -> bool:
        if node.name not in ("amax", "amin", "mean"):
            return True
        dims = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
        listed = [dims] if isinstance(dims, int) else dims or [0]
        return all(dim % node.args[0].dim() > 0 for dim in listed)

    def _is_by_row(self, node: Node) -> bool:
        """Whether the call treats each example alone, so that some of them can be run."""
        if node.name not in BY_ROW or len(node.out) != self.batch or not self._keeps_rows(node):
            return False
        sides = [side for side in node.args[:2] if isinstance(side, Tensor)]
        if node.name in ("add", "sub", "mul", "div"):
            return all(len(s) in (1, self.batch) for s in sides if s.dim() == node.out.dim())
        return bool(sides) and len(sides[0]) == self.batch


@dataclass(frozen=True)
class Plan:
    """The calls to make in order, with the values that each is the last to read.

    ``by_row`` says whether all of them treat each example alone.
    """

    nodes: list[Node]
    release: list[list[int]]
    by_row: bool
    reaches_output: bool
