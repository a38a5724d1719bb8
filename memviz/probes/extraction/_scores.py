"""The memorization score: how much of a training passage greedy decoding gives back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
from torch import Tensor, nn

from memviz import tensor_files
from memviz.checks import Between, Count, check_file, check_place, checked
from memviz.models.causal import Causal
from memviz.progress import slow
from memviz.scores import Scores
from memviz.tasks import Language

from ._passages import as_passages, check_ids

if TYPE_CHECKING:
    import pandas as pd

_KIND = "extraction"
SOURCE = "Biderman et al. 2023, section 2"


@checked
def constant_rate(rate: float, continuation: Annotated[int, Between(1, 1000)]) -> np.ndarray:
    """The chance of each score, 0 to ``continuation`` matches, at a constant rate per token.

    Independent tokens give a binomial distribution: a score of 1 has ``rate ** continuation``.
    The spike at 1 over this curve is what a constant rate cannot explain (Biderman et al. 2023,
    figure 2).

    Returns
    -------
    float64 ``[continuation + 1]``

    Raises
    ------
    ValueError
        If the rate is outside 0 to 1, or there is no token.

    Examples
    --------
    >>> constant_rate(0.9, 32)[-2:].round(3)
    array([0.122, 0.034])
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"rate is {rate!r}; give a probability from 0 to 1.")
    if continuation < 1:
        raise ValueError(f"continuation is {continuation!r}; give 1 token or more.")
    counts = range(continuation + 1)
    return np.array(
        [comb(continuation, k) * rate**k * (1 - rate) ** (continuation - k) for k in counts]
    )


@dataclass(frozen=True, eq=False)
class Extraction:
    """What a model says after the prompts of some passages.

    Attributes
    ----------
    ids : tuple of str
        The passages' names.
    passages : int64 ``[n, prompt + continuation]``
    said : int64 ``[n, continuation]``
        Greedy continuations, decoded freely.
    prompt, continuation : int
    """

    ids: tuple[str, ...]
    passages: Tensor
    said: Tensor
    prompt: int
    continuation: int

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def matches(self) -> Tensor:
        """Whether each token said is the true one at its place, bool ``[n, continuation]``."""
        return self.said == self.passages[:, self.prompt :]

    @property
    def scores(self) -> np.ndarray:
        """The memorization score of each passage: its share of matches, float64 ``[n]``."""
        return self.matches.double().mean(1).numpy()

    @property
    def memorized(self) -> np.ndarray:
        """Whether a passage is ``prompt``-extractible, its score exactly 1, bool ``[n]``."""
        return self.matches.all(1).numpy()

    @property
    def matched(self) -> np.ndarray:
        """Tokens that match before the first error, int64 ``[n]`` (Stoehr et al. 2024)."""
        return self.matches.long().cumprod(1).sum(1).numpy()

    @property
    def constant_rate(self) -> np.ndarray:
        """The null: the share of each score if every token matched at the same rate.

        float64 ``[continuation + 1]``, for 0 to all tokens; the rate is the mean score.
        """
        return constant_rate(float(self.matches.double().mean()), self.continuation)

    @property
    def spike(self) -> float:
        """The share of memorized passages beyond what the constant rate gives."""
        return float(self.memorized.mean() - self.constant_rate[-1])

    @property
    def definition(self) -> str:
        """What was measured, in one line."""
        return (
            f"share of {self.continuation} tokens that greedy decoding gives back after a prompt "
            f"of {self.prompt}"
        )

    def table(self) -> pd.DataFrame:
        """One row per passage: its name, score, whether it is memorized, and tokens matched."""
        import pandas as pd

        columns = {"score": self.scores, "memorized": self.memorized, "matched": self.matched}
        return pd.DataFrame({"id": self.ids, **columns})

    def as_scores(self, held_out: Extraction | None = None) -> Scores:
        """The scores over examples, with their null in words.

        ``held_out`` are passages that the model has never seen: their mean is the base rate.
        """
        base = "" if held_out is None else f"; held-out passages {held_out.scores.mean():.3f}"
        null = (
            f"; {self.memorized.mean():.1%} at 1, by a constant rate {self.constant_rate[-1]:.1%}"
        )
        return Scores(
            name="memorization score",
            measure=self.definition + base + null,
            values=self.scores,
            examples=np.arange(len(self)),
            source=SOURCE,
        )

    def save(self, path: str | Path) -> None:
        """Write a file that :meth:`load` reads; a reader sees the whole file or none.

        Raises
        ------
        OSError
            If it can't be written.
        """
        check_place(path)
        write_extraction(self, Path(path), {})

    @classmethod
    def load(cls, path: str | Path) -> Extraction:
        """Read what :meth:`save` wrote.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is damaged, altered, or holds something else.
        """
        check_file(path)
        return read_extraction(Path(path))[0]

    def __repr__(self) -> str:
        share = self.memorized.mean()
        return (
            f"Extraction({len(self):,} passages, prompt {self.prompt}, continuation "
            f"{self.continuation}: {int(self.memorized.sum()):,} memorized ({share:.1%}), mean "
            f"score {self.scores.mean():.3f})"
        )


