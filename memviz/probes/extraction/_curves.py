"""How much is recited against the copies in training, and against the prompt's length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, nn

from memviz.checks import Count, checked, quoted
from memviz.progress import slow
from memviz.statistics import wilson

from ._forecast import indicator
from ._passages import as_passages
from ._scores import Extraction, extract

if TYPE_CHECKING:
    import pandas as pd

_PROMPTS = (1, 2, 4, 8, 16, 32)


@checked
def recited_by_copies(
    recited: Any, copies: Any, *, buckets: Sequence[int] | None = None
) -> pd.DataFrame:
    """The recited share of passages by how often each was in training.

    Of large models the share rises with the logarithm of the copies (Carlini et al. 2023, section
    4.2). The null are passages without a copy, held out of training: a share that they reach tells
    nothing of memorization.

    Parameters
    ----------
    recited : Extraction or bool ``[n]``
        What a model says after each prompt, or whether it recites the passage.
    copies : int ``[n]``
        How often each passage was in training, 0 for held-out ones.
    buckets : sequence of int, optional
        The least copies of each row, rising: (1, 2, 4) are 1, 2 to 3, and 4 or more. By default
        one row for each number that occurs.

    Returns
    -------
    pandas.DataFrame
        By ``copies``: passages ``n``, how many are ``recited``, their ``share`` with Wilson's 95 %
        interval ``low`` to ``high``; the same of held-out passages, ``null``, ``null_low`` and
        ``null_high``, NaN if there are none; and ``constant_rate``, the share if each token were
        right by itself, as often as in this row (NaN without an Extraction).

    Raises
    ------
    ValueError
        If there is not a whole number from 0 for each passage, no passage was in training, or the
        buckets do not rise from 1 or more.

    Examples
    --------
    >>> recited_by_copies([True, True, False, False], [8, 8, 1, 0])[["n", "share", "null"]]
            n  share  null
    copies
    1       1    0.0   0.0
    8       2    1.0   0.0
    """
    whole = indicator("recited", recited)
    counts = _counts(copies, len(whole))
    if not counts.any():
        raise ValueError(
            "no passage was in training, so there is no curve; give copies above 0 for some."
        )
    edges = _edges(buckets, counts)
    held_out = whole[counts == 0]
    rows = []
    for edge, after in zip(edges, [*edges[1:], np.inf], strict=True):
        those = (counts >= edge) & (counts < after)
        rate = _constant_rate(recited, those) if isinstance(recited, Extraction) else np.nan
        rows.append({"copies": edge, **_row(whole[those], held_out), "constant_rate": rate})
    return _table(rows, "copies")


@checked
def recited_by_prompt(
    model: nn.Module,
    passages: Any,
    continuation: Count,
    prompts: Sequence[int] = _PROMPTS,
    *,
    held_out: Any = None,
    batch_size: Count = 64,
    progress: bool = True,
) -> pd.DataFrame:
    """The recited share of passages by the length of their prompts.

    The continuation stays the same, the tokens after the longest prompt; a shorter prompt is what
    stands right before it. Of large models the share rises with the logarithm of the length
    (Carlini et al. 2023, section 4.3). So a prompt does not begin where the passage does: position
    embeddings that were only trained on passages from their start are read elsewhere.

    Parameters
    ----------
    model, batch_size, progress
        As for :func:`extract`.
    passages : int ``[n, tokens]``, list of lists of int, or what a tokenizer returned
        Of at least the longest prompt and the continuation.
    continuation : int
    prompts : sequence of int
        Lengths, in tokens.
    held_out : optional
        Passages that were not in training, of the same source: the null.

    Returns
    -------
    pandas.DataFrame
        By ``prompt``: the columns of :func:`recited_by_copies`, and the ``score``, the mean share
        of tokens that are right, beside ``another_score``, that of the same answers on the
        continuation of the next passage (NaN of one passage alone).

    Raises
    ------
    TypeError
        If ``model`` is no module.
    ValueError
        In train mode, if a passage is too short, or there is no prompt of one token or more.

    Examples
    --------
    >>> import torch
    >>> successor = nn.Embedding.from_pretrained(torch.eye(5).roll(1, 1)).eval()
    >>> passages, held_out = [[4, 0, 1, 2], [1, 2, 3, 4]], [[0, 0, 0, 0]]
    >>> table = recited_by_prompt(successor, passages, 2, [1, 2], held_out=held_out, progress=False)
    >>> table[["n", "share", "null", "score", "another_score"]]
            n  share  null  score  another_score
    prompt
    1       2    1.0   0.0    1.0            0.0
    2       2    1.0   0.0    1.0            0.0
    """
    lengths = _rising("prompts", prompts, "lengths of prompts, such as (1, 2, 4, 8)")
    tokens = as_passages(passages, lengths[-1], continuation)
    others = None if held_out is None else as_passages(held_out, lengths[-1], continuation)
    rows = []
    for prompt in slow(lengths, "prompts", progress=progress):

        def read(given: Tensor, prompt: int = prompt) -> Extraction:
            cut = given[:, lengths[-1] - prompt :]
            return extract(model, cut, prompt, continuation, batch_size=batch_size, progress=False)

        found = read(tokens)
        null = np.zeros(0, dtype=bool) if others is None else read(others).memorized
        next_one = found.passages[:, prompt:].roll(1, 0)
        another = float((found.said == next_one).double().mean()) if len(found) > 1 else np.nan
        rate = _constant_rate(found, np.ones(len(found), dtype=bool))
        scores = {"score": float(found.scores.mean()), "another_score": another}
        row = _row(found.memorized, null)
        rows.append({"prompt": prompt, **row, "constant_rate": rate, **scores})
    return _table(rows, "prompt")


def _row(recited: np.ndarray, held_out: np.ndarray) -> dict[str, float]:
    """Counts, the share with its interval, and the same of the null."""
    row: dict[str, float] = {"n": len(recited), "recited": int(recited.sum())}
    for names, whole in (("share low high", recited), ("null null_low null_high", held_out)):
        count, n = int(whole.sum()), len(whole)
        found = (count / n, *wilson(count, n)) if n else (np.nan,) * 3
        row.update(zip(names.split(), found, strict=True))
    return row


def _constant_rate(found: Extraction, those: np.ndarray) -> float:
    return float(found.scores[those].mean() ** found.continuation) if those.any() else np.nan


def _counts(copies: Any, n: int) -> np.ndarray:
    given = copies.detach().cpu() if isinstance(copies, Tensor) else copies
    try:
        counts = np.asarray(given)
    except (TypeError, ValueError):  # rows of different lengths
        counts = np.asarray(None)
    numbers = np.issubdtype(counts.dtype, np.integer)
    if not numbers or counts.shape != (n,) or (counts < 0).any():
        raise ValueError(
            f"copies is {quoted(copies, 60)}; give a whole number for each of the {n:,} passages: "
            "how often it was in training, 0 for held-out ones."
        )
    return counts.astype(np.int64)


def _edges(buckets: Sequence[int] | None, counts: np.ndarray) -> list[int]:
    if buckets is None:
        return [int(count) for count in np.unique(counts) if count]
    return _rising("buckets", buckets, "the least copies of each, such as (1, 2, 4, 8)")


def _rising(name: str, given: Sequence[int], what: str) -> list[int]:
    numbers = list(given)
    whole = all(isinstance(n, int | np.integer) and not isinstance(n, bool) for n in numbers)
    if not numbers or not whole or numbers[0] < 1 or numbers != sorted(set(numbers)):
        raise ValueError(f"{name} is {quoted(given, 60)}; give {what}, each once and rising.")
    return [int(number) for number in numbers]


def _table(rows: Sequence[dict[str, float]], name: str) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(rows).set_index(name)
