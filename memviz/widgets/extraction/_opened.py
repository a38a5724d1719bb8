"""The opened passage: what is asked of it, and what the model says, with units on and off."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memviz.checks import quoted
from memviz.engine.record import Intervention
from memviz.engine.sets import ablate
from memviz.probes.extraction import (
    Recital,
    predicted_by_prompt,
    recite,
    samples_needed,
    sampling_probabilities,
)
from memviz.study import Study, private
from memviz.units import UnitSet

from ._passages import Passages

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


class Asking:
    """The prompt and the decoding; opening another passage takes its own whole prompt again.

    Parameters
    ----------
    passages : Passages
    """

    def __init__(self, passages: Passages) -> None:
        self._passages = passages
        self._asked: Asked | None = None
        self._written = ""  # the text of an edited prompt
        self.sample: int | None = None
        self.temperature = 1.0
        self.top_k: int | None = None

    def of(self, row: int | None) -> Asked | None:
        """What is asked of a passage."""
        if row is None:
            return None
        if self._asked is None or self._asked.row != row:
            prompt, true = self._passages.prompt(row), self._passages.true(row)
            self._asked = Asked(row, tuple(prompt), tuple(true))
        asked = replace(self._asked, sample=self.sample, top_k=self.top_k)
        return replace(asked, temperature=self.temperature)

    def forget(self) -> None:
        """Ask with the opened passage's own prompt again, greedily."""
        self._asked = self.sample = None

    def shorten(self, row: int, length: int) -> None:
        """Prompt with the last tokens of the passage's own prompt.

        Raises
        ------
        ValueError
            If there are not as many.
        """
        own = self._passages.prompt(row)
        if not 1 <= length <= len(own):
            raise ValueError(f"length is {length}; this prompt has 1 to {len(own)} tokens.")
        asked = self.of(row)
        assert asked is not None
        self._asked = replace(asked, prompt=tuple(own[len(own) - length :]), edited=False)

    def edit(self, row: int, text: str) -> None:
        """Prompt with another text; an empty one, or its own, restores the passage's prompt.

        Raises
        ------
        ValueError
            If the task has no tokenizer.
        """
        own = self._passages.prompt(row)
        ids = own if not text.strip() else self._ids(text)
        self._written = text
        asked = self.of(row)
        assert asked is not None
        self._asked = replace(asked, prompt=tuple(ids), edited=ids != own)

    def words(self, asked: Asked) -> str:
        """What is asked beyond the passage's own prompt, as arguments in Python; else empty."""
        own, given = self._passages.prompt(asked.row), []
        if asked.edited:
            given.append(repr(self._written))
        elif len(asked.prompt) < len(own):
            given.append(repr(len(asked.prompt)))
        if asked.sample is not None:
            given.append(f"sample={asked.sample}")
            given.append(f"temperature={asked.temperature!r}, top_k={asked.top_k!r}")
        return ", ".join(given)

    def _ids(self, text: str) -> list[int]:
        task = self._passages.task
        try:
            ids = task.encode(text)
        except Exception as error:
            if task.tokenizer is None:
                raise
            raise ValueError(f"the tokenizer can't read this text: {error}") from error
        if not ids:
            raise ValueError("the tokenizer makes no token of this text; give some words.")
        return ids

    def decode(self, _row: int | None, request: dict[str, Any]) -> None:
        """Greedy or sampled, as a view asks for it; ``again`` is the next sample.

        Raises
        ------
        ValueError
            If it is something else.
        """
        key = request["key"]
        if key not in ("greedy", "sample"):
            raise ValueError(f"there is no decoding {quoted(key)}; choose greedy or sample.")
        again = self.sample is not None and bool(request.get("again"))
        sample = None if key == "greedy" else (self.sample or 0) + again
        temperature = request.get("temperature", self.temperature)
        self.draw(sample, temperature, request.get("topK", self.top_k))

    def draw(self, sample: int | None, temperature: float, top_k: int | None) -> None:
        """The number of a sample, None for greedy, its temperature and tokens to sample from.

        Raises
        ------
        ValueError
            If one is something else.
        """
        number = isinstance(temperature, int | float) and not isinstance(temperature, bool)
        if not number or not 0 < temperature < math.inf:
            raise ValueError(f"temperature is {quoted(temperature)}; give a number above 0.")
        if top_k is not None and (type(top_k) is not int or top_k < 1):
            raise ValueError(f"top-k is {quoted(top_k)}; give a number of tokens, 1 or more.")
        if sample is not None and (type(sample) is not int or sample < 0):
            raise ValueError(f"sample is {quoted(sample)}; give the number of a sample, from 0 on.")
        self.sample, self.temperature, self.top_k = sample, float(temperature), top_k


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

    def predicted(
        self, asked: Asked, lengths: Sequence[int], units: UnitSet, how: Intervention
    ) -> np.ndarray:
        """First choices after the true tokens, from prompts of these lengths."""
        tokens = [*asked.prompt, *asked.true]
        with ablate(self._own, units, how):
            return predicted_by_prompt(
                self._own.model, tokens, len(asked.prompt), len(asked.true), lengths
            ).numpy()

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