def write_extraction(extraction: Extraction, path: Path, facts: Mapping[str, str]) -> None:
    """Write an extraction with further facts."""
    sizes = {"prompt": str(extraction.prompt), "continuation": str(extraction.continuation)}
    names = {"ids": json.dumps(extraction.ids)}
    # Token ids of every vocabulary there is fit.
    tensors = {"passages": extraction.passages.int(), "said": extraction.said.int()}
    tensor_files.write_hashed(path, tensors, {"kind": _KIND, **sizes, **names, **facts})


def read_extraction(path: Path) -> tuple[Extraction, dict[str, str]]:
    """An extraction and all facts of its file."""
    tensors, facts = tensor_files.read_hashed(path, _KIND)
    passages, said = tensors["passages"].long(), tensors["said"].long()
    sizes = int(facts["prompt"]), int(facts["continuation"])
    return Extraction(tuple(json.loads(facts["ids"])), passages, said, *sizes), facts


@checked
def extract(
    model: nn.Module,
    passages: Any,
    prompt: int = 32,
    continuation: int = 32,
    *,
    ids: Sequence[Any] | None = None,
    batch_size: Count = 64,
    progress: bool = True,
) -> Extraction:
    """Prompt a model with the start of each passage and compare what it says with the rest.

    ``score(M, N)`` is the share of the N continuation tokens at which the free-running greedy
    continuation of the true first M tokens equals the passage: position by position, no longest
    common prefix or edit distance. An end-of-text token does not stop it. A score of 1 is called
    memorized, or M-extractible (Biderman et al. 2023, section 2).

    Parameters
    ----------
    model : nn.Module
        A causal language model in eval mode, of Hugging Face or any other.
    passages : int ``[n, tokens]``, list of lists of int, or what a tokenizer returned
        Token ids from the start of each training passage; tokens after the first M + N are unused.
        Padding is left out where there is an ``attention_mask``.
    prompt, continuation : int
        M and N.
    ids : sequence, optional
        A name for each passage, by default its row; they travel with every table.
    batch_size : int
        Passages decoded together; the answers do not depend on it.
    progress : bool

    Returns
    -------
    Extraction

    Raises
    ------
    TypeError
        If ``model`` is no module.
    ValueError
        In train mode, or if a passage is shorter than M + N, is all padding, or holds a token that
        is not in the model's vocabulary.

    Examples
    --------
    >>> successor = nn.Embedding.from_pretrained(torch.eye(5).roll(1, 1)).eval()
    >>> extract(successor, [[0, 1, 2, 3], [0, 1, 2, 4]], prompt=2, continuation=2).scores
    array([1. , 0.5])
    """
    causal = Causal(model)
    tokens = as_passages(passages, prompt, continuation)
    names = check_ids(ids, len(tokens))
    said = []
    for batch in slow(tokens.split(batch_size), "decoding", progress=progress):
        said.append(causal.greedy(batch[:, :prompt], continuation))
        causal.check_ids(batch)
    return Extraction(names, tokens, torch.cat(said), prompt, continuation)


@dataclass(frozen=True, eq=False)
class TeacherForced:
    """What one pass over whole passages says of their continuations.

    Attributes
    ----------
    margins : float ``[n]``
        The least logit of a true token minus the largest other; above 0 exactly where greedy
        decoding recites the whole continuation.
    correct : bool ``[n, continuation]``
        Whether each true token is the first choice after the true ones. Its mean is the
        memorization accuracy of Chang et al. 2024, not the score: after an error a free-running
        continuation leaves the passage.
    log_likelihoods : float ``[n, continuation]``
        Of each true token after the true ones, in nats.
    """

    margins: Tensor
    correct: Tensor
    log_likelihoods: Tensor

    @property
    def memorized(self) -> np.ndarray:
        """Whether greedy decoding recites the continuation, bool ``[n]``."""
        return (self.margins > 0).numpy()


@checked
def teacher_forced(
    model: nn.Module,
    passages: Any,
    prompt: int = 32,
    continuation: int = 32,
    *,
    batch_size: Count = 64,
    progress: bool = True,
) -> TeacherForced:
    """One forward pass per passage decides whether it is memorized: no decoding is needed.

    If every true token is the most likely one after the true tokens before it, greedy decoding
    makes the same choices one by one, and the other way round.

    Parameters
    ----------
    model, passages, prompt, continuation, batch_size, progress
        As for :func:`extract`.

    Returns
    -------
    TeacherForced

    Raises
    ------
    TypeError, ValueError
        As for :func:`extract`.

    Examples
    --------
    >>> successor = nn.Embedding.from_pretrained(torch.eye(5).roll(1, 1)).eval()
    >>> teacher_forced(successor, [[0, 1, 2, 3], [0, 1, 2, 4]], 2, 2).memorized
    array([ True, False])
    """
    causal = Causal(model)
    tokens = as_passages(passages, prompt, continuation)
    task, parts = Language(prompt, continuation), []
    for batch in slow(tokens.split(batch_size), "reading", progress=progress):
        logits = task.outputs(causal.logits(batch[:, :-1]))
        true = batch[:, prompt:].to(logits.device)
        parts.append(
            (
                task.margin(logits, true).cpu(),
                (task.predictions(logits) == true).cpu(),
                task.log_likelihoods(logits, true).cpu(),
            )
        )
    return TeacherForced(*(torch.cat(part) for part in zip(*parts, strict=True)))
