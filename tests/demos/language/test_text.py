"""The text of the language demo: the same passages in every Python, and tokens without loss."""

from __future__ import annotations

import random
import sys
from collections import Counter
from itertools import pairwise

import pytest
import torch

from memviz.demos.language import _passages as drawn
from memviz.demos.language import _text as text
from memviz.demos.language import passages, tokenizer
from memviz.demos.language._tokenizer import Tokenizer, learn_merges


def without(missing: int, monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Another Python, whose documentation has been reworded in some paragraphs."""
    known = drawn._text()["fingerprints"].tolist()
    gone = set(random.Random(0).sample(known, missing))
    own = {key: value for key, value in text._own_text().items() if key not in gone}
    monkeypatch.setattr(text, "_own_text", lambda: own)
    return gone


@pytest.fixture(autouse=True)
def fresh() -> None:
    passages.cache_clear()


def test_a_seed_draws_the_levels_and_holds_whole_paragraphs_out() -> None:
    found = passages(3)
    counts = Counter(found.copies.tolist())
    assert counts == {0: 96, **dict.fromkeys((1, 2, 4, 8, 16, 32, 64), 16)}
    assert len(set(found.paragraphs.tolist())) == len(found.tokens)
    assert len(found.training) == int(found.copies.sum()) + len(found.background)
    seen = Counter(tuple(row) for row in found.training.tolist())
    assert [seen[tuple(row)] for row in found.tokens.tolist()] == found.copies.tolist()


def test_no_run_of_a_held_out_passage_is_in_the_training_data() -> None:
    found = passages(0)
    stream = [*found.background.tolist(), *found.tokens[found.copies > 0].tolist()]
    runs = {tuple(row[k : k + 12]) for row in stream for k in range(len(row) - 11)}
    for row in found.tokens[found.copies == 0].tolist():
        assert not any(tuple(row[k : k + 12]) in runs for k in range(len(row) - 11))


def test_seeds_differ_and_are_the_same_again() -> None:
    first = passages(0)
    passages.cache_clear()
    assert torch.equal(first.tokens, passages(0).tokens)
    assert torch.equal(first.background, passages(0).background)
    assert not torch.equal(first.tokens, passages(1).tokens)


def test_a_python_that_lacks_some_paragraphs_goes_on_with_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = passages(0)
    passages.cache_clear()
    gone = without(60, monkeypatch)
    with pytest.warns(UserWarning, match="lacks 60 of the 887 paragraphs"):
        found = passages(0)
    known = drawn._text()["fingerprints"].tolist()
    stays = torch.tensor([known[row] not in gone for row in whole.paragraphs.tolist()])
    assert 0 < int((~stays).sum()) and found.missing == 60
    assert torch.equal(found.tokens, whole.tokens[stays])
    assert torch.equal(found.copies, whole.copies[stays])


def test_a_python_of_another_text_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    without(500, monkeypatch)
    with pytest.raises(ValueError, match="lacks 500 of the 887 paragraphs .* use Python 3.11"):
        passages(0)


def test_a_python_without_its_documentation_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    text._own_text.cache_clear()
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(ValueError, match=r"without pydoc_data\.topics"):
        passages(0)
    text._own_text.cache_clear()


def test_markup_and_line_breaks_do_not_change_a_paragraph() -> None:
    words = "The yield statement is the same as a yield expression, and ends a function's body."
    wrapped = "   The “yield” statement is\nthe same as a *yield*\nexpression, and ends a\n"
    code = "   >>> f = 1 and it is a very long line of code, so it is"
    other = {"a": f"{wrapped}function’s body.\n\n{code}"}
    assert text.prose(other) == [words]
    assert text.prose({**other, "b": words}) == [words]


def test_any_text_comes_back() -> None:
    known = tokenizer()
    assert len(known) == 768
    for words in ("", "a generator", "  two  spaces\n\tand a tab", "naïve – 10 °C 🙂", "\x00"):
        assert known.decode(known.encode(words)) == words
    assert known.decode(known.encode("🙂")[:2]) == "\ufffd"
    with pytest.raises(ValueError, match="no token 768; they go from 0 to 767"):
        known.decode([768])


def test_encoding_is_the_slow_way_merge_by_merge() -> None:
    known = tokenizer()
    merges = [tuple(pair) for pair in drawn._text()["merges"].tolist()]

    def slow(word: str) -> list[int]:
        tokens = list(word.encode())
        for rank, pair in enumerate(merges):
            place = 0
            while place < len(tokens) - 1:
                if tuple(tokens[place : place + 2]) == pair:
                    tokens[place : place + 2] = [256 + rank]
                place += 1
        return tokens

    for word in (" statement", " generators", "Uninterruptible", " 3210", "aaaa", "==="):
        assert known.encode(word) == slow(word)


def test_merges_are_the_most_frequent_pairs() -> None:
    merges = learn_merges(["low lower lowest", "slow"], 2)
    pairs = Counter(
        pair for word in ("low", " lower", " lowest", "slow") for pair in pairwise(word.encode())
    )
    assert pairs[merges[0]] == max(pairs.values()) == 4
    assert merges == [(ord("l"), ord("o")), (256, ord("w"))]
    assert learn_merges(["a"], 5) == []
    with pytest.raises(ValueError, match="merge 0 joins tokens 300 and 1"):
        Tokenizer([(300, 1)])


def test_no_text_ships_with_memviz() -> None:
    kept = drawn._text()
    assert {name: tensor.dtype for name, tensor in kept.items()} == {
        "fingerprints": torch.int64, "candidates": torch.bool, "merges": torch.int16,
    }  # fmt: skip
    longest = max(len(tokenizer().decode([token])) for token in range(768))
    assert longest <= 20  # a word, no phrase
