"""Language: whether the continuation of a passage is recited, token by token."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from memviz.checks import as_numbers, described, quoted

from ._judged import Judged, at_least_single, check_judged, right_is_positive
from ._pick import Which

_HALF = "\ufffd"  # what a decoder writes for a character of which some bytes are missing


class Tokenizer(Protocol):
    """What turns text into token ids and back; those of Hugging Face fit."""

    def encode(self, text: str) -> list[int]:
        """Token ids of a text."""

    def decode(self, ids: list[int]) -> str:
        """The text of token ids."""


class Language(Judged):
    """The continuation of each passage: right if greedy decoding recites all of it.

    The model is called with whole passages, prompt and continuation, and returns logits
    ``[n, tokens, vocabulary]``. Labels are the continuations, int64 ``[n, continuation]``. The
    margin is the least, over positions, of the true token's logit minus the largest other one: if
    every token is the model's first choice after the true ones before it, greedy decoding from the
    prompt alone makes the same choices, by induction (Biderman et al. 2023, section 2: memorized
    means a score of 1). The loss is the mean negative log-likelihood in nats per token.

    Parameters
    ----------
    prompt, continuation : int
        Tokens of each; the first prompt token may be padding or a start token.
    outputs : str, int or callable, optional
        Where the logits are in what the model returns, as in
        :class:`~memviz.tasks.Classification`.
    tokenizer : object with ``encode`` and ``decode``, optional
        Lets views show words in place of token ids; nothing that is computed depends on it. Those
        of Hugging Face fit.

    Raises
    ------
    TypeError
        If the tokenizer can't encode or decode.
    ValueError
        If there are no tokens.

    Examples
    --------
    >>> logits = torch.zeros(1, 4, 5)
    >>> logits[0, 1, 3] = logits[0, 2, 4] = 2.0  # after two tokens, 3 and then 4
    >>> task = Language(prompt=2, continuation=2)
    >>> task.predictions(task.outputs(logits))
    tensor([[3, 4]])
    >>> task.margin(task.outputs(logits), torch.tensor([[3, 4]]))
    tensor([2.])
    """

    # Not among the attributes, which are what results depend on.
    __slots__ = ("tokenizer",)

    margin_unit, loss_unit = "logits", "nats per token"
    right_word = "recited"

    def __init__(
        self,
        prompt: int,
        continuation: int,
        *,
        outputs: Which | None = None,
        tokenizer: Tokenizer | None = None,
    ) -> None:
        super().__init__(outputs)
        self.prompt = tokens_of("prompt", prompt)
        self.continuation = tokens_of("continuation", continuation)
        _check_tokenizer(tokenizer)
        self.tokenizer = tokenizer

    def __repr__(self) -> str:
        given = "" if self.which is None else f", outputs={self.which!r}"
        if self.tokenizer is not None:
            given += f", tokenizer={type(self.tokenizer).__name__}"  # its own repr takes pages
        return f"Language(prompt={self.prompt}, continuation={self.continuation}{given})"

    def outputs(self, raw: Any) -> Tensor:
        """Logits of the continuation's tokens alone, ``[n, continuation, vocabulary]``.

        Raises
        ------
        ValueError
            If there are no floating-point logits, or too few positions.
        """
        logits = self.pick(raw)
        if not isinstance(logits, Tensor) or logits.dim() != 3 or not logits.is_floating_point():
            given = (
                f"{logits.dtype} of shape {tuple(logits.shape)}"
                if isinstance(logits, Tensor)
                else type(raw).__name__
            )
            raise ValueError(
                f"the model returned {given}, not logits [passages, tokens, vocabulary]; name "
                "them: task=mv.tasks.Language(prompt, continuation, outputs=...)."
            )
        first, last = self.prompt - 1, self.prompt + self.continuation - 1
        if logits.shape[1] < last:
            raise ValueError(
                f"the model returned logits of {logits.shape[1]} tokens; a prompt of {self.prompt} "
                f"and a continuation of {self.continuation} need passages of {last + 1} tokens."
            )
        return logits[:, first:last]

    def predictions(self, outputs: Tensor) -> Tensor:
        """The most likely token after the true ones, int64 ``[n, continuation]``.

        Raises
        ------
        TypeError, ValueError
            If the outputs are no logits.
        """
        _check_logits(outputs)
        return outputs.argmax(-1)

    def margin(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """The least logit of a true token minus the largest other, ``[n]``.

        Raises
        ------
        TypeError
            If one is no tensor of numbers.
        ValueError
            If the outputs are no logits, or the labels are of another length, no token ids, or
            name a token without a logit.
        """
        labels = _checked(outputs, labels)
        logits, true = at_least_single(outputs), labels[..., None]
        given = logits.gather(-1, true)[..., 0]
        others = logits.scatter(-1, true, -torch.inf).amax(-1)
        tied, right = given == others, given > others
        if tied.any():  # argmax takes ten times as long, and says which of two equal ones is first
            right[tied] = outputs[tied].argmax(-1) == labels[tied]
        gaps = torch.where(tied & given.isinf(), 0.0, given - others)
        return right_is_positive(gaps.amin(1), right.all(1))

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Negative log-likelihood in nats per token, mean over the continuation, ``[n]``."""
        return -self.log_likelihoods(outputs, labels).mean(1)

    def log_likelihoods(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Log-probability of each true token after the true ones, in nats, ``[n, continuation]``.

        Raises
        ------
        TypeError, ValueError
            As for the margin.
        """
        labels = _checked(outputs, labels)
        flat = at_least_single(outputs).flatten(0, 1)
        losses = nn.functional.cross_entropy(flat, labels.flatten(), reduction="none")
        return -losses.view(labels.shape)

    def check_labels(self, labels: Tensor, what: str) -> Tensor:
        """Labels as int64 ``[n, continuation]``.

        Raises
        ------
        ValueError
            If they are not token ids, one per position of the continuation.
        """
        labels = as_numbers(what, labels, f"give token ids, [n, {self.continuation}]")
        if labels.dim() != 2 or labels.shape[1] != self.continuation:
            raise ValueError(
                f"{what} has shape {tuple(labels.shape)}; {self!r} needs the continuation's token "
                f"ids, [n, {self.continuation}]: passages[:, {self.prompt}:"
                f"{self.prompt + self.continuation}]."
            )
        ids = labels.long()
        if (labels != ids).any() or (ids < 0).any():
            value = labels[(labels != ids) | (ids < 0)][0].item()
            raise ValueError(f"{what} holds {value:g}, which is no token id; give ids from 0 on.")
        return ids.cpu()

    def label_words(self, labels: Tensor, class_name: Callable[[int], str]) -> list[str]:
        """Each continuation as text, by the tokenizer or the names of its tokens.

        Examples
        --------
        >>> Language(2, 2).label_words(torch.tensor([[0, 1]]), ["to", " be"].__getitem__)
        ['to be']
        """
        if self.tokenizer is not None:
            return [self.text(row) for row in labels.tolist()]
        return ["".join(class_name(token) for token in row) for row in labels.tolist()]

    def words(self, ids: Sequence[int]) -> list[str]:
        """The text of each token, spaces included; joined, they are the text of them all.

        Special tokens are shown as the tokenizer writes them, and a character of several tokens
        stands with the last of them. Without a tokenizer, the numbers themselves.

        Examples
        --------
        >>> Language(1, 1).words([7, 12])
        ['7', '12']
        """
        if self.tokenizer is None:
            return [str(token) for token in ids]
        words, told = [], ""
        for end in range(1, len(ids) + 1):
            # Together: alone, a token may lose its space or be part of a character.
            text = self.text(ids[:end])
            whole = text if end == len(ids) else text.rstrip(_HALF)
            known = whole.startswith(told)
            words.append(whole[len(told) :] if known else self.text(ids[end - 1 : end]))
            told = whole
        return words

    def text(self, ids: Sequence[int]) -> str:
        """The text of some tokens; without a tokenizer, the numbers themselves.

        Examples
        --------
        >>> Language(1, 1).text([7, 12])
        '7 12'
        """
        if self.tokenizer is None:
            return " ".join(map(str, ids))
        return str(self.tokenizer.decode([int(token) for token in ids], **self._plainly()))

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without the start and end tokens that a tokenizer may add.

        Raises
        ------
        ValueError
            If the task has no tokenizer.
        """
        if self.tokenizer is None:
            raise ValueError(
                "this task has no tokenizer, so text can't be read; give one: "
                "mv.tasks.Language(prompt, continuation, tokenizer=...)."
            )
        encode = self.tokenizer.encode
        chosen = {"add_special_tokens": False} if _takes(encode, "add_special_tokens") else {}
        ids: Any = encode(text, **chosen)
        return [int(token) for token in getattr(ids, "ids", ids)]

    def _plainly(self) -> dict[str, bool]:
        """What keeps a tokenizer from leaving out special tokens and tidying spaces."""
        assert self.tokenizer is not None
        given = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
        return {key: no for key, no in given.items() if _takes(self.tokenizer.decode, key)}


def tokens_of(name: str, count: Any) -> int:
    """A number of tokens.

    Raises
    ------
    ValueError
        If it is not whole, or below 1.

    Examples
    --------
    >>> tokens_of("prompt", 32)
    32
    """
    if isinstance(count, bool) or not isinstance(count, Integral) or count < 1:
        raise ValueError(f"{name} is {quoted(count)}; give a number of tokens, 1 or more.")
    return int(count)


def _check_logits(outputs: Any) -> None:
    is_bool = isinstance(outputs, Tensor) and outputs.dtype == torch.bool
    if not isinstance(outputs, Tensor) or outputs.dim() != 3 or not outputs.shape[-1] or is_bool:
        raise ValueError(
            f"outputs is {described(outputs)}; give logits of the continuation's tokens, "
            "[n, continuation, vocabulary]."
        )


def _checked(outputs: Tensor, labels: Tensor) -> Tensor:
    """The labels as token ids that these logits know."""
    check_judged(outputs, labels)
    _check_logits(outputs)
    vocabulary = outputs.shape[-1]
    if labels.shape != outputs.shape[:-1]:
        raise ValueError(
            f"the labels have shape {tuple(labels.shape)} and the model's continuations "
            f"{tuple(outputs.shape[:-1])}; give one token id per position."
        )
    ids = labels.long()
    unknown = (ids != labels) | (ids < 0) | (ids >= vocabulary)
    if labels.dtype == torch.bool:  # a mask in place of ids
        unknown = torch.ones_like(labels)
    if unknown.any():
        outside = quoted(labels[unknown][0].item())
        raise ValueError(
            f"the labels hold token {outside}, and the model's vocabulary has {vocabulary:,} "
            f"tokens, 0 to {vocabulary - 1:,}; use the model's own tokenizer."
        )
    return ids


def _check_tokenizer(tokenizer: object) -> None:
    lacks = [name for name in ("encode", "decode") if not callable(getattr(tokenizer, name, None))]
    if isinstance(tokenizer, type) or (tokenizer is not None and lacks):
        raise TypeError(
            f"tokenizer is {quoted(tokenizer)}; give an object with encode(text) and decode(ids), "
            "such as transformers.AutoTokenizer.from_pretrained(...)."
        )


def _takes(method: Callable[..., Any], name: str) -> bool:
    """Whether a method has a parameter of this name, or takes any."""
    try:
        known = inspect.signature(method).parameters
    except (TypeError, ValueError):  # built in, without a signature
        return False
    return name in known or any(one.kind is one.VAR_KEYWORD for one in known.values())
