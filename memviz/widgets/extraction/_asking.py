"""What the user asks of the opened passage: a shorter or another prompt, greedy or sampled."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from memviz.checks import quoted

from ._opened import Asked
from ._passages import Passages


class Asking:
    """The prompt and the decoding; opening another passage takes its own whole prompt again.

    Parameters
    ----------
    passages : Passages
    """

    def __init__(self, passages: Passages) -> None:
        self._passages = passages
        self._asked: Asked | None = None
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
        asked = self.of(row)
        assert asked is not None
        self._asked = replace(asked, prompt=tuple(ids), edited=ids != own)

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
        """Greedy or sampled, with a temperature and the number of likeliest tokens sampled from.

        Raises
        ------
        ValueError
            If it is something else.
        """
        key = request["key"]
        temperature = request.get("temperature", self.temperature)
        top_k = request.get("topK", self.top_k)
        if key not in ("greedy", "sample"):
            raise ValueError(f"there is no decoding {quoted(key)}; choose greedy or sample.")
        number = isinstance(temperature, int | float) and not isinstance(temperature, bool)
        if not number or not 0 < temperature < math.inf:
            raise ValueError(f"temperature is {quoted(temperature)}; give a number above 0.")
        if top_k is not None and (type(top_k) is not int or top_k < 1):
            raise ValueError(f"top-k is {quoted(top_k)}; give a number of tokens, 1 or more.")
        again = self.sample is not None and bool(request.get("again"))
        kept = 0 if self.sample is None else self.sample + again
        self.sample = kept if key == "sample" else None
        self.temperature, self.top_k = float(temperature), top_k
