"""What each unit alone does to every group and example, as tables that a page answers from."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memviz.engine.record import intervention
from memviz.engine.sets import Reading, Readout, SetOutputs, random_reading
from memviz.engine.sweep import Effects
from memviz.session import Session
from memviz.statistics import NORMAL, generator_of
from memviz.units import UnitSet
from memviz.widgets.core import UNKNOWN, Labels, Message, pack

from ._messages import how_words, reading_fields

# Engines differ by rounding: a margin this near to 0, as a share of the largest, has no sure sign.
_UNSURE = 1e-5
_BYTES = 4_000_000  # of one message, at most
_PIECE = 2**22  # margins looked at together
_TABLES = 4  # are kept, the newest
_SIZES, _DRAWS = (2, 4, 8, 16), 2  # of the random sets on which adding is measured
_CHANGED = 10  # bytes that one changed prediction takes


class Singles:
    """Figures of each unit alone, filled as a sweep goes on.

    Parameters
    ----------
    effects : Effects
        On every example of its study.
    labels : Labels
        Number the predictions.
    clean : Tensor ``[n, ...]``
        Outputs with nothing ablated.

    Attributes
    ----------
    known : bool ``[U]``
        Units whose figures are exact, and whose every example is surely right or surely wrong.
    right, lost, gained : uint32 ``[U, G]``
        Of each group: how many are right, and how many turned wrong or right.
    mean, half : float64 ``[U, G]``
        Mean margin and half of its 95 % interval.
    """

    def __init__(self, effects: Effects, labels: Labels, clean: Tensor) -> None:
        self.effects = effects
        study = effects.study
        self._members = {name: effects.members(name) for name in study.groups}
        self._members = {name: rows for name, rows in self._members.items() if len(rows)}
        shape = (len(effects.units), len(self._members))
        self.known = np.zeros(shape[0], bool)
        self.right, self.lost, self.gained = (np.zeros(shape, np.uint32) for _ in range(3))
        self.mean, self.half = np.zeros(shape), np.zeros(shape)
        self._seen = torch.zeros(shape[0], dtype=torch.bool)
        few = labels.classes and effects.margin_change.numel() <= _BYTES
        pairs = effects.margin_change.shape
        self._said = np.full(pairs, UNKNOWN, np.uint16) if few else None
        if few:
            (self._clean,) = self._numbers(torch.arange(len(effects.examples)), clean[None])

    @property
    def fits(self) -> bool:
        """Whether the table is small enough for a message."""
        return self.right.nbytes * 3 + self.mean.nbytes * 2 + len(self.known) <= _BYTES

    def see(self, rows: Sequence[int], positions: Tensor, outputs: Tensor) -> None:
        """Take the predictions ``[rows, positions]`` of a sweep's outputs, as they are made."""
        if self._said is not None:
            place = np.asarray(rows)[:, None], positions.numpy()
            self._said[place] = self._numbers(positions, outputs)

    def _numbers(self, positions: Tensor, outputs: Tensor) -> np.ndarray:
        """Numbers of the predictions in outputs ``[rows, positions, ...]``."""
        predicted = self.effects.study.task.predictions(outputs.flatten(0, 1)).cpu()
        return predicted.numpy().astype(np.uint16).reshape(len(outputs), len(positions))

    def update(self) -> None:
        """Take over the units that the sweep has finished since."""
        effects = self.effects
        new = (effects.exact & ~self._seen).nonzero()[:, 0]
        for rows in new.split(max(1, _PIECE // max(1, len(effects.examples)))):
            if len(rows):
                self._take(rows)
        self._seen[new] = True

    def _take(self, rows: Tensor) -> None:
        effects, place = self.effects, rows.numpy()
        margin = (effects.margin + effects.margin_change[rows]).double()
        size = margin.abs()
        sure = margin.isfinite().all(1) & (size.amin(1) > _UNSURE * size.amax(1))
        self.known[place] = sure.numpy()
        before, after = effects.margin > 0, effects.correct[rows]
        for column, members in enumerate(self._members.values()):
            of_group, was, now = margin[:, members], before[members], after[:, members]
            n = len(members)
            self.right[place, column] = now.sum(1).numpy()
            self.lost[place, column] = (was & ~now).sum(1).numpy()
            self.gained[place, column] = (~was & now).sum(1).numpy()
            self.mean[place, column] = of_group.mean(1).numpy()
            if n > 1:
                self.half[place, column] = (of_group.std(1) / n**0.5 * NORMAL).numpy()

    def agrees(self, readout: Readout) -> bool:
        """Whether the sweep saw the model as a readout does: no weight has changed between."""
        for name, members in self._members.items():
            mine, theirs = Reading.of(self.effects.margin[members].double()), readout.groups[name]
            near = abs(mine.margin - theirs.before.margin) <= 1e-4 * max(1.0, abs(mine.margin))
            if mine.correct != theirs.before.correct or not near:
                return False
        return True

    def message(self, key: str) -> Message:
        """The table, and the figures with nothing ablated."""
        groups = [
            {
                "name": name,
                "n": len(members),
                "before": reading_fields(Reading.of(self.effects.margin[members].double())),
            }
            for name, members in self._members.items()
        ]
        content = {
            "type": "singles",
            "key": key,
            "intervention_words": how_words(self.effects.how),
            "of": len(self.known),
            "groups": groups,
        }
        return pack(
            content,
            known=self.known.astype(np.uint8),
            right=self.right,
            lost=self.lost,
            gained=self.gained,
            mean=self.mean,
            half=self.half,
        )

    def _changed(self, said: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Units whose predictions are known, and the unit and place of each that changes."""
        told = (said != UNKNOWN).all(1) & self.known
        row, place = np.nonzero((said != self._clean) & told[:, None])
        return told, row, place

    def _whole_numbers(self) -> type[np.signedinteger[Any]] | None:
        """The whole numbers in which the changes of single examples fit a message, if any."""
        if self._said is None:
            return None
        room = _BYTES - _CHANGED * len(self._changed(self._said)[1])
        fitting = (kind for kind in (np.int16, np.int8) if kind().nbytes * self._said.size <= room)
        return next(fitting, None)

    def added(self, rows: np.ndarray) -> dict[str, tuple[float, float]]:
        """Accuracy and mean margin of each group with single effects added up, as the page does."""
        effects, found = self.effects, {}
        by_example = self._whole_numbers() is not None
        change = effects.margin_change[torch.from_numpy(rows)].sum(0)
        for column, (name, members) in enumerate(self._members.items()):
            before = effects.margin[members].double()
            margin = float(before.mean() + (self.mean[rows, column] - float(before.mean())).sum())
            right = int((before > 0).sum())
            if by_example:
                after = int((before + change[members] > 0).sum())
            else:
                lost = min(right, int(self.lost[rows, column].sum()))
                after = (
                    right - lost + min(len(members) - right, int(self.gained[rows, column].sum()))
                )
            found[name] = after / len(members), margin
        return found

    def withdrawn(self, key: str) -> Message:
        """Says that nothing is known of single units any more."""
        self.known[:] = False
        content, buffers = self.message(key)
        return Message({**content, "groups": []}, buffers)

    def margins_message(self, key: str) -> Message | None:
        """Each example's change and changed prediction, in the study's order; None if too large.

        The changes are whole numbers of ``step`` for each unit, so they are off by half a step.
        """
        effects, said, kind = self.effects, self._said, self._whole_numbers()
        if said is None or kind is None:
            return None
        told, row, place = self._changed(said)
        order = effects.examples.argsort(stable=True)
        change = effects.margin_change[:, order].nan_to_num(0.0, 0.0, 0.0).numpy()
        step = np.abs(change).max(1, keepdims=True) / np.iinfo(kind).max
        whole = np.divide(change, step, out=np.zeros_like(change), where=step > 0).round()
        before = self._clean[order.numpy()]
        example = effects.examples.numpy()[place]
        content = {"type": "margins", "key": key, "error": float(step.max(initial=0) / 2)}
        return pack(
            content,
            change=whole.astype(kind),
            step=step[:, 0].astype(np.float32),
            margin=effects.margin[order].numpy(),
            before=before,
            told=told.astype(np.uint8),
            row=row.astype(np.uint32),
            example=example.astype(np.uint32),
            said=said[row, place],
        )


class SingleTables:
    """The tables of every intervention and variant that was swept, sent as they fill.

    Parameters
    ----------
    session : Session
    labels : Labels
    send : callable
        Takes a message for every view, also for those opened later.
    """

    def __init__(self, session: Session, labels: Labels, send: Callable[[Message], None]) -> None:
        self._session, self._labels, self._send = session, labels, send
        self._tables: dict[str, Singles] = {}

    def of(self, key: str, effects: Effects) -> Singles:
        """The table of these effects, which a sweep fills."""
        known = self._tables.get(key)
        if known is None or known.effects is not effects:
            known = Singles(effects, self._labels, self._session.replay.clean)
            self._tables = {key: known, **{k: t for k, t in self._tables.items() if k != key}}
            for oldest in list(self._tables)[_TABLES:]:
                del self._tables[oldest]
        return known

    def tell(self, key: str, *, whole: bool = False) -> None:
        """Send what is known of single units; where ``whole``, also of single examples."""
        table = self._tables.get(key)
        if table is None or not table.fits:
            return
        table.update()
        self._send(table.message(key))
        margins = table.margins_message(key) if whole else None
        if margins is not None:
            self._send(margins)

    def answers(self, key: str, units: UnitSet) -> bool:
        """Whether the page shows the figures of these units before the kernel."""
        table = self._tables.get(key)
        if table is None or not table.fits or len(units) > 1:
            return False
        rows = [place for place, unit in enumerate(table.effects.units) if unit in units]
        return len(rows) == len(units) and bool(table.known[rows].all())

    def adding_message(self, key: str) -> Message | None:
        """How far off the page is where it adds single effects up, measured on random sets."""
        table = self._tables.get(key)
        if table is None or not table.known.all() or len(table.known) < 2:
            return None
        sets = SetOutputs(self._session.replay, intervention(table.effects.how))
        units = table.effects.units
        sizes = sorted({min(size, len(units)) for size in _SIZES})
        errors = []
        for draw, size in enumerate(size for size in sizes for _ in range(_DRAWS)):
            rows = torch.randperm(len(units), generator=generator_of(0, draw))[:size].numpy()
            exact = random_reading(sets, UnitSet([units[row] for row in rows]))
            added = table.added(rows)
            errors += [np.abs(np.subtract(added[name], exact[name])) for name in added]
        accuracy, margin = np.mean(errors, 0)
        words = f"{accuracy:.3f} of accuracy and {margin:.2g} of margin"
        words = re.sub(r"\b0\.", ".", words)  # as the page writes its figures
        return Message(
            {
                "type": "adding",
                "text": f"On this study it is off by {words}, the mean over "
                f"{len(sizes) * _DRAWS} random sets of {sizes[0]} to {sizes[-1]} units.",
            },
            [],
        )

    def check(self, readout: Readout, key: str) -> None:
        """Withdraw the tables of a model whose weights have changed since the sweep."""
        table = self._tables.get(key)
        if table is not None and not table.agrees(readout):
            del self._tables[key]
            self._send(table.withdrawn(key))
