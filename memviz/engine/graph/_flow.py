"""A pass of changes through a graph: each call it reaches, by a rule or by calling it again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from memviz.engine.record import Edit, inside, returned, swap, take, tensors_in

from ._graph import Graph
from ._nodes import BENT, VIEWS, Node
from ._states import At, Bent, Part, State

Result = State | At | None
Rule = Callable[["Flow", Node], Result]


class Flow:
    """One pass of changes through a graph.

    ``rules`` say how a change passes through a function; a function without one is called again.
    """

    def __init__(
        self,
        graph: Graph,
        edits: Sequence[Edit],
        rows: Tensor | None,
        features: Tensor | None,
        rules: Mapping[str, Rule],
    ) -> None:
        self.graph, self.rows, self.features = graph, rows, features
        self.batch = graph.batch
        self._rules = rules
        self.states: dict[int, State] = {}
        self.fresh: set[int] = set()
        self.node: Node | None = None
        self.edits: dict[int, list[Edit]] = {}
        for edit in edits:
            self.edits.setdefault(edit.site.call, []).append(edit)
        plan = graph.plan(edits)
        for node, release in zip(plan.nodes, plan.release, strict=True):
            self._step(node)
            for key in release:  # bounds the memory of a pass
                self.states.pop(key, None)

    def result(self) -> Any:
        """What the model returns."""
        new = {
            id(t): self.dense(t) for t in tensors_in(self.graph.tape.raw) if id(t) in self.states
        }
        return returned(self.graph.tape.raw, new) if new else self.graph.tape.raw

    def first(self, node: Node) -> State | None:
        """What the call's first argument is now; None if it is as recorded."""
        return self.states.get(id(node.args[0])) if node.args else None

    def clean(self, value: Tensor) -> Tensor:
        """A recorded activation, for the rows of this pass."""
        value = self.graph.recorded(value)
        if self.rows is None:
            return value
        if self.batch == 1:  # one example for all rows, without a copy
            return value.expand(len(self.rows), *value.shape[1:])
        return value.index_select(0, self.rows)

    @property
    def gathers(self) -> bool:
        """Whether ``clean`` makes a copy that may be overwritten."""
        return self.rows is not None and self.batch > 1

    def room(self, base: Tensor) -> Tensor:
        """Where to write: over a base that was gathered for this pass, else new memory."""
        return base if self.gathers else torch.empty_like(base)

    def clean_like(self, value: Any, out: Tensor) -> Any:
        """A recorded operand, for the rows of this pass if it has rows."""
        if self.rows is None or not isinstance(value, Tensor) or value.dim() != out.dim():
            return value
        return self.clean(value) if len(value) == self.batch else value

    def dense(self, value: Tensor) -> Tensor:
        """A value as it is now, all of it."""
        state = self.states.get(id(value))
        if state is None:
            return self.clean_like(value, value)  # type: ignore[no-any-return]
        return self.whole(state)

    def delta(self, part: Part) -> Tensor:
        """New minus recorded."""
        return part.value - take(part.of, part.axis, part.features, self.rows)

    def whole(self, state: State) -> Tensor:
        """All of a value: a part amid the recorded rest, or a bent record worked out."""
        if isinstance(state, Tensor):
            return state
        return self._straight(state) if isinstance(state, Bent) else self._filled(state)

    def owns(self, value: Any, state: State | None) -> bool:
        """Whether this call may overwrite the value: made in this pass, and read by no other."""
        assert self.node is not None
        return (
            isinstance(state, Tensor)
            and id(value) in self.fresh
            and self.graph.only_read_by(value, self.node)
        )

    def take_over(self, value: Tensor, state: Tensor) -> Tensor:
        """The value, safe to overwrite."""
        return state if self.owns(value, state) else state.clone()

    def only_first_changed(self, node: Node) -> bool:
        """Whether all other inputs, such as weights, are as recorded."""
        return not any(id(tensor) in self.states for tensor in node.inputs[1:])

    def folded(self, node: Node) -> Node | None:
        """The call to fold into this one; None if the value between them is edited."""
        return None if node.index in self.edits else self.graph.fold(node)

    def _step(self, node: Node) -> None:
        self.node = node
        edits = self.edits.get(node.index, [])
        fused = [edit for edit in edits if edit.site.at == "inside"]
        entering = [edit for edit in edits if edit.site.at == "input"]
        before = dict(self.states) if entering else self.states
        for edit in entering:
            value = node.inputs[edit.site.argument]
            self.states[id(value)] = self._edited(value, edit)
        if fused:
            args, kwargs = self._given(node)
            self._store(node, inside(node.function, args, kwargs, fused))
        elif any(id(tensor) in self.states for tensor in node.inputs):
            self._evaluate(node)
        for edit in entering:  # other readers must see the unedited value
            value = node.inputs[edit.site.argument]
            self.states.pop(id(value), None)
            if id(value) in before:
                self.states[id(value)] = before[id(value)]
        for edit in edits:
            if edit.site.at == "output":
                self.states[id(node.out)] = self._edited(node.out, edit)

    def _evaluate(self, node: Node) -> None:
        if node.name not in BENT:  # no rule takes a bent record: work it out
            for tensor in node.inputs:
                if isinstance(state := self.states.get(id(tensor)), Bent):
                    self.states[id(tensor)] = self.whole(state)
        rule = self._rules.get(node.name)
        result = rule(self, node) if rule is not None and len(node.outputs) == 1 else None
        if result is None:
            self._generic(node)
            return
        at = result if isinstance(result, At) else At(node.out, result)
        self.states[id(at.out)] = at.state
        if node.name not in VIEWS and isinstance(at.state, Tensor):
            self.fresh.add(id(at.out))

    def _generic(self, node: Node) -> None:
        args, kwargs = self._given(node)
        self._store(node, node.function(*args, **kwargs))

    def _given(self, node: Node) -> tuple[Any, Any]:
        new = {id(t): self.dense(t) for t in node.inputs if id(t) in self.states}
        for k in node.mutates:  # the record must stay as it is
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
        if state is None:  # the first change of this value touches only these features
            now = take(value, axis, features, self.rows)
            return Part(value, axis, features, edit.part(now, features, self.rows))
        dense = state.clone() if isinstance(state, Tensor) else self.whole(state)
        now = dense.index_select(axis, features)
        return dense.index_copy_(axis, features, edit.part(now, features, self.rows))

    def _straight(self, bent: Bent) -> Tensor:
        """A bent record worked out: one rank-1 or rank-2 product added to the record."""
        base = self.clean(bent.of)
        flat = (base if bent.ratio is None else base * bent.ratio).reshape(-1, base.shape[-1])
        if bent.ratio is None or bent.offset is None:
            return torch.addcmul(flat, bent.change.reshape(-1, 1), bent.along).view(base.shape)
        factors = torch.cat([bent.change, 1 - bent.ratio], -1).reshape(-1, 2)
        directions = torch.stack([bent.along, bent.offset])
        return torch.addmm(flat, factors, directions).view(base.shape)

    def _filled(self, part: Part) -> Tensor:
        """The recorded value with a part written over."""
        value = self.clean(part.of)
        if not self.gathers:
            value = value.clone()
        if part.features.dim() == 1:
            return value.index_copy_(part.axis, part.features, part.value)
        index = torch.arange(len(value), device=value.device)[:, None]
        value.movedim(part.axis, 1)[index, part.features] = part.value.movedim(part.axis, 1)
        return value
