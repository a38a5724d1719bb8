"""Outputs for many sets of units, each by the quickest exact way from the clean record."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from memviz.engine.graph import Graphs, run
from memviz.engine.record import CancelledError, Intervention, Replay
from memviz.units import UnitSet, UnitsLike


class ByGraph:
    """Updates of the clean record by the graph, where these take the least arithmetic.

    Parameters
    ----------
    replay : Replay
    """

    def __init__(self, replay: Replay) -> None:
        self.replay = replay
        self._graphs: Graphs | None = None
        self._record: Tensor | None = None

    def chunk(
        self, step: int, units: UnitSet, how: Intervention, *, live: bool = False
    ) -> Tensor | None:
        """Outputs of one chunk; None if running the pass again is right or quicker.

        With ``live`` that pass would restart from the last kept one, else from the clean record.
        """
        replay = self.replay
        graph = self._for(how).get(step, units)
        if graph is None:
            return None
        edits = replay.edits(step, units, how)
        restart = replay.restart(step, edits) if live else graph.tape.first_change(edits)
        if graph.work(edits) >= graph.work_from(restart):
            return None
        return replay.study.task.outputs(run(graph, edits))

    def _for(self, how: Intervention) -> Graphs:
        # Graphs belong to one record and one intervention.
        known = self._graphs
        if known is None or known.how != how or self._record is not self.replay.clean:
            self._graphs, self._record = Graphs(self.replay, how), self.replay.clean
        assert self._graphs is not None
        return self._graphs


class SetOutputs:
    """Outputs of a replay's examples for many sets of units, such as the draws of a null.

    What a set gives does not depend on the sets before it: each starts from the clean record.

    Parameters
    ----------
    replay : Replay
    how : Intervention
    graph : ByGraph, optional
        One of the same replay, so that its layers are not compared with plain hooks again.

    Examples
    --------
    >>> from torch import nn
    >>> from memviz.engine.record import Zero
    >>> from memviz.study import Study
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    >>> study = Study(model, torch.randn(6, 4), torch.zeros(6), {"test": range(6)})
    >>> SetOutputs(Replay(study), Zero()).of("0:3,5").shape
    torch.Size([6, 3])
    """

    def __init__(self, replay: Replay, how: Intervention, graph: ByGraph | None = None) -> None:
        self.replay, self.how = replay, how
        self._graph = ByGraph(replay) if graph is None else graph

    def of(self, units: UnitsLike, stop: Callable[[], bool] | None = None) -> Tensor:
        """Outputs of every example with these units ablated, ``[n, ...]``.

        Raises
        ------
        CancelledError
            If ``stop()`` returns True between two chunks.
        """
        chosen = self.replay.check(units)
        self.replay.refresh()
        if not chosen:
            return self.replay.clean
        return self.replay.guard(lambda: torch.cat(list(self._chunks(chosen, stop))))

    def _chunks(self, units: UnitSet, stop: Callable[[], bool] | None) -> Iterator[Tensor]:
        replay, how = self.replay, self.how
        for step in range(replay.steps):
            if stop is not None and stop():
                raise CancelledError("cancelled; nothing has changed.")
            outputs = self._graph.chunk(step, units, how)
            if outputs is None:
                replay.confirm(step, list(units.layers), how)
                outputs = replay.chunk_outputs(step, units, how)
            yield outputs
