"""A causal language model: its logits, and the tokens it says after a prompt."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from memviz.study import check_ready, twin

# Of the largest logit: a batch of another size rounds differently, and a tie may fall otherwise.
_ROUNDING = 1e-5
_ROUNDING_16_BIT = 2e-2


class Causal:
    """A model that maps token ids to logits, run without gradients.

    Parameters
    ----------
    model : nn.Module
        Of Hugging Face, or any that is called with ``input_ids`` ``[n, tokens]`` and returns logits
        ``[n, tokens, vocabulary]``, alone, first in a tuple, or as ``.logits``. A cache is used
        where it takes ``use_cache``, and ``past_key_values`` or ``cache``.

    Raises
    ------
    TypeError
        If it is no module.
    ValueError
        In train mode.

    Examples
    --------
    >>> successor = nn.Embedding.from_pretrained(torch.eye(5).roll(1, 1)).eval()
    >>> Causal(successor).greedy(torch.tensor([[0, 1]]), 4)
    tensor([[2, 3, 4, 0]])
    """

    def __init__(self, model: nn.Module) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(
                f"model is {type(model).__name__}; give a causal language model, a torch.nn.Module."
            )
        check_ready(model)
        self.model = twin(model)
        self.device = next((p.device for p in model.parameters()), torch.device("cpu"))
        try:
            taken = inspect.signature(model.forward).parameters
        except (TypeError, ValueError):
            taken = {}  # type: ignore[assignment]
        self._takes = set(taken)
        # Hugging Face's own name has changed.
        names = [name for name in ("past_key_values", "cache") if name in self._takes]
        self._cache = names[0] if names and "use_cache" in self._takes else None
        self._vocabulary = 0  # of the last logits

    @torch.no_grad()
    def logits(self, tokens: Tensor) -> Tensor:
        """Logits of the token after each token, ``[n, tokens, vocabulary]``, on the device."""
        logits = self._read(self._call(tokens.to(self.device), {}), tokens)
        self.check_ids(tokens)
        return logits

    @torch.no_grad()
    def greedy(self, prompts: Tensor, count: int, *, draft: Tensor | None = None) -> Tensor:
        """The tokens said after each prompt, the most likely one each time, int64 ``[n, count]``.

        Of one prompt, ``draft`` ``[1, count]`` may be what it is thought to say: one pass tells how
        much of that is right, and only the rest is decoded. What is said is the same.

        Where two logits are so close that rounding decides, the token is chosen by the prompt and
        what follows it alone, without a cache: what is said never depends on the other prompts of
        the batch.
        """
        prompts = prompts.to(self.device)
        said = prompts[:, :0]
        if draft is not None:
            said = draft[:, : self._agreed(prompts, draft)].to(self.device)
        if said.shape[1] < count:
            start = torch.cat([prompts, said], 1)
            said = torch.cat([said, self._decode(start, count - said.shape[1])], 1)
        return said.cpu()

    def check_ids(self, tokens: Tensor) -> None:
        """Refuse token ids for which the last logits have no entry.

        Raises
        ------
        ValueError
            If the tokens are of another vocabulary than the model's.
        """
        if int(tokens.max()) >= self._vocabulary:
            raise ValueError(_other_vocabulary(int(tokens.max()), self._vocabulary))

    def _agreed(self, prompt: Tensor, draft: Tensor) -> int:
        """How many tokens of a draft are the model's own, before the first that is not surely."""
        given = torch.cat([prompt, draft[:, :-1].to(self.device)], 1)
        logits = self._read(self._call(given, {}), given)[0, prompt.shape[1] - 1 :]
        first, close = _chosen(logits)
        right = (first[:, 0].cpu() == draft[0].cpu()) & ~close.cpu()
        return int(right.long().cumprod(0).sum())

    def _decode(self, prompts: Tensor, count: int) -> Tensor:
        tokens, given, past, name = prompts, prompts, None, self._cache
        for step in range(count):
            options = {} if name is None else {"use_cache": True, name: past}
            raw = self._call(given, options, last=True)
            first, close = _chosen(self._read(raw, given, last=True)[:, -1])
            for row in close.nonzero()[:, 0].tolist() if name or len(tokens) > 1 else ():
                alone = tokens[row : row + 1]
                logits = self._read(self._call(alone, {}, last=True), alone, last=True)
                first[row] = logits[0, -1].argmax()
            tokens = torch.cat([tokens, first], 1)
            if name is not None and step + 1 < count:
                past = _cache_of(raw)
                name = name if past is not None else None
            given = tokens if name is None else first
        return tokens[:, prompts.shape[1] :]

    def _call(self, tokens: Tensor, options: dict[str, Any], *, last: bool = False) -> Any:
        if last and "logits_to_keep" in self._takes:
            options = {**options, "logits_to_keep": 1}
        if not options and "use_cache" in self._takes:
            options = {"use_cache": False}
        # Before the call: on a GPU an id without an embedding leaves the device unusable.
        known = getattr(self.model, "get_input_embeddings", lambda: None)()
        size = getattr(known, "num_embeddings", None)
        if size is not None and tokens.shape[1] > 1 and int(tokens.max()) >= size:
            raise ValueError(_other_vocabulary(int(tokens.max()), size))
        try:
            return self.model(tokens, **options)
        except IndexError as error:
            if "out of range in self" not in str(error):  # torch's words for a missing embedding
                raise
            raise ValueError(
                f"the model has no embedding for one of {tokens.shape[1]} tokens with ids up to "
                f"{int(tokens.max()):,}; give shorter passages, or ids of its own tokenizer."
            ) from error

    def _read(self, raw: Any, tokens: Tensor, *, last: bool = False) -> Tensor:
        logits = raw
        if isinstance(raw, Mapping):
            logits = raw.get("logits")
        elif not isinstance(raw, Tensor):
            logits = getattr(raw, "logits", raw[0] if isinstance(raw, tuple | list) else None)
        wrong = not isinstance(logits, Tensor) or logits.dim() != 3
        if wrong or len(logits) != len(tokens) or (not last and logits.shape[1] != tokens.shape[1]):
            given = tuple(logits.shape) if isinstance(logits, Tensor) else type(raw).__name__
            raise ValueError(
                f"the model returned {given} for token ids {tuple(tokens.shape)}; it must return "
                "logits [passages, tokens, vocabulary]: give a causal language model."
            )
        checked: Tensor = logits
        self._vocabulary = checked.shape[-1]
        return checked


def _chosen(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The largest logit's token ``[n, 1]``, and whether rounding may have decided, ``[n]``."""
    share = _ROUNDING if logits.dtype in (torch.float32, torch.float64) else _ROUNDING_16_BIT
    largest, first = logits.max(-1, keepdim=True)
    size = torch.maximum(largest.abs(), logits.amin(-1, keepdim=True).abs()).float()
    return first, (logits >= largest.float() - share * size).sum(-1) > 1


def _other_vocabulary(token: int, size: int) -> str:
    return (
        f"the passages hold token {token:,}, and the model's vocabulary has {size:,} tokens, 0 to "
        f"{size - 1:,}; use the model's own tokenizer."
    )


def _cache_of(raw: Any) -> Any:
    for name in ("cache", "past_key_values"):
        kept = raw.get(name) if isinstance(raw, Mapping) else getattr(raw, name, None)
        if kept is not None:
            return kept
    return None
