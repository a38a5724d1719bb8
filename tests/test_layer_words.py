"""Layers as people say them, of transformers as they are written and of anything else."""

import sys
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import memviz as mv
from memviz.units import Layer, Unit, layer_words, unit_words

TOKENS = torch.randint(0, 50, (3, 6))


class Last(nn.Module):
    """What a language model says last."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.model(tokens).logits[:, -1]


def said(model: nn.Module, inputs: torch.Tensor = TOKENS) -> dict[str, str]:
    study = mv.Study(model.eval(), inputs, torch.zeros(len(inputs)), {"test": range(len(inputs))})
    return {name: words.layer for name, words in layer_words(mv.layers(study)).items()}


def small(kind: str, **other: int) -> nn.Module:
    usual = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 8, "vocab_size": 50}
    config = transformers.AutoConfig.for_model(kind, **usual, **other)
    return Last(transformers.AutoModelForCausalLM.from_config(config))


def named(*names: str, heads: str = "attn") -> list[str]:
    layers = [Layer(n, "heads" if n.endswith(heads) else "linear", 8, "") for n in names]
    return [words.layer for words in layer_words(layers).values()]


@pytest.mark.parametrize(
    ("model", "block", "heads", "up", "down"),
    [
        (small("gpt2"), "model.transformer.h", "attn", "mlp.c_fc", "mlp.c_proj"),
        (
            small("gpt_neox", intermediate_size=16),
            "model.gpt_neox.layers",
            *("attention", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h"),
        ),
        (
            small("opt", ffn_dim=16, word_embed_proj_dim=8),
            *("model.model.decoder.layers", "self_attn", "fc1", "fc2"),
        ),
    ],
)
def test_language_models(model: nn.Module, block: str, heads: str, up: str, down: str) -> None:
    found = said(model)
    for number in range(2):
        assert found[f"{block}.{number}.{heads}"] == f"block {number} · attention heads"
        assert found[f"{block}.{number}.{up}"] == f"block {number} · MLP neurons"
        assert found[f"{block}.{number}.{down}"] == f"block {number} · MLP output"
    assert found["model.lm_head"] == "model.lm_head"


def test_gated_neurons_and_the_projections_beside_them() -> None:
    found = said(small("llama", intermediate_size=16, num_key_value_heads=1))
    block = "model.model.layers.1"
    assert found[f"{block}.self_attn"] == "block 1 · attention heads"
    assert found[f"{block}.self_attn.q_proj"] == "block 1 · attention q_proj"
    assert found[f"{block}.mlp"] == "block 1 · MLP neurons"
    assert found[f"{block}.mlp.gate_proj"] == "block 1 · MLP gate_proj"


def test_a_vision_transformer_of_timm() -> None:
    timm = pytest.importorskip("timm")
    shape = {"img_size": 16, "patch_size": 8, "depth": 2, "num_classes": 5}
    model = timm.create_model("vit_tiny_patch16_224", pretrained=False, **shape)
    found = said(model, torch.randn(3, 3, 16, 16))
    assert found["blocks.1.attn"] == "block 1 · attention heads"
    assert found["blocks.1.mlp.fc1"] == "block 1 · MLP neurons"
    assert (found["patch_embed.proj"], found["head"]) == ("patch_embed.proj", "head")


def test_both_towers_of_clip() -> None:
    text, image = "transformer.resblocks.1.", "visual.transformer.resblocks.1."
    ends = ("attn", "mlp.c_fc", "mlp.c_proj")
    assert named(*(text + end for end in ends), "visual.conv1", *(image + end for end in ends)) == [
        *("text block 1 · attention heads", "text block 1 · MLP neurons"),
        *("text block 1 · MLP output", "visual.conv1"),
        *("image block 1 · attention heads", "image block 1 · MLP neurons"),
        "image block 1 · MLP output",
    ]


def test_towers_of_other_names_stages_and_blocks_without_heads() -> None:
    assert named("vision_model.encoder.layers.0.attn", "text_model.encoder.layers.0.attn") == [
        "image block 0 · attention heads",
        "text block 0 · attention heads",
    ]
    swin = [f"layers.{stage}.blocks.{block}.attn" for stage in (0, 1) for block in (0, 1)]
    assert named(*swin)[2] == "layers.1.blocks block 0 · attention heads"
    # Parts of a block that are numbered, only some of which have heads.
    t5 = [f"encoder.block.{n}.layer.{part}" for n in (0, 1) for part in ("0.attn", "1.wi", "1.wo")]
    assert named(*t5)[3:5] == ["block 1 · attention heads", "block 1 · MLP neurons"]
    # Blocks between which others mix in another way.
    assert named("layers.0.mixer", "layers.1.attn")[1] == "block 1 · attention heads"


def test_two_layers_beside_the_heads_are_no_mlp_unless_they_are_called_so() -> None:
    # Attention's projection may stand in the block itself, and the residual after it.
    assert named("h.0.attn", "h.0.proj", "h.0.fc") == [
        *("block 0 · attention heads", "block 0 · proj", "block 0 · fc"),
    ]
    assert named("h.0.attn", "h.0.proj", "h.0.fc1", "h.0.fc2")[1:] == [
        *("block 0 · proj", "block 0 · MLP neurons", "block 0 · MLP output"),
    ]
    assert named("h.0.attn", "h.0.c_proj", "h.0.c_fc")[1:] == ["block 0 · c_proj", "block 0 · c_fc"]
    assert named("h.0.attn", "h.0.mlp.0", "h.0.mlp.2")[1:] == [
        *("block 0 · MLP neurons", "block 0 · MLP output"),
    ]
    assert named("h.0.attn", *(f"h.0.mlp.{part}" for part in range(3)))[1] == "block 0 · mlp.0"
    two = [f"h.0.{half}.{part}" for half in ("left", "right") for part in ("fc1", "fc2")]
    assert named("h.0.attn", *two)[1] == "block 0 · left.fc1"


def test_a_block_without_heads_has_no_mlp_that_is_known() -> None:
    mixer = ["blocks.0.in_proj", "blocks.0.out_proj"]
    assert named(*mixer, "blocks.1.attn", "blocks.1.fc1", "blocks.1.fc2") == [
        *("block 0 · in_proj", "block 0 · out_proj", "block 1 · attention heads"),
        *("block 1 · MLP neurons", "block 1 · MLP output"),
    ]


def blocks(size: int) -> list[Layer]:
    ends = {"attn": "heads", "fc1": "linear", "fc2": "linear"}
    return [Layer(f"h.{n}.{end}", kind, 8, "") for n in range(size) for end, kind in ends.items()]


def experts(size: int) -> list[Layer]:
    """Layers of one block whose words are equal but for the ends of their paths."""
    names = [f"h.0.mlp.experts.{n}" for n in range(size)]
    return [Layer("h.0.attn", "heads", 8, ""), *(Layer(name, "experts", 8, "") for name in names)]


def work(layers: list[Layer]) -> int:
    """Steps of the interpreter that find the words."""
    made, before = Counter[str](), sys.gettrace()

    def count(frame: FrameType, event: str, _: object) -> Any:
        frame.f_trace_opcodes = True
        made[event] += 1
        return count

    sys.settrace(count)
    try:
        layer_words(layers)
    finally:
        sys.settrace(before)
    return made.total()


@pytest.mark.parametrize("of_size", [blocks, experts])
def test_the_work_grows_with_the_layers_alone(of_size: Callable[[int], list[Layer]]) -> None:
    assert work(of_size(164)) < 5 * work(of_size(41))


def test_words_are_found_once() -> None:
    layers = blocks(131)
    first = work(layers)
    assert work(list(layers)) < first / 5
    layer_words(layers).clear()  # whoever asked may change what they got
    assert len(layer_words(layers)) == len(layers)


def test_what_is_no_transformer_is_called_by_its_path() -> None:
    names = ["conv1", "layer3.0.conv2", "layer3.1.conv2", "fc"]
    assert named(*names) == names


def test_equal_words_get_the_end_of_their_path() -> None:
    assert named("layers.0.self_attn", "layers.0.encoder_attn") == [
        "block 0 · attention heads (self_attn)",
        "block 0 · attention heads (encoder_attn)",
    ]


def test_units_of_a_layer() -> None:
    words = layer_words([Layer("h.0.attn", "heads", 4, ""), Layer("fc", "linear", 4, "")])
    assert unit_words(Unit("h.0.attn", 2), words) == "block 0 · attention head 2"
    assert unit_words(Unit("fc", 2), words) == "fc unit 2"


PARTS = st.sampled_from(["h", "0", "1", "attn", "self_attn", "mlp", "visual", "layer", "a b", ""])
KINDS = st.sampled_from(["heads", "linear", "conv", "neurons", "experts", "recurrent", "odd"])


@settings(deadline=None)
@given(st.dictionaries(st.lists(PARTS, max_size=6).map(".".join), KINDS, max_size=9))
def test_any_layers_get_words_that_differ(kinds: dict[str, str]) -> None:
    layers = [Layer(name, kind, 2, "") for name, kind in kinds.items()]
    words = layer_words(layers)
    assert list(words) == list(kinds)
    assert len({found.layer for found in words.values()}) == len(kinds)
    assert len({found.of(0) for found in words.values()}) == len(kinds)
    backwards = layer_words(layers[::-1])
    titles = {name: found.layer.split(" · ")[0] for name, found in words.items()}
    assert {name: found.layer.split(" · ")[0] for name, found in backwards.items()} == titles
