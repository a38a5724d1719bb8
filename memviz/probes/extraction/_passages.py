"""Passages: token ids that a prompt and a continuation are taken from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from memviz.checks import checked, listed
from memviz.tasks import Language, as_numbers
from memviz.tasks.language import tokens_of


def as_passages(passages: Any, prompt: int, continuation: int) -> Tensor:
    """The first ``prompt + continuation`` tokens of each passage, int64 ``[n, tokens]``.

    Parameters
    ----------
    passages : int ``[n, tokens]``, list of lists of int, or mapping
        Lists may have different lengths. Of a mapping, as tokenizers return it, ``input_ids`` are
        read where its ``attention_mask`` is not 0.

    Raises
    ------
    ValueError
        If one is too short, holds something else than token ids, or a length is not positive.

    Examples
    --------
    >>> as_passages([[5, 6, 7, 8], [1, 2, 3]], 1, 2)
    tensor([[5, 6, 7],
            [1, 2, 3]])
    """
    needed = tokens_of("prompt", prompt) + tokens_of("continuation", continuation)
    if isinstance(passages, Mapping):
        passages = _unpadded(passages)
    if isinstance(passages, list | tuple) and len(passages):
        passages = [_cut(row, needed, number) for number, row in enumerate(passages)]
    tokens = as_numbers("passages", passages, "give token ids, [passages, tokens]")
    if tokens.dim() != 2 or not len(tokens):
        raise ValueError(
            f"passages has shape {tuple(tokens.shape)}; give token ids, [passages, tokens]."
        )
    if tokens.shape[1] < needed:
        raise ValueError(_too_short("the passages have", tokens.shape[1], prompt, continuation))
    ids = tokens[:, :needed].long()
    if tokens.dtype == torch.bool or (ids != tokens[:, :needed]).any() or (ids < 0).any():
        raise ValueError("passages holds numbers that are no token ids; give whole numbers from 0.")
    return ids.cpu()


def _unpadded(passages: Mapping[str, Any]) -> Any:
    """Rows without their padding, on whichever side it is."""
    if "input_ids" not in passages:
        raise ValueError(
            f"passages has no entry 'input_ids' ({listed(passages)}); give token ids, or what a "
            "tokenizer returned."
        )
    ids, mask = passages["input_ids"], passages.get("attention_mask")
    if mask is None:
        return ids
    if len(ids) != len(mask) or any(
        len(row) != len(kept) for row, kept in zip(ids, mask, strict=True)
    ):
        raise ValueError(
            "input_ids and attention_mask have different shapes; give both as the tokenizer "
            "returned them."
        )
    rows = []
    for number, (row, kept) in enumerate(zip(ids, mask, strict=True)):
        seen = torch.as_tensor(kept).bool()
        rows.append(torch.as_tensor(row)[seen].tolist())
        if not rows[-1]:
            raise ValueError(f"passage {number} is all padding; leave it out.")
    return rows


def _cut(row: Any, needed: int, number: int) -> Any:
    if not hasattr(row, "__len__") or isinstance(row, str):
        raise ValueError(
            f"passage {number} is {type(row).__name__}; give its token ids: "
            "tokenizer(text)['input_ids']."
        )
    if len(row) < needed:
        raise ValueError(
            f"passage {number} has {len(row)} tokens, and prompt and continuation take {needed}; "
            "leave it out, or shorten them."
        )
    return row[:needed]


def _too_short(what: str, tokens: int, prompt: int, continuation: int) -> str:
    return (
        f"{what} {tokens} tokens, fewer than a prompt of {prompt} and a continuation of "
        f"{continuation}; shorten them, or give longer passages."
    )


def check_ids(ids: Sequence[Any] | None, n: int) -> tuple[str, ...]:
    """A name for each passage, by default its row.

    Raises
    ------
    ValueError
        If there is not one for each passage, or two are the same.

    Examples
    --------
    >>> check_ids(None, 2), check_ids(["a", "b"], 2)
    (('0', '1'), ('a', 'b'))
    """
    names = tuple(map(str, range(n) if ids is None else ids))
    if len(names) != n:
        raise ValueError(f"ids holds {len(names)} names for {n} passages; give one for each.")
    if len(set(names)) < n:
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"ids names {twice!r} twice; give each passage a name of its own.")
    return names


@checked
def token_ids(
    tokenizer: Any, texts: Sequence[str], *, start: bool | int = False
) -> list[list[int]]:
    """Token ids of each text, without padding and without end tokens.

    Parameters
    ----------
    tokenizer
        With ``encode``, of Hugging Face or any other.
    texts : sequence of str
    start : bool or int
        Put the tokenizer's start token (BOS), or this token, before each text: as the model saw its
        documents begin in training.

    Returns
    -------
    list of lists of int
        As :func:`extract` takes them; no pad token is needed.

    Raises
    ------
    TypeError
        If the tokenizer can't encode.
    ValueError
        If it has no start token and one is asked for, or a text has no tokens.

    Examples
    --------
    >>> class Letters:
    ...     def encode(self, text): return [ord(letter) - 97 for letter in text]
    ...     def decode(self, ids): return "".join(chr(97 + token) for token in ids)
    >>> token_ids(Letters(), ["abc", "de"], start=26)
    [[26, 0, 1, 2], [26, 3, 4]]
    """
    if tokenizer is None:
        raise TypeError("tokenizer is None; give an object with encode(text) and decode(ids).")
    task = Language(1, 1, tokenizer=tokenizer)
    first: list[int] = []
    if start is True:
        bos = getattr(tokenizer, "bos_token_id", None)
        if bos is None:
            raise ValueError(
                "the tokenizer has no start token (BOS); leave start out, or give a token's id."
            )
        first = [int(bos)]
    elif start is not False:
        first = [start]
    ids = [task.encode(text) for text in texts]
    for number, tokens in enumerate(ids):
        if not tokens:
            raise ValueError(f"text {number} has no tokens; leave it out.")
    return [first + tokens for tokens in ids]
