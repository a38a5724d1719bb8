"""A sweep's file: its finished units, written from time to time, to resume from."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from memviz.checks import coded, quoted
from memviz.study import study_facts

from ._stored import StoredError, check, read, sweep_facts, write
from ._table import EffectTable

_EVERY = 5.0  # seconds between two writes
_SHARE = 20  # writing may take one part in this many of the time


class Checkpoint:
    """The file of one sweep.

    Parameters
    ----------
    path : str or Path
        Read if it exists, else created.
    effects : EffectTable
        Filled with what the file holds, and written to it.

    Raises
    ------
    ValueError
        If the file is damaged or belongs to another sweep; ``effects`` is left unchanged.
    FileNotFoundError
        If its folder does not exist.
    """

    def __init__(self, path: str | Path, effects: EffectTable) -> None:
        self.path, self.effects = Path(path), effects
        self._facts = study_facts(effects.study)
        self._cost, self._last = 0.0, time.monotonic()
        if self.path.exists():
            self._restore()
            self._written = int(effects.done.sum())
        else:
            self._written = -1
            self.write()  # a path that can't be written must fail before the work, not after

    def _restore(self) -> None:
        effects = self.effects
        fields, facts = read(self.path)
        stored = EffectTable(effects.study, **fields)
        check(self.path, facts, {**self._facts, **sweep_facts(effects)})
        # Same weights, other code: the hash alone would not notice.
        if not torch.allclose(stored.margin, effects.margin, 1e-3, 1e-3, equal_nan=True):
            raise StoredError(
                coded(
                    "E31",
                    f"{quoted(str(self.path))} holds the effects of a model with the same weights "
                    "but other outputs; name another file, or delete it.",
                )
            )
        rows = stored.exact
        effects.margin_change[rows] = stored.margin_change[rows]
        effects.loss_change[rows] = stored.loss_change[rows]
        effects.correct[rows] = stored.correct[rows]
        effects.done |= rows
        if rows.any():
            effects.engine, effects.why = stored.engine, stored.why

    def write_now_and_then(self) -> None:
        """Write if the last write was some seconds ago; longer if writing is slow."""
        if time.monotonic() - self._last > max(_EVERY, _SHARE * self._cost):
            self.write()

    def write(self) -> None:
        """Write if more units are done since the last write."""
        done = int(self.effects.done.sum())
        if done == self._written:
            return
        start = time.monotonic()
        write(self.path, self.effects, self._facts)
        self._written, self._last = done, time.monotonic()
        self._cost = self._last - start
