"""The graph engine: a recorded pass as a graph of calls; only what changes is computed.

The graph is read off the record, call by call, so whatever ran is in it; the model's own Python
does not run again. Its answers equal the replay's to float tolerance, and are checked against it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from memviz.engine.demand import narrowed
from memviz.engine.kernels import Kernels, activation
from memviz.engine.nodes import Node
from memviz.engine.replay import Edit, Tape, attention, returned
from memviz.engine.rules import BENT, BY_ROW, RULES, VIEWS
from memviz.engine.states import At, Bent, Part, State, take, whole
from memviz.engine.trace import swap, tensors_in

# Python has seen a value, so another value may take another path.
_READS = {"item", "bool", "int", "float", "index", "tolist", "numpy", "array", "nonzero", "equal"}


class Graph:
    """One chunk's recorded pass, ready to be computed anew with changes."""

    def __init__(self, tape: Tape, batch: int, kernels: Kernels, *, narrow: bool = True) -> None:
        self.tape, self.batch, self.kernels = tape, batch, kernels
        self.nodes: list[Node] = []
        for index, call in enumerate(tape.calls):
            outputs = {id(t): t for t in [*tensors_in(call.output), *call.replaced.values()]}
            if not call.replaced and outputs.keys() <= {id(t) for t in call.inputs}:
                continue  # handed back what it was given
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
        if trace.volatile:
            return "it writes into a tensor through a view of it"
        names = {call.name.strip("_") for call in trace.calls}
        return "its Python reads values of tensors" if names & _READS else ""

    @torch.no_grad()
    def run(
        self, edits: Sequence[Edit], rows: Tensor | None = None, features: Tensor | None = None
    ) -> Any:
        """What the model returns with these edits.

        With ``rows`` only for these examples of the chunk (an example may stand there often); with
        ``features`` ``[rows, K]`` each row has its own.
        """
        return Flow(self, edits, rows, features).result()

    def plan(self, edits: Sequence[Edit]) -> Plan:
        """The calls that these edits reach."""
        key = tuple(sorted({(edit.site.call, edit.site.at) for edit in edits}))
        if key not in self._plans:
            self._plans[key] = self._planned(dict(key))
        return self._plans[key]

    def work(self, edits: Sequence[Edit]) -> int:
        """Multiplications of these edits' pass; those of one narrow update are left out."""
        heavy = [node.work for node in self.plan(edits).nodes]
        first = next((k for k, work in enumerate(heavy) if work and k), len(heavy))
        return sum(heavy[first + 1 :])

    def work_from(self, index: int) -> int:
        """Multiplications of all calls from one on."""
        return sum(node.work for node in self.nodes if node.index >= index)

    def fold(self, node: Node) -> Node | None:
        """The norm behind a convolution, or the activation behind a linear layer, to go with it."""
        return self._folds.get(node.index)

    def recorded(self, value: Tensor) -> Tensor:
        """A recorded value, images channels last: what convolutions and their sums run best on."""
        if value.dim() != 4 or value.is_contiguous(memory_format=torch.channels_last):
            return value
        if id(value) not in self._channels_last:
            self._channels_last[id(value)] = value.contiguous(memory_format=torch.channels_last)
        return self._channels_last[id(value)]

    def variance(self, norm: Node) -> Tensor:
        """Variance of what a layer norm was given, along its last axis, ``[..., 1]``."""
        if norm.index not in self._variances:
            self._variances[norm.index] = norm.args[0].var(-1, correction=0, keepdim=True)
        return self._variances[norm.index]

    def only_read_by(self, tensor: Tensor, node: Node) -> bool:
        """Whether nothing but this call needs the value."""
        return id(tensor) not in self.returned and self.readers.get(id(tensor)) == [node]

    def _fold(self, node: Node) -> Node | None:
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
        # A site's own call is not made again unless something before it has changed.
        inner = [node for node in nodes if starts.get(node.index) != "output"]
        by_row = all(self._is_by_row(node) for node in inner)
        return Plan(nodes, release, by_row, bool(changed & self.returned))

    @staticmethod
    def _keeps_rows(node: Node) -> bool:
        if node.name not in ("amax", "amin", "mean"):
            return True
        dims = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
        listed = [dims] if isinstance(dims, int) else dims or [0]
        return all(dim % node.args[0].dim() > 0 for dim in listed)

    def _is_by_row(self, node: Node) -> bool:
        if node.name not in BY_ROW or len(node.out) != self.batch or not self._keeps_rows(node):
            return False
        sides = [side for side in node.args[:2] if isinstance(side, Tensor)]
        if node.name in ("add", "sub", "mul", "div"):
            return all(len(s) in (1, self.batch) for s in sides if s.dim() == node.out.dim())
        return bool(sides) and len(sides[0]) == self.batch


@dataclass(frozen=True)
class Plan:
    """Calls to make in order, values that each was the last to read, and what is known of them."""

    nodes: list[Node]
    release: list[list[int]]
    by_row: bool
    reaches_output: bool


