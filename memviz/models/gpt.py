"""A small decoder-only transformer whose heads and neurons are easy to name."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Cache = tuple[tuple[Tensor, Tensor], ...]


class GPTOutput(NamedTuple):
    """What a GPT returns when it keeps a cache.

    Attributes
    ----------
    logits : Tensor ``[n, tokens, vocabulary]``
    past_key_values : tuple
        Keys and values of each block, ``[n, heads, tokens, width / heads]``.
    """

    logits: Tensor
    past_key_values: Cache


class Attention(nn.Module):
    """Causal self-attention with one projection for queries, keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self, x: Tensor, mask: Tensor, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Mixed values ``[n, tokens, width]``, and the keys and values of all tokens so far."""
        n, tokens, width = x.shape
        split = self.qkv(x).view(n, tokens, 3, self.heads, width // self.heads)
        queries, keys, values = split.permute(2, 0, 3, 1, 4)
        if past is not None:
            keys, values = torch.cat([past[0], keys], 2), torch.cat([past[1], values], 2)
        mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        return self.out(mixed.transpose(1, 2).reshape(n, tokens, width)), (keys, values)


class Block(nn.Module):
    """Attention and a two-layer network, each after a layer norm and added to its input."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.norm2, self.up, self.down = (
            nn.LayerNorm(width),
            nn.Linear(width, hidden),
            nn.Linear(hidden, width),
        )

    def forward(
        self, x: Tensor, mask: Tensor, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The residual stream ``[n, tokens, width]`` after this block, and its cache."""
        mixed, kept = self.attention(self.norm1(x), mask, past)
        x = x + mixed
        return x + self.down(F.gelu(self.up(self.norm2(x)))), kept


class GPT(nn.Module):
    """A decoder-only transformer: learned positions, norms before, embeddings tied to the head.

    It is called as Hugging Face's models are: ``input_ids``, an ``attention_mask`` of ones and
    zeros for padded batches, ``past_key_values`` and ``use_cache`` for decoding. Its attention
    heads are ``blocks.0.attention``, its neurons ``blocks.0.up``.

    Parameters
    ----------
    vocabulary : int
    width, blocks, heads : int
        ``width`` must be a multiple of ``heads``.
    hidden : int, optional
        Neurons per block, 4 times the width by default.
    context : int
        The most tokens of a passage.
    seed : int, optional
        Fixes the initial weights without the global generator; None draws from it.

    Raises
    ------
    ValueError
        If a size is not positive or the width no multiple of the heads.

    Examples
    --------
    >>> model = GPT(vocabulary=11, width=8, blocks=2, heads=2, context=16, seed=0)
    >>> model(torch.tensor([[1, 2, 3]])).shape
    torch.Size([1, 3, 11])
    """

    def __init__(
        self,
        vocabulary: int,
        width: int = 64,
        blocks: int = 2,
        heads: int = 4,
        hidden: int | None = None,
        context: int = 64,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        hidden = 4 * width if hidden is None else hidden
        if min(vocabulary, width, blocks, heads, hidden, context) < 1 or width % heads:
            raise ValueError(
                f"a GPT needs positive sizes and a width that its heads divide; got vocabulary="
                f"{vocabulary}, width={width}, blocks={blocks}, heads={heads}, hidden={hidden}, "
                f"context={context}."
            )
        self.context = context
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.default_generator.manual_seed(seed)
            self.embed = nn.Embedding(vocabulary, width)
            self.positions = nn.Embedding(context, width)
            self.blocks = nn.ModuleList(Block(width, heads, hidden) for _ in range(blocks))
            self.norm = nn.LayerNorm(width)
            self._initialize(blocks)

    def _initialize(self, blocks: int) -> None:
        """Radford et al. 2019: a deviation of .02, smaller where branches add up."""
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                adds_up = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(parameter, std=0.02 / ((2 * blocks) ** 0.5 if adds_up else 1.0))
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool = False,
    ) -> Tensor | GPTOutput:
        """Logits ``[n, tokens, vocabulary]`` for the token after each token.

        Parameters
        ----------
        input_ids : int64 ``[n, tokens]``
        attention_mask : ``[n, cached + tokens]``, optional
            0 where a batch is padded, on the left or on the right.
        past_key_values : tuple, optional
            What a call with ``use_cache`` returned for the tokens before these.
        use_cache : bool
            Return a :class:`GPTOutput`.

        Raises
        ------
        ValueError
            If the passage is longer than the context.
        """
        cached = 0 if past_key_values is None else past_key_values[0][0].shape[2]
        tokens = input_ids.shape[1]
        total = cached + tokens
        if total > self.context:
            raise ValueError(
                f"the passage has {total} tokens and the context {self.context}; shorten it."
            )
        rows = torch.arange(cached, total, device=input_ids.device)
        columns = torch.arange(total, device=input_ids.device)
        mask = (columns <= rows[:, None])[None, None]
        places = rows[None]
        if attention_mask is not None:
            seen = attention_mask.to(torch.bool)
            # A padded row sees itself, or its softmax would be NaN.
            itself = columns == rows[:, None]
            mask = mask & (seen[:, None, None] | itself)
            places = (seen.long().cumsum(1) - 1).clamp(min=0)[:, cached:]
        x = self.embed(input_ids) + self.positions(places)
        kept = []
        for number, block in enumerate(self.blocks):
            x, cache = block(x, mask, None if past_key_values is None else past_key_values[number])
            kept.append(cache)
        logits = F.linear(self.norm(x), self.embed.weight)
        return GPTOutput(logits, tuple(kept)) if use_cache else logits
