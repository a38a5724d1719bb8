"""What is read of all passages at once: tokens recited, and how well the text is foretold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from memviz.statistics import NORMAL, wilson
from memviz.tasks import Language


@dataclass(frozen=True, eq=False)
class Reading:
    """All passages of a study under one ablation.

    Attributes
    ----------
    matched : int64 ``[n]``
        Tokens that greedy decoding recites before the first wrong one. One pass over the true
        passage decides, since up to there decoding reads the same.
    margin, loss : float64 ``[n]``
        Of the task; a passage is recited whole exactly if its margin is above 0.
    """

    matched: np.ndarray
    margin: np.ndarray
    loss: np.ndarray

    @classmethod
    def of(cls, task: Language, outputs: Tensor, labels: Tensor) -> Reading:
        """Read the outputs ``[n, continuation, vocabulary]`` of passages."""
        labels = labels.to(outputs.device)
        right = (task.predictions(outputs) == labels).long()
        return cls(
            right.cumprod(1).sum(1).cpu().numpy(),
            task.margin(outputs, labels).double().cpu().numpy(),
            task.loss(outputs, labels).double().cpu().numpy(),
        )

    @classmethod
    def joined(cls, parts: Sequence[Reading]) -> Reading:
        """Passages read part by part."""
        names = ("matched", "margin", "loss")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def recited(self, rows: Tensor) -> int:
        """How many of these passages are recited whole."""
        return int((self.margin[rows.numpy()] > 0).sum())

    def perplexity(self, rows: Tensor) -> float:
        """The exponential of the mean negative log-likelihood per token; NaN without passages."""
        losses = self.loss[rows.numpy()]
        return _exp(float(losses.mean())) if len(losses) else math.nan


def figures(
    before: Reading, now: Reading, trained: Tensor, held_out: Tensor
) -> dict[str, dict[str, Any]]:
    """Recited passages, recited held-out ones and their perplexity, before and after.

    The shares have Wilson's 95 % interval, the perplexity that of the mean ± 1.96 standard errors.
    """
    found = {}
    for name, rows in (("recited", trained), ("held", held_out)):
        if len(rows):
            was, is_now = before.recited(rows), now.recited(rows)
            found[name] = _row(was / len(rows), is_now / len(rows), *wilson(is_now, len(rows)))
            found[name] |= {"counts": (was, is_now), "of": len(rows)}
    if len(held_out):
        losses = now.loss[held_out.numpy()]
        error = NORMAL * losses.std(ddof=1) / len(losses) ** 0.5 if len(losses) > 1 else 0.0
        low, high = (_exp(float(losses.mean() + sign * error)) for sign in (-1, 1))
        was_lost, lost = before.perplexity(held_out), now.perplexity(held_out)
        found["perplexity"] = _row(was_lost, lost, low, high) | {"of": len(held_out)}
    return found


def null_figures(
    draws: Sequence[Reading], trained: Tensor, held_out: Tensor
) -> dict[str, dict[str, float | None]]:
    """The same of random units: the mean and the central 95 % of the draws so far."""
    found = {}
    if len(trained):
        found["recited"] = _spread([draw.recited(trained) / len(trained) for draw in draws])
    if len(held_out):
        found["held"] = _spread([draw.recited(held_out) / len(held_out) for draw in draws])
        found["perplexity"] = _spread([draw.perplexity(held_out) for draw in draws])
    return found


def _row(before: float, after: float, low: float, high: float) -> dict[str, Any]:
    given = {"before": before, "after": after, "low": low, "high": high}
    return {name: _finite(value) for name, value in given.items()}


def _spread(values: Sequence[float]) -> dict[str, float | None]:
    low, high = np.percentile(values, [2.5, 97.5])
    given = {"mean": float(np.mean(values)), "low": float(low), "high": float(high)}
    return {name: _finite(value) for name, value in given.items()}


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf


def told(value: float | None) -> str:
    """A perplexity with three figures.

    Examples
    --------
    >>> told(13.84), told(4021.6), told(None)
    ('13.8', '4,022', 'beyond measure')
    """
    if value is None:
        return "beyond measure"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
