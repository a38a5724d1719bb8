"""Tiny Hugging Face models of every family, with random weights: nothing is fetched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers as hf
from torch import Tensor, nn

_TEXT = {"vocab_size": 50, "num_hidden_layers": 2, "num_attention_heads": 4, "pad_token_id": 0}
_WIDTHS = {"hidden_size": 16, "intermediate_size": 24, "initializer_range": 0.3}
_GROUPED = {**_TEXT, **_WIDTHS, "num_key_value_heads": 2, "num_labels": 3, "use_cache": False}
_IMAGES = {
    **{"num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 16, "patch_size": 8},
    **{"num_labels": 3, **_WIDTHS},
}
_BERT = {**_TEXT, **_WIDTHS, "num_labels": 3, "max_position_embeddings": 16}


def _t5() -> nn.Module:
    config = hf.T5Config(
        **{"vocab_size": 50, "d_model": 16, "d_kv": 6, "d_ff": 24, "num_layers": 2},
        **{"num_heads": 4, "feed_forward_proj": "gated-gelu", "num_labels": 3, "pad_token_id": 0},
        **{"decoder_start_token_id": 0, "eos_token_id": 49, "use_cache": False},
    )
    return hf.T5ForSequenceClassification(config)


def _neox() -> nn.Module:
    config = hf.GPTNeoXConfig(**_TEXT, **_WIDTHS, num_labels=3, use_cache=False)
    return hf.GPTNeoXForSequenceClassification(config)


def _gpt2() -> nn.Module:
    config = hf.GPT2Config(
        **{"vocab_size": 50, "n_embd": 16, "n_layer": 2, "n_head": 4, "pad_token_id": 0},
        **{"num_labels": 3, "bos_token_id": 0, "eos_token_id": 0, "use_cache": False},
    )
    return hf.GPT2ForSequenceClassification(config)


def _distilbert() -> nn.Module:
    config = hf.DistilBertConfig(
        **{"vocab_size": 50, "dim": 16, "n_layers": 2, "n_heads": 4, "hidden_dim": 24},
        **{"num_labels": 3, "max_position_embeddings": 16},
    )
    return hf.DistilBertForSequenceClassification(config)


def _swin() -> nn.Module:
    config = hf.Swinv2Config(
        **{"image_size": 16, "patch_size": 2, "embed_dim": 8, "depths": [1, 1]},
        **{"num_heads": [2, 4], "window_size": 4, "num_labels": 3},
    )
    return hf.Swinv2ForImageClassification(config)


# Each with its output projections by the attention's name.
MODELS: dict[str, Callable[[], nn.Module]] = {
    "bert": lambda: hf.BertForSequenceClassification(hf.BertConfig(**_BERT)),
    "roberta": lambda: hf.RobertaForSequenceClassification(hf.RobertaConfig(**_BERT)),
    "distilbert": _distilbert,
    "llama": lambda: hf.LlamaForSequenceClassification(hf.LlamaConfig(**_GROUPED)),
    "qwen2": lambda: hf.Qwen2ForSequenceClassification(hf.Qwen2Config(**_GROUPED)),
    "qwen3": lambda: hf.Qwen3ForSequenceClassification(hf.Qwen3Config(**_GROUPED, head_dim=8)),
    "mistral": lambda: hf.MistralForSequenceClassification(
        hf.MistralConfig(**_GROUPED, head_dim=4)
    ),
    "mixtral": lambda: hf.MixtralForSequenceClassification(
        hf.MixtralConfig(**_GROUPED, head_dim=4, num_local_experts=4)
    ),
    "t5": _t5,
    "gpt_neox": _neox,
    "gpt2": _gpt2,
    "vit": lambda: hf.ViTForImageClassification(hf.ViTConfig(**_IMAGES)),
    "clip": lambda: hf.CLIPForImageClassification(
        hf.CLIPConfig(vision_config=_IMAGES, num_labels=3)
    ),
    "swinv2": _swin,
}
PICTURES = ("vit", "clip", "swinv2")


def build(name: str, attention: str = "sdpa") -> tuple[nn.Module, Tensor]:
    """A model in eval mode, and four examples: unpadded tokens, or small pictures."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MODELS[name]()
        for parameter in model.parameters():  # fresh weights are too small to say anything
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.4)
        if name in PICTURES:
            inputs: Any = torch.randn(4, 3, 16, 16)
        else:
            inputs = torch.randint(1, 49, (4, 7))
            if name == "t5":
                inputs[:, -1] = 49  # its head reads the end of the sentence
    model.config._attn_implementation = attention
    return model.eval(), inputs
