"""Each unit alone, by the fastest engine that is right: the graph where it fits, else replay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from memviz.checks import quoted
from memviz.engine.graph import Graph, Graphs, changed_rows, run
from memviz.engine.record import Edit, Intervention, Replay
from memviz.units import Unit, UnitSet

from ._packed import Packed

Engine = Literal["auto", "graph", "replay", "hook"]
ENGINES = ("auto", "graph", "replay", "hook")

_TOLD = 3  # reasons in one line
# Rows of a pass when a few examples, at most _FEW, are run for many units at once.
_ROWS = 64
_FEW = 16
# Below this share of changed examples, gathering them pays.
_WORTH = 0.8


class OneAtATime:
    """Outputs of a replay's chunks with single units ablated.

    Parameters
    ----------
    replay : Replay
    how : Intervention
    engine : {"auto", "graph", "replay", "hook"}
        ``"auto"`` uses the graph where it fits.

    Attributes
    ----------
    packed : Packed or None
        For a hard network of logic gates, what is faster than one unit at a time.
    """

    def __init__(self, replay: Replay, how: Intervention, engine: Engine = "auto") -> None:
        if engine not in ENGINES:
            raise ValueError(
                f"engine is {quoted(engine)}; use 'auto', 'graph', 'replay' or 'hook'."
            )
        self.replay, self.how = replay, how
        self._graphs = Graphs(replay, how)
        self.packed = Packed.of(replay, how) if engine == "auto" else None
        if engine in ("replay", "hook"):
            self.refused[""] = f"{engine} was chosen"
        if engine == "hook":
            replay.run_whole("hook was chosen")

    @property
    def refused(self) -> dict[str, str]:
        """Why a layer is run by replay instead; the key ``""`` means the whole model."""
        return self._graphs.refused

    @property
    def engine(self) -> str:
        """The engines used so far, such as ``"graph"`` or ``"graph + replay"``."""
        without = "hook" if self.replay.why else "replay"
        by_graph = self._graphs.checked - self.refused.keys()
        if by_graph:
            return f"graph + {without}" if self.refused else "graph"
        return without

    @property
    def why(self) -> str:
        """Why another engine than the fastest answers, layer by layer; empty if none does."""
        reasons = [self.replay.why] if self.replay.why else []
        layers: dict[str, list[str]] = {}
        for name, why in self.refused.items():
            layers.setdefault(why, []).append(name or "all layers")
        for why, names in layers.items():
            more = f" and {len(names) - 1} more layers" if len(names) > 1 else ""
            reasons.append(f"{names[0]}{more}: {why}")
        told = [reason for reason in reasons if "was chosen" not in reason]
        left = len(told) - _TOLD
        return "; ".join(told[:_TOLD]) + (f"; and {left} more" if left > 0 else "")

    def give_up_packed(self, why: str) -> None:
        """Run by the other engines, and say why."""
        self.packed, self.refused[""] = None, why

    def forget(self) -> None:
        """Drop the graphs, which hold the chunks' records."""
        self._graphs.forget()

    @torch.no_grad()
    def outputs(self, step: int, units: Sequence[Unit]) -> Tensor:
        """Outputs of one chunk with each unit alone ablated, ``[units, n, ...]``."""
        layers: dict[str, list[int]] = {}
        for place, unit in enumerate(units):
            layers.setdefault(unit.layer, []).append(place)
        parts: list[Tensor | None] = [None] * len(units)
        for places in layers.values():
            of_layer = [units[place] for place in places]
            for place, part in zip(places, self._layer(step, of_layer), strict=True):
                parts[place] = part
        return torch.stack([part for part in parts if part is not None])

    def _layer(self, step: int, units: list[Unit]) -> list[Tensor]:
        """Outputs of one chunk for units of one layer, which share a plan."""
        graph = self._graphs.get(step, UnitSet(units[:1]))
        if graph is None:
            self.replay.confirm(step, [units[0].layer], self.how)
            return [self.replay.chunk_outputs(step, UnitSet([u]), self.how) for u in units]
        edits = [self._graphs.edits(step, unit) for unit in units]
        if not edits[0]:  # no example of the chunk reaches the layer
            return [self._clean(step) for _ in units]
        plan = graph.plan(edits[0])
        # Only if each row is computed alone may some rows be left out, or units share a pass.
        if not (plan.by_row and plan.reaches_output and len(edits[0]) == 1):
            return [self._output(run(graph, edit)) for edit in edits]
        if graph.batch <= _FEW:
            return self._stacked(graph, step, edits)
        return [self._changed_only(graph, step, edit) for edit in edits]

    def _output(self, raw: object) -> Tensor:
        return self.replay.study.task.outputs(raw)

    def _clean(self, step: int) -> Tensor:
        return self.replay.clean[self.replay.chunk(step)]

    def _changed_only(self, graph: Graph, step: int, edits: list[Edit]) -> Tensor:
        """One unit, run only on the examples whose activation changes."""
        if self.replay.clean.device.type != "cpu":
            return self._output(run(graph, edits))  # to know the rows, a GPU would have to wait
        rows = changed_rows(graph, edits[0])
        if len(rows) == 0:
            return self._clean(step)
        if len(rows) > _WORTH * graph.batch:
            return self._output(run(graph, edits))
        return self._clean(step).index_copy_(0, rows, self._output(run(graph, edits, rows)))

    def _stacked(self, graph: Graph, step: int, edits: list[list[Edit]]) -> list[Tensor]:
        """Many units in one pass: each row is an example with its own unit ablated."""
        outputs = [self._clean(step) for _ in edits]
        pairs = [
            (place, row)
            for place, (edit,) in enumerate(edits)
            for row in changed_rows(graph, edit).tolist()
        ]
        device = self.replay.clean.device
        for start in range(0, len(pairs), _ROWS):
            few = pairs[start : start + _ROWS]
            rows = torch.tensor([row for _, row in few], device=device)
            features = torch.stack([edits[place][0].features(device) for place, _ in few])
            changed = self._output(run(graph, edits[few[0][0]], rows, features))
            for (place, row), output in zip(few, changed, strict=True):
                outputs[place][row] = output
        return outputs
