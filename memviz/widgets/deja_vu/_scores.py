"""Scores of the explorer's units: effect on the recall gap, on the opened pair, the user's own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import torch

from memviz.engine.record import CancelledError, Intervention, Replay, intervention
from memviz.engine.sweep import estimate_effects, new_effects, sweep_steps
from memviz.probes.deja_vu.ablation import Retrieval, beyond_held_out, lost_aucg
from memviz.scores import Scores
from memviz.session import Session
from memviz.units import Unit
from memviz.widgets.core import TELL_EVERY, Choices, Telling, Worker, extra_scores_message, pack

_FEW = 64  # pairs that order the sweep
_KEPT = 200  # pairs whose effects are kept
_SCORES = [
    {"key": "aucg", "label": "exact effect on AUCG", "kind": "exact"},
    {"key": "pair", "label": "exact effect on this pair", "kind": "exact"},
]


class DejaVuScores:
    """Every score over the units of both towers that the explorer can show.

    Parameters
    ----------
    retrieval : Retrieval
    session : Session
    worker : Worker
    audience : Telling

    Attributes
    ----------
    units : list of Unit
        In the order of every message.
    extra : dict of key to Scores
        The user's own.
    how : str
        The intervention of the scores shown.
    """

    def __init__(
        self, retrieval: Retrieval, session: Session, worker: Worker, audience: Telling
    ) -> None:
        self.retrieval, self.session = retrieval, session
        self._worker, self._audience = worker, audience
        self.units: list[Unit] = [unit for layer in session.known for unit in layer.all()]
        self.extra: dict[str, Scores] = {}
        self.how = session.how
        # A head is a large share of its layer; ranked with single units, heads would always lead.
        self._heads = [layer.name for layer in session.known if layer.kind == "heads"]
        self.aucg = self._known_effects()  # by intervention
        self.pair: dict[tuple[int, str], np.ndarray] = {}  # by row and intervention

    def _known_effects(self) -> dict[str, np.ndarray]:
        effects = self.retrieval.effects
        # Without their null they would be ranked beside units whose held-out loss is taken off.
        if effects is None or effects.units is None or effects.null is None:
            return {}
        effects = beyond_held_out(effects)
        known = dict(zip(effects.units or (), effects.values, strict=True))
        return {"zero": np.array([known.get(unit, np.nan) for unit in self.units])}

    def choices(self) -> Choices:
        """Scores to choose from, the user's own last."""
        own = [{"key": key, "label": s.name, "kind": "other"} for key, s in self.extra.items()]
        return [{**score, "measure": ""} for score in (*_SCORES, *own)]

    def show(self, key: str) -> None:
        """Send a score, and compute in the background what is missing of it."""
        self.how = self.session.how
        self._worker.drop("score")
        if key == "aucg":
            self._worker.work("sweep", self._aucg_steps(self.how), rank=3)
        elif key == "pair":
            row = self.session.opened
            if row is not None and row < len(self.retrieval.training):
                self._worker.work("score", self._pair_steps(row, self.how), rank=2)
        elif key in self.extra:
            message = extra_scores_message(key, self.extra[key], self.units)
            self._audience.tell_and_keep(message, f"scores:{key}")

    def _aucg_steps(self, how: str) -> Iterator[None]:
        values = self.aucg.setdefault(how, np.full(len(self.units), np.nan))
        parsed, told_at = intervention(how), 0.0
        for row in self.likely_first(parsed, np.flatnonzero(np.isnan(values))):
            while np.isnan(values[row]):
                with suppress(CancelledError):  # a click goes first, then this unit is tried again
                    values[row] = self._beyond_held_out(self.units[row], parsed)
                yield
            if time.monotonic() - told_at > 4 * TELL_EVERY:
                told_at = time.monotonic()
                self._tell_aucg(how)
            done = int((~np.isnan(values)).sum())
            self._audience.tell_progress("sweep", "exact for", done, len(values))
        self._tell_aucg(how)
        self._audience.tell_progress("sweep", "", 0, 0)

    def _beyond_held_out(self, unit: Unit, how: Intervention) -> float:
        lost, null = lost_aucg(self.retrieval, unit, how, lambda: self._worker.answer_waits)
        return lost if np.isnan(null) else lost - null

    def likely_first(self, how: Intervention, rows: np.ndarray) -> np.ndarray:
        """Order units by an estimate on a few pairs, so that the important ones come first."""
        if not len(rows):
            return rows
        few = torch.arange(min(_FEW, len(self.retrieval.training)))
        change = estimate_effects(Replay(self.retrieval.study, few), self.units, how)
        return rows[np.argsort(change.margin_change.mean(1).numpy()[rows], kind="stable")]

    def _tell_aucg(self, how: str) -> None:
        if how == self.session.how:
            measure = "AUCG lost with the unit ablated, training − held-out pairs"
            self._tell_values("aucg", measure, how, exact=self.aucg[how])

    def _pair_steps(self, row: int, how: str) -> Iterator[None]:
        parsed, key = intervention(how), (row, how)
        words = f"effect on “{self.retrieval.training.captions[row][:40]}”"
        measure = "cosine of caption and picture lost"
        if key not in self.pair:
            replay = Replay(self.retrieval.study, torch.tensor([row]))
            estimate = -estimate_effects(replay, self.units, parsed).margin_change[:, 0].numpy()
            self._tell_values("pair", measure, words, estimate=estimate)
            yield
            effects = new_effects(replay, self.units, parsed)
            order = np.argsort(-estimate, kind="stable").tolist()
            told_at = time.monotonic()
            for done in sweep_steps(replay, effects, parsed, order):
                lost = self._exact(effects.margin_change[:, 0], effects.done)
                if time.monotonic() - told_at > 4 * TELL_EVERY:
                    told_at = time.monotonic()
                    self._tell_values("pair", measure, words, exact=lost, estimate=estimate)
                self._audience.tell_progress("score", "exact for", int(done), len(order))
                yield
            for oldest in list(self.pair)[: 1 - _KEPT]:
                del self.pair[oldest]
            self.pair[key] = self._exact(effects.margin_change[:, 0], effects.done)
        self._tell_values("pair", measure, words, exact=self.pair[key])
        self._audience.tell_progress("score", "", 0, 0)

    @staticmethod
    def _exact(change: torch.Tensor, done: torch.Tensor) -> np.ndarray:
        return np.where(done.numpy(), -change.numpy(), np.nan)

    def _tell_values(
        self,
        key: str,
        measure: str,
        note: str,
        exact: np.ndarray | None = None,
        estimate: np.ndarray | None = None,
    ) -> None:
        label = next(score["label"] for score in _SCORES if score["key"] == key)
        nothing = np.full(len(self.units), np.nan)
        exact = nothing if exact is None else exact
        value = np.where(np.isnan(exact), nothing if estimate is None else estimate, exact)
        state = np.where(~np.isnan(exact), 2, np.where(np.isnan(value), 0, 1)).astype(np.uint8)
        content: dict[str, Any] = {"type": "scores", "key": key, "label": label, "note": note}
        words = f"{measure}; heads are not ranked" if self._heads else measure
        content |= {"measure": words, "unranked": self._heads, "floor": 0}
        counts = {"kind": "exact", "done": int((state == 2).sum()), "total": len(value)}
        filled = np.nan_to_num(value).astype(np.float32)
        self._audience.tell_and_keep(
            pack({**content, **counts}, value=filled, state=state), f"scores:{key}"
        )
