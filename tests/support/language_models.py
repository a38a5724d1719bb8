"""Tiny causal language models of five families, with their heads and neurons as plain hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import transformers as hf
from torch import Tensor, nn

VOCABULARY, WIDTH, HEADS, HIDDEN, CONTEXT = 23, 16, 4, 24, 64
_TOKENS = {"bos_token_id": 1, "eos_token_id": None, "pad_token_id": 0}
_COMMON = {
    **{"vocab_size": VOCABULARY, "num_hidden_layers": 2, "num_attention_heads": HEADS},
    **{"hidden_size": WIDTH, "intermediate_size": HIDDEN, "max_position_embeddings": CONTEXT},
    **_TOKENS,
}
_GROUPED = {**_COMMON, "num_key_value_heads": 2}


def _gpt2() -> nn.Module:
    sizes = {"n_embd": WIDTH, "n_layer": 2, "n_head": HEADS, "n_inner": HIDDEN}
    return hf.GPT2LMHeadModel(
        hf.GPT2Config(vocab_size=VOCABULARY, n_positions=CONTEXT, **sizes, **_TOKENS)
    )


# Gemma's heads are wider than their share of the width.
MODELS: dict[str, Callable[[], nn.Module]] = {
    "gpt2": _gpt2,
    "pythia": lambda: hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(**_COMMON)),
    "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**_GROUPED)),
    "qwen2": lambda: hf.Qwen2ForCausalLM(hf.Qwen2Config(**_GROUPED)),
    "gemma": lambda: hf.GemmaForCausalLM(hf.GemmaConfig(**_GROUPED, head_dim=6)),
}


@dataclass(frozen=True)
class Place:
    """Where a layer's units are: features of what a module takes or gives, so many each."""

    module: str
    at: str
    width: int = 1


def places(family: str) -> dict[str, Place]:
    """The layers of heads and of neurons of both blocks, each with its place."""
    found = {}
    for block in (0, 1):
        if family == "gpt2":
            at = f"transformer.h.{block}"
            found[f"{at}.attn"] = Place(f"{at}.attn.c_proj", "in", WIDTH // HEADS)
            found[f"{at}.mlp.c_fc"] = Place(f"{at}.mlp.act", "out")
        elif family == "pythia":
            at = f"gpt_neox.layers.{block}"
            found[f"{at}.attention"] = Place(f"{at}.attention.dense", "in", WIDTH // HEADS)
            found[f"{at}.mlp.dense_h_to_4h"] = Place(f"{at}.mlp.act", "out")
        else:  # a neuron is the product of gate and up projection
            at, width = f"model.layers.{block}", 6 if family == "gemma" else WIDTH // HEADS
            found[f"{at}.self_attn"] = Place(f"{at}.self_attn.o_proj", "in", width)
            found[f"{at}.mlp"] = Place(f"{at}.mlp.down_proj", "in")
    return found


def build(family: str) -> Any:
    """A model in eval mode whose every unit can be seen in its logits."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MODELS[family]()
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.4)
            elif name.endswith("bias"):
                nn.init.normal_(parameter, std=0.2)
    return model.eval()


def passages(n: int = 6, tokens: int = 10, seed: int = 0) -> Tensor:
    """Random ids without the padding's, int64 ``[n, tokens]``."""
    return torch.randint(2, VOCABULARY, (n, tokens), generator=torch.Generator().manual_seed(seed))


@contextmanager
def hooked(
    model: nn.Module, units: dict[str, Sequence[int]], where: dict[str, Place]
) -> Iterator[None]:
    """Plain hooks that zero these units of these layers."""
    with ExitStack() as stack:
        for layer, indices in units.items():
            place = where[layer]
            columns = torch.tensor(
                [unit * place.width + k for unit in indices for k in range(place.width)]
            )

            def zeroed(value: Tensor, columns: Tensor = columns) -> Tensor:
                return value.index_fill(-1, columns, 0)

            module = model.get_submodule(place.module)
            if place.at == "in":
                handle = module.register_forward_pre_hook(lambda _m, a, z=zeroed: (z(a[0]), *a[1:]))
            else:
                handle = module.register_forward_hook(lambda _m, _a, out, z=zeroed: z(out))
            stack.callback(handle.remove)
        yield
