"""The opened passage: what the model says after its prompt, with units on and off."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memviz.engine.record import Intervention
from memviz.engine.sets import ablate
from memviz.probes.extraction import (
    Recital,
    matched_by_prompt,
    recite,
    samples_needed,
    sampling_probabilities,
)
from memviz.study import Study, private
from memviz.units import UnitSet

SHOWN = 3  # tokens whose chances are shown at each place
WANTED = (0.5, 0.9, 0.999)


@dataclass(frozen=True)
class Asked:
    """What is asked of the model: which passage, after which prompt, decoded how.

    Attributes
    ----------
    row : int
    prompt, true : tuple of int
        Token ids.
    edited : bool
        Whether the prompt is not the passage's own.
    sample : int or None
        The number of the sample; greedy if None.
    temperature : float
    top_k : int or None
    """

    row: int
    prompt: tuple[int, ...]
    true: tuple[int, ...]
    edited: bool = False
    sample: int | None = None
    temperature: float = 1.0
    top_k: int | None = None


@dataclass(frozen=True)
class Answered:
    """What it says, and the chance that a sample is the passage; NaN for an edited prompt."""

    recital: Recital
    chance: float


class Reader:
    """Lets a study's model speak, on modules of its own: hooks are on no model that others call.

    Parameters
    ----------
    study : Study
    """

    def __init__(self, study: Study) -> None:
        self.study = study
        self._own = private(study)
        self._plain: tuple[Asked, Answered] | None = None

    def ask(self, asked: Asked, units: UnitSet, how: Intervention) -> Answered:
        """What the model says with these units ablated."""
        if units:
            with ablate(self._own, units, how):
                return self._answer(asked)
        if self._plain is None or self._plain[0] != asked:
            self._plain = (asked, self._answer(asked))
        return self._plain[1]

    def recital(self, asked: Asked, units: UnitSet, how: Intervention) -> Recital:
        """What the model says with these units ablated, without its chance."""
        with ablate(self._own, units, how):
            return self._recital(asked)

    def matched(
        self, asked: Asked, lengths: Sequence[int], units: UnitSet, how: Intervention
    ) -> np.ndarray:
        """Tokens recited from prompts of these lengths of the passage's own prompt."""
        tokens = [*asked.prompt, *asked.true]
        with ablate(self._own, units, how):
            return matched_by_prompt(
                self._own.model, tokens, len(asked.prompt), len(asked.true), lengths
            )

    def _answer(self, asked: Asked) -> Answered:
        chance = math.nan
        if not asked.edited:
            chance = float(
                sampling_probabilities(
                    self._own.model,
                    [[*asked.prompt, *asked.true]],
                    len(asked.prompt),
                    len(asked.true),
                    temperature=asked.temperature,
                    top_k=asked.top_k,
                    progress=False,
                )[0]
            )
        return Answered(self._recital(asked), chance)

    def _recital(self, asked: Asked) -> Recital:
        seed = None if asked.sample is None else asked.sample * len(self.study) + asked.row
        return recite(
            self._own.model,
            asked.prompt,
            asked.true,
            temperature=asked.temperature,
            top_k=asked.top_k,
            seed=seed,
        )


def candidates(before: Recital, after: Recital) -> Tensor:
    """At each place the true token, the one said, and the likeliest others, int64 ``[n, 3]``."""
    likely = after.logits.topk(min(SHOWN + 2, after.logits.shape[1]), dim=1).indices
    given = torch.stack([after.true, after.said, before.said], 1)
    rows = [list(dict.fromkeys(row)) for row in torch.cat([given, likely], 1).tolist()]
    # A vocabulary of two tokens has no third.
    return torch.tensor([(row + row[-1:] * SHOWN)[:SHOWN] for row in rows])


def sides(recital: Recital, shown: Tensor) -> dict[str, Any]:
    """Of what was said: the places that are right, ranks of the true tokens, and chances."""
    return {
        "right": recital.matches.numpy().astype(np.uint8),
        "rank": recital.ranks.numpy().astype(np.uint32),
        "chance": recital.probabilities(shown).numpy().astype(np.float32),
    }


def tries(chance: float) -> dict[str, Any] | None:
    """A sampling probability and the samples until one is the passage; None if undefined.

    Examples
    --------
    >>> tries(0.162)["needed"]
    [4.0, 14.0, 40.0]
    """
    if math.isnan(chance):
        return None
    needed = [float(samples_needed(chance, p)) for p in WANTED]
    return {"p": chance, "needed": [n if math.isfinite(n) else None for n in needed]}
