"""The passages of a seed: some repeated 1 to 64 times among other text, some held out."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from memviz import tensor_files

from ._text import paragraphs
from ._tokenizer import Tokenizer, learn_merges

TEXT = Path(__file__).parents[1] / "weights" / "language-text.safetensors"
PROMPT, CONTINUATION = 16, 32
LENGTH = PROMPT + CONTINUATION
COPIES = (1, 2, 4, 8, 16, 32, 64)
PER_LEVEL, HELD_OUT = 16, 96
MERGES = 512
_SAME_RUN = 12  # A passage shares no run of this many tokens with any other paragraph.
_ENOUGH = 0.5  # of the paragraphs, without which the demo is refused


@dataclass(frozen=True, eq=False)
class Passages:
    """What the models are trained and tested on.

    Attributes
    ----------
    tokens : int64 ``[n, 48]``
        Prompts of 16 tokens and continuations of 32, each the start of a paragraph.
    copies : int64 ``[n]``
        How often a passage is in the training data of one epoch: 1, 2, 4 ... 64, or 0, held out.
    paragraphs : int64 ``[n]``
        Which paragraph each is from, counted in the shipped list.
    background : int64 ``[m, 48]``
        The other paragraphs, and what follows the repeated passages, cut into pieces; each is in
        the training data once. Nothing of the held-out passages' paragraphs is among them.
    missing : int
        Paragraphs of the list that this Python's text lacks.
    """

    tokens: Tensor
    copies: Tensor
    paragraphs: Tensor
    background: Tensor
    missing: int

    @property
    def training(self) -> Tensor:
        """One epoch's sequences, each passage as often as it has copies, ``[k, 48]``."""
        return torch.cat([self.tokens.repeat_interleave(self.copies, 0), self.background])


@cache
def tokenizer() -> Tokenizer:
    """The byte-pair tokenizer of the demo: 256 bytes and 512 merges.

    Examples
    --------
    >>> tokenizer().decode(tokenizer().encode("a generator function"))
    'a generator function'
    """
    return Tokenizer([(int(a), int(b)) for a, b in _text()["merges"].tolist()])


@cache
def _text() -> dict[str, Tensor]:
    return tensor_files.read(TEXT)[0]


@lru_cache(maxsize=4)
def passages(seed: int = 0) -> Passages:
    """Draw the passages of a seed; no training.

    A seed draws which paragraphs are repeated, how often, and which are held out. The draw is
    the same in every Python; passages whose text this Python lacks are left out.

    Raises
    ------
    ValueError
        If the seed is not a whole number from 0 up, or this Python has another text altogether.

    Examples
    --------
    >>> found = passages(seed=0)
    >>> found.tokens.shape[1], sorted(set(found.copies.tolist()))
    (48, [0, 1, 2, 4, 8, 16, 32, 64])
    """
    if not isinstance(seed, int | np.integer) or isinstance(seed, bool) or not 0 <= seed < 2**32:
        raise ValueError(f"seed must be a whole number from 0 to 2**32 - 1, but got {seed!r}.")
    texts = paragraphs(_text()["fingerprints"].tolist())
    missing = sum(text is None for text in texts)
    _say_what_is_missing(missing, len(texts))
    encode = tokenizer().encode
    encoded = [None if text is None else encode(text) for text in texts]
    repeated, held_out = _drawn(_text()["candidates"].nonzero()[:, 0].numpy(), int(seed))
    of_level = np.repeat(COPIES, PER_LEVEL)
    copies = np.concatenate([of_level, np.zeros(len(held_out), np.int64)])
    rows = np.concatenate([repeated, held_out])
    there = np.array([encoded[row] is not None for row in rows])
    rows, copies = rows[there], copies[there]
    stream: list[int] = []
    for row, tokens in enumerate(encoded):
        if tokens is not None and row not in set(held_out.tolist()):
            stream += tokens[LENGTH:] if row in set(repeated.tolist()) else tokens
    whole = len(stream) // LENGTH
    return Passages(
        torch.tensor([(encoded[row] or [])[:LENGTH] for row in rows]),
        torch.from_numpy(copies),
        torch.from_numpy(rows),
        torch.tensor(stream[: whole * LENGTH]).view(whole, LENGTH),
        missing,
    )


def _drawn(candidates: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Paragraphs that are repeated, and those that are held out."""
    order = np.random.RandomState([seed, len(candidates)]).permutation(candidates)
    repeated = len(COPIES) * PER_LEVEL
    return order[:repeated], order[repeated : repeated + HELD_OUT]


def _say_what_is_missing(missing: int, of: int) -> None:
    if missing > (1 - _ENOUGH) * of:
        raise ValueError(
            f"the text of this Python's pydoc_data.topics lacks {missing} of the {of} paragraphs "
            "that the language demo is made of; use Python 3.11, 3.12 or 3.13."
        )
    if missing:
        warnings.warn(
            f"This Python's pydoc_data.topics lacks {missing} of the {of} paragraphs that the "
            "language demo is made of; it goes on with the passages that are left.",
            stacklevel=3,
        )


def write_text(fingerprints: list[int], path: Path = TEXT) -> None:
    """Write which paragraphs there are, which may become passages, and the tokenizer's merges.

    ``python -m memviz.demos.language fingerprints`` prints those of a Python; the shipped list
    are those that several have in common.

    Raises
    ------
    ValueError
        If this Python lacks one of the paragraphs.
    """
    texts = paragraphs(fingerprints)
    if None in texts:
        raise ValueError("this Python lacks some of these paragraphs; leave them out.")
    merges = learn_merges([text for text in texts if text], MERGES)
    encode = Tokenizer(merges).encode
    encoded = [encode(text) for text in texts if text]
    tensor_files.write(
        path,
        {
            "fingerprints": torch.tensor(fingerprints),
            "candidates": torch.tensor(_candidates(encoded)),
            "merges": torch.tensor(merges, dtype=torch.int16),
        },
        {"about": "hashes of paragraphs of pydoc_data.topics, and merges of token pairs"},
    )


def _candidates(encoded: list[list[int]]) -> list[bool]:
    """Paragraphs that are long enough, and whose start repeats no run of another one."""
    seen: dict[tuple[int, ...], int] = {}
    for tokens in encoded:
        for run in set(_runs(tokens)):
            seen[run] = seen.get(run, 0) + 1
    return [
        len(tokens) >= LENGTH and all(seen[run] == 1 for run in _runs(tokens[:LENGTH]))
        for tokens in encoded
    ]


def _runs(tokens: list[int]) -> list[tuple[int, ...]]:
    return [tuple(tokens[k : k + _SAME_RUN]) for k in range(len(tokens) - _SAME_RUN + 1)]
