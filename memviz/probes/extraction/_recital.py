"""One passage, token by token: what a model says, how sure it is, and from which prompt on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from memviz.checks import Count, Seed, checked, described
from memviz.models.causal import Causal
from memviz.statistics import generator_of

from ._passages import as_passages
from ._sampling import sampled_from


@dataclass(frozen=True, eq=False)
class Recital:
    """What a model says after a prompt, beside the true continuation.

    Attributes
    ----------
    prompt : int64 ``[m]``
    true, said : int64 ``[n]``
        The passage's continuation, and what was said in its place.
    logits : float ``[n, vocabulary]``
        Of each token said, given the prompt and what was said before it.
    """

    prompt: Tensor
    true: Tensor
    said: Tensor
    logits: Tensor

    @property
    def matches(self) -> Tensor:
        """Whether each token is the true one at its place, bool ``[n]``."""
        return self.said == self.true

    @property
    def matched(self) -> int:
        """Tokens said before the first wrong one."""
        return int(self.matches.long().cumprod(0).sum())

    @property
    def whole(self) -> bool:
        """Whether the whole continuation is recited."""
        return bool(self.matches.all())

    def probabilities(self, tokens: Any) -> Tensor:
        """The chance of some tokens at each place, float64 like ``tokens``, ``[n]`` or ``[n, k]``.

        After the first wrong token the model reads its own words, not the passage.
        """
        ids = torch.as_tensor(tokens).long()
        shares = self.logits.double().softmax(-1)
        return shares.gather(1, ids.view(len(shares), -1)).view(ids.shape)

    @property
    def ranks(self) -> Tensor:
        """The place of the true token among all by falling logit, 1 the first, int64 ``[n]``.

        Of equal logits those of smaller ids come first, as in greedy decoding.
        """
        own = self.logits.gather(1, self.true[:, None])
        before = torch.arange(self.logits.shape[1]) < self.true[:, None]
        ahead = (self.logits > own) | ((self.logits == own) & before)
        return ahead.sum(1) + 1

    def __repr__(self) -> str:
        n = len(self.true)
        end = "whole" if self.whole else f"first wrong at token {self.matched + 1}"
        return f"Recital(prompt {len(self.prompt)}, {end} of {n})"


@checked
def recite(
    model: nn.Module,
    prompt: Any,
    true: Any,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: Seed | None = None,
) -> Recital:
    """Let a model speak freely after a prompt, and set what it says beside the true continuation.

    Parameters
    ----------
    model : nn.Module
        A causal language model in eval mode.
    prompt, true : sequences of int
        Token ids; as many tokens are said as ``true`` has.
    temperature, top_k : float, int
        Of sampling, as for :func:`sampling_probabilities`.
    seed : int, optional
        Sample with this seed; greedy without one.

    Returns
    -------
    Recital

    Raises
    ------
    TypeError
        If ``model`` is no module.
    ValueError
        In train mode, or if a token is outside the model's vocabulary.

    Examples
    --------
    >>> successor = nn.Embedding.from_pretrained(torch.eye(5).roll(1, 1)).eval()
    >>> recite(successor, [0, 1], [2, 3, 0])
    Recital(prompt 2, first wrong at token 3 of 3)
    """
    causal = Causal(model)
    start, truth = _ids("prompt", prompt), _ids("true", true)
    tokens = as_passages([[*start, *truth]], len(start), len(truth))
    given, wanted = tokens[:, : len(start)], tokens[0, len(start) :]
    if seed is None:
        said = causal.greedy(given, len(truth), draft=wanted[None])[0]
    else:
        said = _sampled(causal, given, len(truth), temperature, top_k, seed)
    spoken = torch.cat([given[0], said])[None, :-1]
    logits = causal.logits(spoken)[0, len(start) - 1 :].float().cpu()
    if int(wanted.max()) >= logits.shape[1]:
        raise ValueError(
            f"the passage holds token {int(wanted.max())}, and the model's vocabulary has "
            f"{logits.shape[1]:,} tokens; use the model's own tokenizer."
        )
    return Recital(given[0], wanted, said, logits)


def _sampled(
    causal: Causal, prompt: Tensor, count: int, temperature: float, top_k: int | None, seed: int
) -> Tensor:
    generator, tokens = generator_of(seed), prompt
    for _ in range(count):
        shares = sampled_from(causal.logits(tokens)[:, -1], temperature, top_k).softmax(-1)
        drawn = torch.multinomial(shares.cpu(), 1, generator=generator)
        tokens = torch.cat([tokens, drawn], 1)
    return tokens[0, prompt.shape[1] :]


@checked
def predicted_by_prompt(
    model: nn.Module,
    passage: Any,
    prompt: Count,
    continuation: Count,
    lengths: Sequence[int] | None = None,
) -> Tensor:
    """The first choice for each token of a continuation, after prompts of different lengths.

    The continuation stays the same, and the prompt is what stands right before it: ever more of the
    passage is given (Carlini et al. 2023, section 4.3). Each choice is made after the true tokens,
    in one pass per length; up to the first wrong one, it is what greedy decoding says.

    Parameters
    ----------
    model : nn.Module
        A causal language model in eval mode.
    passage : sequence of int
        Token ids of one passage.
    prompt, continuation : int
        The longest prompt, and the continuation after it.
    lengths : sequence of int, optional
        Lengths of the prompt, 1 to ``prompt`` by default.

    Returns
    -------
    int64 ``[lengths, continuation]``

    Raises
    ------
    TypeError, ValueError
        As for :func:`extract`, or if a length is not between 1 and ``prompt``.

    Examples
    --------
    >>> successor = nn.Embedding.from_pretrained(torch.eye(5).roll(1, 1)).eval()
    >>> predicted_by_prompt(successor, [4, 0, 1, 2, 4], 2, 3)
    tensor([[1, 2, 3],
            [1, 2, 3]])
    """
    causal = Causal(model)
    tokens = as_passages([_ids("passage", passage)], prompt, continuation)
    wanted = range(1, prompt + 1) if lengths is None else list(lengths)
    outside = [length for length in wanted if not 1 <= length <= prompt]
    if outside or not len(wanted):
        given = outside[0] if outside else "empty"
        raise ValueError(f"lengths holds {given}; give lengths of 1 to {prompt} tokens.")
    found = []
    for length in wanted:
        logits = causal.logits(tokens[:, prompt - length : -1])[0, length - 1 :]
        found.append(logits.argmax(-1).cpu())
    return torch.stack(found)


@checked
def matched_by_prompt(
    model: nn.Module,
    passage: Any,
    prompt: Count,
    continuation: Count,
    lengths: Sequence[int] | None = None,
) -> np.ndarray:
    """Tokens recited before the first wrong one, from prompts of different lengths.

    One pass per length decides, as in :func:`predicted_by_prompt`.

    Parameters
    ----------
    model, passage, prompt, continuation, lengths
        As for :func:`predicted_by_prompt`.

    Returns
    -------
    int64 ``[lengths]``

    Raises
    ------
    TypeError, ValueError
        As for :func:`predicted_by_prompt`.

    Examples
    --------
    >>> successor = nn.Embedding.from_pretrained(torch.eye(5).roll(1, 1)).eval()
    >>> matched_by_prompt(successor, [4, 0, 1, 2, 4], 2, 3)
    array([2, 2])
    """
    predicted = predicted_by_prompt(model, passage, prompt, continuation, lengths)
    wanted = _ids("passage", passage)[prompt : prompt + continuation]
    right = predicted == torch.as_tensor(wanted)
    return right.long().cumprod(1).sum(1).numpy()


def _ids(what: str, tokens: Any) -> list[Any]:
    ids = tokens.tolist() if hasattr(tokens, "tolist") else tokens
    if not isinstance(ids, Sequence) or isinstance(ids, str | bytes):
        raise TypeError(f"{what} is {described(tokens)}; give the ids of its tokens, int [tokens].")
    return list(ids)
