"""The passages of a study: their tokens and words, which were held out, and how they are sorted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memviz.checks import quoted
from memviz.scores import Scores
from memviz.study import Study
from memviz.tasks import Language
from memviz.units import Layer

LISTED = 200  # passages listed at first, and added by each request for more
_LINE = 60  # characters of a passage in the list
_SEARCHED = 4000


class Passages:
    """What the explorer reads of a study once.

    Parameters
    ----------
    study : Study
        Its task is Language.
    held_out : str, optional
        The group that was not in training; the last of several groups by default.
    copies : sequence of int, optional
        How often each passage was in training.
    scores : dict of key to Scores over examples
        What else the list can be sorted by.

    Attributes
    ----------
    task : Language
    tokens : int64 ``[n, prompt + continuation]``
    trained, held_out : int64 ``[...]``
        Rows of the passages of all other groups, and of those held out.
    copies : int64 ``[n]`` or None

    Raises
    ------
    TypeError
        If the study is not of passages.
    ValueError
        If passages are padded, the labels are not their continuations, or there is no such group.
    """

    def __init__(
        self,
        study: Study,
        held_out: str | None = None,
        copies: Sequence[int] | np.ndarray | Tensor | None = None,
        scores: Mapping[str, Scores] | None = None,
    ) -> None:
        if not isinstance(study.task, Language):
            raise TypeError(
                f"the task of {study.name!r} is {type(study.task).__name__}; the extraction "
                "explorer needs a study of passages: mv.Study(model, tokens, continuations, "
                "groups, task=mv.tasks.Language(prompt, continuation))."
            )
        self.study, self.task = study, study.task
        self.tokens = _tokens(study, self.task)
        names = list(study.groups)
        if held_out is None:
            self.group = names[-1] if len(names) > 1 else ""
        else:
            study.group(held_out)
            self.group = held_out
        self.held_out = study.group(self.group) if self.group else torch.arange(0)
        rest = [study.group(name) for name in names if name != self.group]
        self.trained = torch.cat(rest).sort().values if rest else self.held_out
        self.copies = _copies(copies, len(study))
        self.scores = dict(scores or {})
        self._texts: list[str] | None = None

    @property
    def sorts(self) -> dict[str, str]:
        """What the list can be sorted by."""
        known = {"copies": "most copies first"} if self.copies is not None else {}
        known |= {"recited": "recited first", "longest": "longest first"}
        known |= {"change": "largest change first", "chance": "most likely first"}
        return known | {f"score {key}": given.name for key, given in self.scores.items()}

    def prompt(self, row: int) -> list[int]:
        """Token ids of a passage's prompt."""
        return list(self.tokens[row, : self.task.prompt].tolist())

    def true(self, row: int) -> list[int]:
        """Token ids of a passage's continuation."""
        return list(self.tokens[row, self.task.prompt :].tolist())

    def words(self, ids: Sequence[int], after: Sequence[int] = ()) -> list[str]:
        """The text of each token, as it stands after others."""
        every = [*after, *ids]
        if self.task.tokenizer is None and self.study.class_names is not None:
            return [self.study.class_name(token) for token in ids]
        try:
            return self.task.words(every)[len(after) :]
        except Exception:  # a vocabulary may have more tokens than its tokenizer knows
            return [self._word(token) for token in ids]

    def _word(self, token: int) -> str:
        try:
            return self.task.text([token])
        except Exception:
            return f"⟨{token}⟩"

    def text(self, ids: Sequence[int]) -> str:
        """The text of some tokens together."""
        if self.task.tokenizer is None:
            return " ".join(self.words(ids))
        try:
            return self.task.text(ids)
        except Exception:
            return "".join(self._word(token) for token in ids)

    @property
    def texts(self) -> list[str]:
        """The text of every passage."""
        if self._texts is None:
            self._texts = [self.text(row) for row in self.tokens.tolist()]
        return self._texts

    def listed(
        self, sort: str, find: str, keys: Mapping[str, np.ndarray]
    ) -> tuple[list[int], np.ndarray]:
        """Rows in the order of a sort, those alone that have all words of ``find``, and its values.

        Parameters
        ----------
        keys : values by sort, ``[n]``
            Of the sorts that depend on the model.
        """
        if sort == "copies":
            assert self.copies is not None
            values = self.copies.astype(float)
        elif sort.startswith("score "):
            values = _of_examples(self.scores[sort.removeprefix("score ")], len(self.study))
        else:
            values = np.asarray(keys[sort], dtype=float)
        order = np.argsort(-np.nan_to_num(values, nan=-np.inf), kind="stable")
        words = find.casefold().split()
        rows = [int(row) for row in order]
        if words:
            rows = [row for row in rows if all(w in self.texts[row].casefold() for w in words)]
        return rows, values

    def entry(self, row: int) -> dict[str, Any]:
        """A passage in the list."""
        text = " ".join(self.texts[row].split())
        content: dict[str, Any] = {"row": row, "text": text[:_SEARCHED], "line": text[:_LINE]}
        content["held"] = bool(self.group) and bool((self.held_out == row).any())
        if self.copies is not None:
            content["copies"] = int(self.copies[row])
        return content


