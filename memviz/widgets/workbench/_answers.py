"""Answers to clicks; when the whole study takes long, its first group is answered ahead."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from torch import Tensor

from memviz.engine.record import Intervention, Mean, Replay, Resample
from memviz.engine.sets import Readout, Toggle, read
from memviz.session import Session
from memviz.units import UnitSet

_LONG = 0.03  # s; an answer that takes longer is sent in two parts
_FEW = 0.5  # of all examples; a larger group would hardly be answered sooner


class Answers:
    """Outputs of a session's examples with units ablated.

    Parameters
    ----------
    session : Session

    Attributes
    ----------
    took : dict of str to float
        Seconds that the newest answer for all examples took, by the first layer of its units.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.took: dict[str, float] = {}
        self._first: Toggle | None = None

    def outputs(
        self,
        units: UnitSet,
        how: Intervention,
        stop: Callable[[], bool],
        tell: Callable[[Readout], None] | None,
    ) -> Tensor:
        """Outputs of every example; the first group's readout goes to ``tell`` before them if slow.

        No ``tell`` says that the page knows the figures already.

        Raises
        ------
        CancelledError
            If ``stop()`` returns True between two chunks.
        """
        first, layer = self._first_ready(), self._first_layer(units)
        slow = self.took.get(layer, 0.0) > _LONG
        if tell is not None and units and slow and first is not None and self._goes_ahead(how):
            tell(read(first.replay, units, first.outputs(units, how, stop=stop), how))
        start = time.monotonic()
        outputs = self.session.toggles.outputs(units, how, stop=stop)
        self.took[layer] = time.monotonic() - start
        return outputs

    def settle(self, units: UnitSet, how: Intervention) -> Iterator[None]:
        """Finish, step by step, what the last answer left undone, and record the first group."""
        toggles = self.session.toggles
        if not toggles.settled:
            yield from toggles.settle(units, how)
        slow = max(self.took.values(), default=0.0) > _LONG
        if slow and self._first_ready() is None and self._goes_ahead(how):
            study, memory = self.session.replay.study, self.session.replay.memory
            group = study.group(next(iter(study.groups)))
            self._first = Toggle(Replay(study, group, memory=memory // 4))
            yield

    def _first_layer(self, units: UnitSet) -> str:
        # Of a set, the layer that the forward pass reaches first leaves most to run again.
        order = [layer.name for layer in self.session.known]
        return min(units.layers, key=order.index, default="")

    def _goes_ahead(self, how: Intervention) -> bool:
        # Mean and resample ablation depend on all examples: a group alone would give other values.
        few = int(next(iter(self.session.study.groups.values())).sum())
        alone = not isinstance(how, Mean | Resample)
        return alone and few <= _FEW * len(self.session.study)

    def _first_ready(self) -> Toggle | None:
        """The answers for the first group, if idle time has been found to record it."""
        first = self._first
        return (
            first if first is not None and first.replay.study is self.session.replay.study else None
        )
