"""What single units do to every pair, exactly: for a saved page, which has nobody to ask."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from memviz.engine.record import CancelledError, intervention
from memviz.engine.sets import percent
from memviz.probes.deja_vu import neighbour_changes
from memviz.probes.deja_vu.ablation import Retrieval, Retrieved, measured
from memviz.units import Layer, UnitSet
from memviz.widgets.core import Message, pack

from ._messages import SHOWN, sentence, shown_objects, survival
from ._scores import DejaVuScores

MOST_UNITS = 64  # each costs a retrieval: .2 to .6 s of the scenes on one core
_MOST_BYTES = 1_000_000  # of all their arrays
_A_PAIR = 2 * SHOWN + 1 + 2  # bytes of a unit: neighbours, which are lost, precision and recall
_HERE = "\0"  # where the words about the opened pair go; no name of a layer has it


class _Single(NamedTuple):
    """One unit ablated: the figures of all pairs, and of each pair that the page has."""

    figures: list[float]
    curve: np.ndarray
    near: np.ndarray  # int64 [pairs, shown]
    lost: np.ndarray  # uint8 [pairs], a bit for each neighbour that nothing ablated shows
    precision: np.ndarray  # float64 [pairs]
    recall: np.ndarray
    words: tuple[str, str]  # before and after what is said of the opened pair


class Alone:
    """Exact figures of the units with the largest effects, each ablated alone.

    As many as :data:`MOST_UNITS`, fewer where their arrays would exceed a megabyte. They come in
    the order of the exact effect on AUCG; those that the sweep has not reached follow in the order
    of its estimate. What was computed is kept for the next page.

    Parameters
    ----------
    retrieval : Retrieval
    scores : DejaVuScores
        Has the effects that rank the units.
    known : sequence of Layer
        All layers, for the words.
    """

    def __init__(self, retrieval: Retrieval, scores: DejaVuScores, known: Sequence[Layer]) -> None:
        self._retrieval, self._scores, self._known = retrieval, scores, known
        self._kept: dict[int, _Single] = {}  # by row of the unit
        self._kept_for: tuple[str, tuple[int, ...]] = ("", ())
        self._order: list[int] = []  # of the units of the newest page

    def steps(
        self, how: str, pairs: Sequence[int], stop: Callable[[], bool] | None = None
    ) -> Iterator[tuple[int, int]]:
        """Compute what is missing, a unit at a time; yields how many are done, and of how many.

        A unit that ``stop`` interrupts is tried again.
        """
        asked = how, tuple(pairs)
        if self._kept_for != asked:
            self._kept, self._kept_for = {}, asked
        self._order = rows = self._rows(how, len(pairs))
        parsed = intervention(how)
        for done, row in enumerate(rows):
            while row not in self._kept:
                with suppress(CancelledError):
                    units = UnitSet([self._scores.units[row]])
                    now = self._retrieval.retrieve(units, parsed, stop=stop, keep=False)
                    self._kept[row] = self._single(now, pairs)
                yield done + (row in self._kept), len(rows)

    def _rows(self, how: str, pairs: int) -> list[int]:
        """The units, largest effect first."""
        exact = self._scores.aucg.get(how, np.full(len(self._scores.units), np.nan))
        known = np.flatnonzero(~np.isnan(exact))
        most = min(MOST_UNITS, _MOST_BYTES // max(1, _A_PAIR * pairs))
        rows = known[np.argsort(-exact[known], kind="stable")][:most]
        if len(rows) < most:
            rest = self._scores.likely_first(intervention(how), np.flatnonzero(np.isnan(exact)))
            rows = np.concatenate([rows, rest[: most - len(rows)]])
        found: list[int] = rows.tolist()
        return found

    def _single(self, now: Retrieved, pairs: Sequence[int]) -> _Single:
        rows, target = list(pairs), now.found.target
        after = target.neighbours.ids[rows]
        before = self._retrieval.clean.found.target.neighbours.ids[rows]
        _, lost = neighbour_changes(before, after)
        bits = np.packbits(lost[:, :SHOWN].numpy(), axis=1, bitorder="little")
        said = sentence(self._retrieval.clean, now, self._known, _HERE).partition(_HERE)
        return _Single(
            measured(now),
            survival(target),
            after[:, :SHOWN].numpy(),
            bits[:, 0] if bits.size else np.zeros(len(rows), np.uint8),
            target.precision[rows].numpy(),
            target.recall[rows].numpy(),
            (said[0], said[2]),
        )

    def message(self, how: str, pairs: Sequence[int]) -> Message:
        """The tables: nothing ablated first, then each unit; computes what is missing."""
        for _ in self.steps(how, pairs):
            pass
        rows, clean = self._order, self._retrieval.clean
        all_ = [self._single(clean, pairs), *(self._kept[row] for row in rows)]
        before = clean.found.target.neighbours.ids[list(pairs)].numpy()
        near = np.stack([single.near for single in all_])
        seen = np.unique(np.concatenate([near.ravel(), before.ravel()]))
        shares = np.stack([[single.precision, single.recall] for single in all_])
        levels, codes = np.unique(shares, return_inverse=True)
        codes = codes.reshape(shares.shape)
        public = self._retrieval.public.objects
        content = {
            "type": "alone",
            "how": how,
            "rule": self._rule(how, rows),
            "words": [single.words for single in all_],
            "said": ["" if np.isnan(level) else percent(float(level)) for level in levels],
            "objects": [shown_objects(public[int(i)]) for i in seen],
            "shown": near.shape[2],
            "k": before.shape[1],
        }
        small = np.min_scalar_type(max(0, len(levels) - 1))
        place = np.min_scalar_type(max(0, len(seen) - 1))
        return pack(
            content,
            unit=np.asarray(rows, np.uint32),
            figures=np.asarray([single.figures for single in all_], np.float64),
            curve=np.stack([single.curve for single in all_]),
            levels=levels,
            precision=codes[:, 0].astype(small),
            recall=codes[:, 1].astype(small),
            near=np.searchsorted(seen, near).astype(place),
            before=np.searchsorted(seen, before).astype(place),
            lost=np.stack([single.lost for single in all_]),
            picture=(len(self._retrieval.training) + seen).astype(np.uint32),
        )

    def pictures(self, place: int) -> list[int]:
        """Numbers of the pictures that a pair finds without each unit of the newest page."""
        near = [self._kept[row].near[place] for row in self._order]
        return [len(self._retrieval.training) + int(i) for found in near for i in found]

    def _rule(self, how: str, rows: Sequence[int]) -> str:
        """Which units the page knows, in words."""
        swept = self._scores.aucg.get(how)
        whole = swept is not None and not np.isnan(swept).any()
        which = f"{len(rows):,} of {len(self._scores.units):,} units"
        if whole:
            return f"the {which} with the largest effects on AUCG are exact, each ablated alone"
        return (
            f"{which} are exact, each ablated alone: those whose effect on AUCG was known, then "
            "those with the largest estimates"
        )