class Flow:
    """One pass of changes through a graph."""

    def __init__(
        self, graph: Graph, edits: Sequence[Edit], rows: Tensor | None, features: Tensor | None
    ) -> None:
        self.graph, self.rows, self.features = graph, rows, features
        self.batch = graph.batch
        self.states: dict[int, State] = {}
        self.fresh: set[int] = set()
        self.node: Node | None = None
        self.edits: dict[int, list[Edit]] = {}
        for edit in edits:
            self.edits.setdefault(edit.site.call, []).append(edit)
        plan = graph.plan(edits)
        for node, release in zip(plan.nodes, plan.release, strict=True):
            self._step(node)
            for key in release:
                self.states.pop(key, None)

    def result(self) -> Any:
        """What the model returns."""
        new = {
            id(t): self.dense(t) for t in tensors_in(self.graph.tape.raw) if id(t) in self.states
        }
        return returned(self.graph.tape.raw, new) if new else self.graph.tape.raw

    def first(self, node: Node) -> State | None:
        """What the call's first argument is now; nothing where it is as recorded."""
        return self.states.get(id(node.args[0])) if node.args else None

    def clean(self, value: Tensor) -> Tensor:
        """A recorded activation, in the rows at hand."""
        value = self.graph.recorded(value)
        if self.rows is None:
            return value
        if self.batch == 1:  # stands for all rows without being copied
            return value.expand(len(self.rows), *value.shape[1:])
        return value.index_select(0, self.rows)

    @property
    def gathers(self) -> bool:
        """Whether ``clean`` makes a copy that may be overwritten."""
        return self.rows is not None and self.batch > 1

    def room(self, base: Tensor) -> Tensor:
        """Where to write: over a base that was gathered for this pass, else somewhere new."""
        return base if self.gathers else torch.empty_like(base)

    def clean_like(self, value: Any, out: Tensor) -> Any:
        """A recorded operand, in the rows at hand where it has rows."""
        if self.rows is None or not isinstance(value, Tensor) or value.dim() != out.dim():
            return value
        return self.clean(value) if len(value) == self.batch else value

    def dense(self, value: Tensor) -> Tensor:
        """A value as it stands now, all of it."""
        state = self.states.get(id(value))
        if state is None:
            return self.clean_like(value, value)  # type: ignore[no-any-return]
        return whole(self, state)

    def owns(self, value: Any, state: State | None) -> bool:
        """Whether this call may overwrite the value: ours, and read by nothing else."""
        assert self.node is not None
        return (
            isinstance(state, Tensor)
            and id(value) in self.fresh
            and self.graph.only_read_by(value, self.node)
        )

    def take_over(self, value: Tensor, state: Tensor) -> Tensor:
        """The value, to be overwritten."""
        return state if self.owns(value, state) else state.clone()

    def only_first_changed(self, node: Node) -> bool:
        """Whether the weights are what they were."""
        return not any(id(tensor) in self.states for tensor in node.inputs[1:])

    def folded(self, node: Node) -> Node | None:
        """The norm to fold in; none if the value between the two is edited."""
        return None if node.index in self.edits else self.graph.fold(node)

    def _step(self, node: Node) -> None:
        self.node = node
        edits = self.edits.get(node.index, [])
        heads = [edit for edit in edits if edit.site.at == "heads"]
        entering = [edit for edit in edits if edit.site.at == "input"]
        before = dict(self.states) if entering else self.states
        for edit in entering:
            value = node.args[edit.site.argument]
            self.states[id(value)] = self._edited(value, edit)
        if heads:
            args, kwargs = self._given(node)
            self._store(node, attention(node.function, args, kwargs, heads))
        elif any(id(tensor) in self.states for tensor in node.inputs):
            self._evaluate(node)
        for edit in entering:  # whoever else reads it must meet what was there
            value = node.args[edit.site.argument]
            self.states.pop(id(value), None)
            if id(value) in before:
                self.states[id(value)] = before[id(value)]
        for edit in edits:
            if edit.site.at == "output":
                self.states[id(node.out)] = self._edited(node.out, edit)

    def _evaluate(self, node: Node) -> None:
        if node.name not in BENT:
            for tensor in node.inputs:
                if isinstance(state := self.states.get(id(tensor)), Bent):
                    self.states[id(tensor)] = whole(self, state)
        rule = RULES.get(node.name)
        found = rule(self, node) if rule is not None and len(node.outputs) == 1 else None
        if found is None:
            self._generic(node)
            return
        at = found if isinstance(found, At) else At(node.out, found)
        self.states[id(at.out)] = at.state
        if node.name not in VIEWS and isinstance(at.state, Tensor):
            self.fresh.add(id(at.out))

    def _generic(self, node: Node) -> None:
        args, kwargs = self._given(node)
        self._store(node, node.function(*args, **kwargs))

    def _given(self, node: Node) -> tuple[Any, Any]:
        new = {id(t): self.dense(t) for t in node.inputs if id(t) in self.states}
        for k in node.mutates:
            value = node.inputs[k]
            new[id(value)] = new.get(id(value), value).clone()
        self._copies = {k: new[id(node.inputs[k])] for k in node.mutates}
        return swap(node.args, new), swap(node.kwargs, new)

    def _store(self, node: Node, output: Any) -> None:
        for k, copy in node.written.items():
            self.states[id(copy)] = self._copies[k]
        made = tensors_in(output)
        for old, new in zip(node.outputs, made, strict=False):
            self.states[id(old)] = new

    def _edited(self, value: Tensor, edit: Edit) -> State:
        site, state = edit.site, self.states.get(id(value))
        axis = site.axis % value.dim()
        features = edit.features(value.device) if self.features is None else self.features
        if state is None:
            now = take(value, axis, features, self.rows)
            return Part(value, axis, features, edit.part(now, features, self.rows))
        dense = state.clone() if isinstance(state, Tensor) else whole(self, state)
        now = dense.index_select(axis, features)
        return dense.index_copy_(axis, features, edit.part(now, features, self.rows))


def changed_rows(graph: Graph, edit: Edit) -> Tensor:
    """Examples of the chunk whose activation the edit changes at all, int64."""
    call = graph.tape.calls[edit.site.call]
    value = call.args[edit.site.argument] if edit.site.at == "input" else call.output
    features = edit.features(value.device)
    before = take(value, edit.site.axis % value.dim(), features)
    different = edit.part(before, features, None) != before
    return different.flatten(1).any(1).nonzero()[:, 0]
