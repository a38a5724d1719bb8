"""A byte-pair tokenizer: text to token ids and back, without loss."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

Pair = tuple[int, int]
_BYTES = 256
_WORDS = re.compile(r" ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+")


class Tokenizer:
    """Bytes, and pairs of tokens that were merged into one, in the order they were learnt.

    Token 0 to 255 are the bytes of UTF-8; token 256 + i is the i-th merge (Sennrich et al. 2016).
    Any text can be encoded, and decoding gives it back.

    Parameters
    ----------
    merges : sequence of pairs of token ids

    Raises
    ------
    ValueError
        If a merge names a token that does not exist yet.

    Examples
    --------
    >>> tokenizer = Tokenizer([(ord("t"), ord("h")), (256, ord("e"))])
    >>> tokenizer.encode("the thin"), tokenizer.decode([257])
    ([257, 32, 256, 105, 110], 'the')
    """

    def __init__(self, merges: Sequence[Pair]) -> None:
        self._rank = {(int(a), int(b)): rank for rank, (a, b) in enumerate(merges)}
        self._bytes = [bytes([value]) for value in range(_BYTES)]
        for (a, b), rank in self._rank.items():
            if not (0 <= a < _BYTES + rank and 0 <= b < _BYTES + rank):
                raise ValueError(
                    f"merge {rank} joins tokens {a} and {b}; it may join those before it, 0 to "
                    f"{_BYTES + rank - 1}."
                )
            self._bytes.append(self._bytes[a] + self._bytes[b])
        self._known: dict[str, list[int]] = {}

    def __len__(self) -> int:
        return len(self._bytes)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text."""
        return [token for word in _WORDS.findall(text) for token in self._word(word)]

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of some token ids; bytes that are no whole character become U+FFFD.

        Raises
        ------
        ValueError
            If there is no such token.
        """
        parts = []
        for token in tokens:
            if not 0 <= token < len(self):
                raise ValueError(f"there is no token {token}; they go from 0 to {len(self) - 1}.")
            parts.append(self._bytes[token])
        return b"".join(parts).decode("utf-8", errors="replace")

    def _word(self, word: str) -> list[int]:
        if word not in self._known:
            tokens = list(word.encode())
            while len(tokens) > 1:
                best = min(pairwise(tokens), key=lambda pair: self._rank.get(pair, len(self)))
                if best not in self._rank:
                    break
                tokens = _merged(tokens, best, _BYTES + self._rank[best])
            self._known[word] = tokens
        return self._known[word]


def learn_merges(texts: Iterable[str], count: int) -> list[Pair]:
    """The pairs of neighbours that occur most often, one merge after another.

    Of pairs that occur equally often, the one of smaller ids comes first, so that the same texts
    always give the same merges.

    Examples
    --------
    >>> learn_merges(["see the sea", "she sees"], 2)
    [(115, 101), (32, 256)]
    """
    words = Counter(word for text in texts for word in _WORDS.findall(text))
    split = {word: list(word.encode()) for word in words}
    merges: list[Pair] = []
    for token in range(_BYTES, _BYTES + count):
        pairs: Counter[Pair] = Counter()
        for word, tokens in split.items():
            for pair in pairwise(tokens):
                pairs[pair] += words[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        split = {word: _merged(tokens, best, token) for word, tokens in split.items()}
    return merges


def _merged(tokens: list[int], pair: Pair, token: int) -> list[int]:
    merged: list[int] = []
    place = 0
    while place < len(tokens):
        if tuple(tokens[place : place + 2]) == pair:
            merged.append(token)
            place += 2
        else:
            merged.append(tokens[place])
            place += 1
    return merged