def heads_and_neurons(layers: Sequence[Layer]) -> list[Layer]:
    """Attention heads, and the neurons between the two or three linear maps of each MLP.

    Without heads, all layers. Projections inside an attention or a gated MLP are left out, and so
    is the last linear layer of each block: its units are the width of the residual stream.

    Examples
    --------
    >>> names = [("h.attn", "heads"), ("h.attn.qkv", "linear"), ("h.up", "linear")]
    >>> layers = [Layer(name, kind, 8, "") for name, kind in [*names, ("h.down", "linear")]]
    >>> [layer.name for layer in heads_and_neurons(layers)]
    ['h.attn', 'h.up']
    """
    whole = [layer.name for layer in layers if layer.kind in ("heads", "neurons", "experts")]
    if not any(layer.kind == "heads" for layer in layers):
        return list(layers)
    plain = [
        layer
        for layer in layers
        if layer.is_plain and not any(layer.name.startswith(f"{name}.") for name in whole)
    ]
    last = {layer.name.rpartition(".")[0]: layer.name for layer in plain}
    inner = {layer.name for layer in plain} - set(last.values())
    return [layer for layer in layers if layer.name in whole or layer.name in inner]


def _tokens(study: Study, task: Language) -> Tensor:
    inputs, needed = study.whole_inputs(), task.prompt + task.continuation
    if isinstance(inputs, Mapping):
        mask = inputs.get("attention_mask")
        if mask is not None and not bool((mask[:, :needed] != 0).all()):
            raise ValueError(
                "some passages are padded, and the extraction explorer prompts with whole ones; "
                "give passages of the same number of tokens."
            )
        tokens = inputs.get("input_ids")
    else:
        tokens = inputs
    if not isinstance(tokens, Tensor) or tokens.dim() != 2 or tokens.is_floating_point():
        raise ValueError(
            "the study's inputs are no token ids; give passages, int64 [passages, tokens], alone "
            "or as input_ids."
        )
    if tokens.shape[1] < needed:
        raise ValueError(
            f"the passages have {tokens.shape[1]} tokens, and {task!r} takes {needed}; give longer "
            "ones."
        )
    cut = tokens[:, :needed].long().cpu()
    if not torch.equal(cut[:, task.prompt :], study.labels):
        raise ValueError(
            "the labels are not the passages' own continuations; give labels="
            f"passages[:, {task.prompt}:{needed}]."
        )
    return cut


def _copies(copies: Any, n: int) -> np.ndarray | None:
    if copies is None:
        return None
    numbers = np.asarray(copies.cpu() if isinstance(copies, Tensor) else copies)
    if numbers.shape != (n,) or not np.issubdtype(numbers.dtype, np.integer):
        raise ValueError(
            f"copies is {quoted(copies, 60)}; give a whole number for each of the {n:,} passages, "
            "how often it was in training."
        )
    return numbers.astype(np.int64)


def _of_examples(scores: Scores, n: int) -> np.ndarray:
    values = np.full(n, np.nan)
    assert scores.examples is not None
    values[np.asarray(scores.examples)] = scores.values
    return values
