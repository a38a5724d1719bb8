"""The graphs of a replay's chunks, each layer compared with plain hooks before it is trusted."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from memviz.engine.record import SPANNING, Edit, Intervention, Replay, Tape, is_out_of_memory
from memviz.units import Unit, UnitSet

from ._graph import Graph
from ._kernels import Kernels
from ._run import run

# Of the largest output: the engines may differ by float rounding and no more.
TOLERANCE = 1e-5


class Graphs:
    """One graph per recorded chunk.

    Attributes
    ----------
    checked : set of str
        Layers that were compared with plain hooks and with replay.
    refused : dict of layer name to str
        Why a layer is run by replay instead; the key ``""`` means the whole model.
    """

    def __init__(self, replay: Replay, how: Intervention) -> None:
        self.replay, self.how = replay, how
        self.checked: set[str] = set()
        self.refused: dict[str, str] = {}
        self._kernels = Kernels(replay.memory // 8)
        self._graphs: dict[int, Graph] = {}
        # Sets that span several layers: why the graph is not used for them, or nothing.
        self._together: dict[tuple[str, ...], str] = {}

    def forget(self) -> None:
        """Drop the graphs: each holds its chunk's record."""
        self._graphs.clear()

    def edits(self, step: int, unit: Unit) -> list[Edit]:
        """The changes that ablate one unit in one chunk."""
        return self.replay.edits(step, UnitSet([unit]), self.how)

    @torch.no_grad()
    def get(self, step: int, units: UnitSet) -> Graph | None:
        """The chunk's graph, or None if it is not right for the layers of these units."""
        if "" in self.refused or any(name in self.refused for name in units.layers):
            return None
        graph = self._graph(step)
        if graph is None:
            return None
        for name, indices in units.layers.items():
            if name not in self.checked:
                if graph.reads_after(self.edits(step, Unit(name, indices[0]))):
                    self.refused[name] = "the model's Python reads values that the units change"
                else:
                    self._check(graph, step, [name])
        if any(name in self.refused for name in units.layers):
            return None
        together = tuple(units.layers)
        if len(together) > 1 and together not in self._together and len(self._together) < SPANNING:
            self._check(graph, step, together)
        return None if self._together.get(together) else graph

    def _graph(self, step: int) -> Graph | None:
        tape = self.replay.tape(step)
        if tape is None:
            return None
        known = self._graphs.get(step)
        if known is None or known.tape is not tape:
            why = Graph.unfit(tape)
            if why:
                self.refused[""] = why
                return None
            if self.replay.engine != "replay":
                self._graphs.clear()  # only one chunk's record is kept at a time
            # A donor's activation has every position, so no value may be narrowed to one.
            narrow = self.how.needs != "donor"
            batch = len(self.replay.chunk(step))
            known = Graph(tape, batch, self._kernels, narrow=narrow)
            self._graphs[step] = known
        return known

    def _check(self, graph: Graph, step: int, layers: Sequence[str]) -> None:
        """Compare with plain hooks on a few examples, and with replay on the whole chunk."""
        try:
            why = self._disagreement(graph, step, layers)
        except (RuntimeError, TypeError, ValueError, IndexError, KeyError) as reason:
            if is_out_of_memory(reason):
                raise
            why = f"failed there: {reason}"
        if len(layers) > 1:
            self._together[tuple(layers)] = why
            return
        self.checked.add(layers[0])
        if why:
            self.refused[layers[0]] = f"the graph {why}"

    def _disagreement(self, graph: Graph, step: int, layers: Sequence[str]) -> str:
        replay = self.replay

        def answer(units: UnitSet) -> Tensor:
            return replay.study.task.outputs(run(graph, replay.edits(step, units, self.how)))

        why = replay.disagreement(step, layers, self.how, answer)
        edits = self.edits(step, Unit(layers[0], 0))
        if why or not edits or len(layers) > 1 or replay.compares_all(step):
            return f"is {why}" if why else ""
        busiest = UnitSet([Unit(layers[0], _strongest(graph.tape, edits[0]))])
        exact = replay.chunk_outputs(step, busiest, self.how)
        # A large constant makes large outputs, and rounding grows with them.
        scale = max(float(replay.clean.abs().max()), float(exact.abs().max()))
        error = float((answer(busiest) - exact).abs().max())
        return "" if error <= TOLERANCE * scale else f"is off by {error:.1e} of {scale:.1e}"


def _strongest(tape: Tape, edit: Edit) -> int:
    """The unit of an edit's layer with the largest mean absolute activation."""
    site, call = edit.site, tape.calls[edit.site.call]
    if site.at == "inside":
        return 0  # inside a fused call there is no record of them
    value: Tensor = call.inputs[site.argument] if site.at == "input" else call.output
    size = value.abs().transpose(site.axis % value.dim(), -1).reshape(-1, value.shape[site.axis])
    return int(size.mean(0).argmax()) // site.width
