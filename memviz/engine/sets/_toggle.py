"""The answer to a click: the quickest exact way from a recorded pass to the ablated units."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import Tensor

from memviz.engine.record import CancelledError, Intervention, Replay
from memviz.units import UnitSet, UnitsLike

from ._outputs import ByGraph

R = TypeVar("R")


class Toggle:
    """Outputs of a replay's examples for one set of units after another.

    Each answer restarts the *last answer's* kept pass at the first layer that differs, or updates
    the *clean record* by the graph, whichever takes less arithmetic. Rounding does not add up: the
    first is bitwise identical to a fresh pass, the second always starts from the clean record.

    Parameters
    ----------
    replay : Replay

    Attributes
    ----------
    settled : bool
        Whether the last answer's pass is kept; if not, ``settle`` keeps it.
    graph : ByGraph
        Updates of the clean record.

    Examples
    --------
    >>> from torch import nn
    >>> from memviz.engine.record import Zero
    >>> from memviz.study import Study
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    >>> study = Study(model, torch.randn(6, 4), torch.zeros(6), {"test": range(6)})
    >>> toggle = Toggle(Replay(study))
    >>> toggle.outputs("0:3", Zero()).shape, toggle.outputs("0:3,5", Zero()).shape
    (torch.Size([6, 3]), torch.Size([6, 3]))
    """

    def __init__(self, replay: Replay) -> None:
        self.replay = replay
        self.settled = True
        self.graph = ByGraph(replay)

    def outputs(
        self, units: UnitsLike, how: Intervention, *, stop: Callable[[], bool] | None = None
    ) -> Tensor:
        """Outputs of every example with the units ablated, ``[n, ...]``.

        Raises
        ------
        CancelledError
            If ``stop()`` returns True between two chunks.
        """
        if not self._begun(units):
            return self.replay.clean
        return torch.cat(self.read(units, how, lambda found, _: found, stop=stop))

    def read(
        self,
        units: UnitsLike,
        how: Intervention,
        of: Callable[[Tensor, Tensor], R],
        *,
        stop: Callable[[], bool] | None = None,
    ) -> list[R]:
        """What ``of(outputs, positions)`` makes of each chunk of examples in turn.

        Logits of a large vocabulary take much memory; of all examples, only what is read is kept.

        Parameters
        ----------
        units, how, stop
            As for :meth:`outputs`.
        of : callable
            From the outputs of a chunk ``[b, ...]`` and its places among the replay's examples,
            int64 ``[b]``.
        """
        replay, chosen = self.replay, self._begun(units)

        def run() -> list[R]:
            places = map(replay.chunk, range(replay.steps))
            if not chosen:
                return [of(replay.clean[rows], rows) for rows in places]
            return [
                of(o, at) for o, at in zip(self._chunks(chosen, how, stop), places, strict=True)
            ]

        return replay.guard(run)

    def _begun(self, units: UnitsLike) -> UnitSet:
        chosen = self.replay.check(units)
        self.replay.refresh()
        self.settled = True
        return chosen

    def settle(self, units: UnitsLike, how: Intervention) -> Iterator[None]:
        """Keep the pass of an answer that the graph gave, so that the next can restart from it.

        Yields after each chunk; meant for idle time.
        """
        chosen = self.replay.check(units)
        for step in range(self.replay.steps if chosen else 0):
            self.replay.chunk_outputs(step, chosen, how, keep=True)
            yield
        self.settled = True

    def _chunks(
        self, units: UnitSet, how: Intervention, stop: Callable[[], bool] | None
    ) -> Iterator[Tensor]:
        for step in range(self.replay.steps):
            if stop is not None and stop():
                raise CancelledError("cancelled; nothing has changed.")
            yield self._chunk(step, units, how)

    def _chunk(self, step: int, units: UnitSet, how: Intervention) -> Tensor:
        outputs = self.graph.chunk(step, units, how, live=True)
        if outputs is not None:
            self.settled = False
            return outputs
        self.replay.confirm(step, list(units.layers), how)
        return self.replay.chunk_outputs(step, units, how, keep=True)
