"""Answers to clicks; when the whole study takes long, its first group is answered ahead."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from torch import Tensor

from memviz.engine.record import Intervention, Mean, Replay, Resample
from memviz.engine.sets import Readout, Toggle, read
from memviz.session import Session
from memviz.units import UnitSet

_LONG = 0.3  # s; an answer that takes longer is sent in two parts
_FEW = 0.5  # of all examples; a larger group would hardly be answered sooner


class Answers:
    """Outputs of a session's examples with units ablated.

    Parameters
    ----------
    session : Session

    Attributes
    ----------
    longest : float
        Seconds that the slowest answer for all examples took.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.longest = 0.0
        self._first: Toggle | None = None

    def outputs(
        self,
        units: UnitSet,
        how: Intervention,
        stop: Callable[[], bool],
        tell: Callable[[Readout], None],
    ) -> Tensor:
        """Outputs of every example; the first group's readout goes to ``tell`` before them if slow.

        Raises
        ------
        CancelledError
            If ``stop()`` returns True between two chunks.
        """
        if units and self.longest > _LONG and self._goes_ahead(how):
            first = self._toggle_of_first()
            tell(read(first.replay, units, first.outputs(units, how, stop=stop), how))
        start = time.monotonic()
        outputs = self.session.toggles.outputs(units, how, stop=stop)
        self.longest = max(self.longest, time.monotonic() - start)
        return outputs

    def settle(self, units: UnitSet, how: Intervention) -> Iterator[None]:
        """Finish, step by step, what the last answer left undone."""
        toggles = self.session.toggles
        if not toggles.settled:
            yield from toggles.settle(units, how)

    def _goes_ahead(self, how: Intervention) -> bool:
        # Mean and resample ablation depend on all examples: a group alone would give other values.
        few = int(next(iter(self.session.study.groups.values())).sum())
        alone = not isinstance(how, Mean | Resample)
        return alone and few <= _FEW * len(self.session.study)

    def _toggle_of_first(self) -> Toggle:
        study, memory = self.session.replay.study, self.session.replay.memory
        if self._first is None or self._first.replay.study is not study:
            group = study.group(next(iter(study.groups)))
            self._first = Toggle(Replay(study, group, memory=memory // 4))
        return self._first
