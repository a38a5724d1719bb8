"""``mv.ablate`` against plain hooks: every model, every way to call it, single units and many."""

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import memviz as mv

UNITS = [1, 2, 5]
IDS = torch.tensor([[3, 7, 11, 2, 9], [1, 4, 8, 12, 6]])
TOLERANCE = 2e-6  # of the largest output: heads are projected by another order of sums


@dataclass(frozen=True)
class Place:
    """The end of a module where a layer's units are: features, or a head's of this width."""

    module: str
    axis: int = -1
    at: str = "out"
    width: int = 1


@dataclass(frozen=True)
class Case:
    """A model, a way to call it, and its layers with the places where plain hooks ablate them."""

    model: str
    call: str
    layers: dict[str, Place]

    def __str__(self) -> str:
        return f"{self.model} {self.call} {' '.join(self.layers)}"


def settled(model: nn.Module) -> nn.Module:
    """Weights large enough that each unit is seen in the output."""
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.2)
        elif "bias" in name:
            nn.init.normal_(parameter, std=0.5)
    return model.eval()


@cache
def model(name: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return settled(MODELS[name]())


def resnet() -> nn.Module:
    import torchvision

    return torchvision.models.resnet18(num_classes=10)


def vit() -> nn.Module:
    import timm

    return timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2, num_classes=10)


def clip() -> nn.Module:
    import open_clip

    vision = {"image_size": 32, "layers": 2, "width": 32, "head_width": 8, "patch_size": 8}
    text = {"context_length": 5, "vocab_size": 64, "width": 32, "heads": 4, "layers": 2}
    with TemporaryDirectory() as folder:
        file = Path(folder) / "memviz-test-foreign.json"
        file.write_text(json.dumps({"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}))
        open_clip.add_model_config(file)
        return open_clip.create_model("memviz-test-foreign", pretrained=None)


def gpt2() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(
        GPT2Config(vocab_size=50, n_positions=32, n_embd=16, n_layer=2, n_head=4, **TOKENS)
    )


def llama() -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    return LlamaForCausalLM(
        LlamaConfig(vocab_size=50, max_position_embeddings=32, **config, **heads, **TOKENS)
    )


def bert() -> nn.Module:
    from transformers import BertConfig, BertModel

    config = {"hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 24}
    return BertModel(BertConfig(vocab_size=50, num_attention_heads=4, **config))


def t5() -> nn.Module:
    from transformers import T5Config, T5ForConditionalGeneration

    config = {"d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 4}
    return T5ForConditionalGeneration(
        T5Config(vocab_size=50, decoder_start_token_id=0, **config, **TOKENS)
    )


TOKENS = {"bos_token_id": 0, "eos_token_id": 49, "pad_token_id": 0}
MODELS: dict[str, Callable[[], nn.Module]] = {
    "resnet": resnet,
    "vit": vit,
    "clip": clip,
    "gpt2": gpt2,
    "llama": llama,
    "bert": bert,
    "t5": t5,
}


def images(n: int = 3) -> Tensor:
    return torch.arange(n * 3 * 32 * 32.0).sin().view(n, 3, 32, 32)


def generate(model: Any, **options: Any) -> Tensor:
    """Scores of each generated token; greedy, so that a wrong activation changes the tokens too."""
    made = model.generate(
        IDS,
        max_new_tokens=5,
        min_new_tokens=5,
        do_sample=False,
        return_dict_in_generate=True,
        output_logits=True,
        **options,
    )
    return torch.stack(made.logits)


def by_hand(model: Any) -> Tensor:
    """The first half of a ResNet, module by module."""
    stem = model.maxpool(model.relu(model.bn1(model.conv1(images()))))
    return model.layer2(model.layer1(stem))


def padded() -> Tensor:
    mask = torch.ones_like(IDS)
    mask[1, 3:] = 0
    return mask


CALLS: dict[str, Callable[[Any], Tensor]] = {
    "forward": lambda model: model(images()),
    "another batch": lambda model: torch.cat([model(images()), model(images(1))]),
    "by hand": by_hand,
    "features": lambda model: model.forward_head(model.forward_features(images())),
    "tokens": lambda model: model.blocks[1](model.blocks[0](images(1).reshape(1, -1, 192))),
    "encode_image": lambda model: model.encode_image(images()),
    "encode_text": lambda model: model.encode_text(IDS),
    "visual": lambda model: model.visual(images(1)),
    "logits": lambda model: model(input_ids=IDS).logits,
    "hidden": lambda model: model(IDS, attention_mask=padded()).last_hidden_state,
    "unpadded": lambda model: model(IDS, attention_mask=torch.ones_like(IDS))[0],
    "encoder": lambda model: model.encoder(model.embeddings(IDS)).last_hidden_state,
    "generate": generate,
    "without cache": lambda model: generate(model, use_cache=False),
    "beams": lambda model: generate(model, num_beams=2),
    "pairs": lambda model: model(input_ids=IDS, decoder_input_ids=IDS[:, :3]).logits,
}
INTERMEDIATE = "encoder.layer.0.intermediate"
BLOCK = "visual.transformer.resblocks.1"
CASES = [
    *(
        Case("resnet", call, layers)
        for call in ("forward", "another batch", "by hand")
        for layers in (
            {"conv1": Place("relu", 1)},
            {"layer1.0.conv2": Place("layer1.0.bn2", 1)},
            {"layer2.0.downsample.0": Place("layer2.0.downsample.1", 1)},
        )
    ),
    *(
        Case("vit", call, layers)
        for call in ("forward", "features", "tokens")
        for layers in (
            {"blocks.0.mlp.fc1": Place("blocks.0.mlp.act")},
            {"blocks.1.attn": Place("blocks.1.attn.proj", -1, "in", 64)},
            {
                "blocks.1.mlp.fc2": Place("blocks.1.mlp.fc2"),
                "blocks.0.attn.qkv": Place("blocks.0.attn.qkv"),
            },
        )
    ),
    *(
        Case("clip", call, layers)
        for call in ("encode_image", "visual")
        for layers in (
            {"visual.conv1": Place("visual.conv1", 1)},
            {f"{BLOCK}.mlp.c_fc": Place(f"{BLOCK}.mlp.gelu")},
        )
    ),
    Case(
        "clip",
        "encode_text",
        {"transformer.resblocks.0.mlp.c_fc": Place("transformer.resblocks.0.mlp.gelu")},
    ),
    *(
        Case("gpt2", call, layers)
        for call in ("logits", "generate", "without cache", "beams")
        for layers in (
            {"transformer.h.0.attn": Place("transformer.h.0.attn.c_proj", -1, "in", 4)},
            {"transformer.h.1.mlp.c_proj": Place("transformer.h.1.mlp.c_proj")},
        )
    ),
    *(
        Case("llama", call, layers)
        for call in ("logits", "generate", "without cache", "beams")
        for layers in (
            {"model.layers.0.mlp.gate_proj": Place("model.layers.0.mlp.act_fn")},
            {"model.layers.1.self_attn.k_proj": Place("model.layers.1.self_attn.k_proj")},
        )
    ),
    *(
        Case("bert", call, {f"{INTERMEDIATE}.dense": Place(f"{INTERMEDIATE}.intermediate_act_fn")})
        for call in ("hidden", "unpadded", "encoder")
    ),
    *(
        Case("t5", call, layers)
        for call in ("generate", "pairs")
        for layers in (
            {
                "decoder.block.0.layer.2.DenseReluDense.wi": Place(
                    "decoder.block.0.layer.2.DenseReluDense.act"
                )
            },
            {
                "encoder.block.1.layer.0.SelfAttention.v": Place(
                    "encoder.block.1.layer.0.SelfAttention.v"
                )
            },
        )
    ),
]


def hooked(module: nn.Module, layers: dict[str, Place], units: Sequence[int]) -> ExitStack:
    """Hooks of plain PyTorch that set the units to 0."""
    stack = ExitStack()
    for where in layers.values():
        rows = [unit * where.width + k for unit in units for k in range(where.width)]

        def zeroed(value: Tensor, axis: int = where.axis, rows: list[int] = rows) -> Tensor:
            return value.index_fill(axis, torch.tensor(rows), 0)

        at = module.get_submodule(where.module)
        if where.at == "in":
            handle = at.register_forward_pre_hook(lambda _m, a, z=zeroed: (z(a[0]), *a[1:]))
        else:
            handle = at.register_forward_hook(lambda _m, _a, out, z=zeroed: z(out))
        stack.callback(handle.remove)
    return stack


def same(given: Tensor, wanted: Tensor) -> None:
    assert given.shape == wanted.shape
    assert float((given - wanted).abs().max()) <= TOLERANCE * float(wanted.abs().max())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_ablate_is_a_plain_hook(case: Case) -> None:
    module, call = model(case.model), CALLS[case.call]
    heads = any(where.width > 1 for where in case.layers.values())
    for units in ([1], [0, 2] if heads else UNITS):
        chosen = mv.UnitSet(dict.fromkeys(case.layers, units))
        with torch.no_grad():
            with hooked(module, case.layers, units):
                wanted = call(module)
            clean = call(module)
            with mv.ablate(module, chosen):
                same(call(module), wanted)
                same(call(module), wanted)  # and what is learned from the first call holds
            assert torch.equal(call(module), clean)
        assert not torch.equal(wanted, clean)
        assert all("forward" not in vars(inner) for inner in module.modules())


@pytest.mark.parametrize("how", ["filter", "constant 0.7", "scale -1"])
@pytest.mark.parametrize("name", ["resnet", "vit", "gpt2", "bert"])
def test_a_sweep_and_ablate_agree_on_the_place(name: str, how: str) -> None:
    """Half of each layer's units, one layer at a time: the engine of sweeps against the block."""
    module = model(name)
    inputs = images(2) if name in ("resnet", "vit") else {"input_ids": IDS}
    study = mv.Study(module, inputs, torch.zeros(2), {"test": range(2)}, task=First())
    replay = mv.Replay(study)
    for layer in replay.layers[:: 5 if name == "resnet" else 2]:
        units = mv.UnitSet({layer.name: range(0, layer.units, 2)})
        with torch.no_grad(), mv.ablate(module, units, how):
            raw = module(inputs) if isinstance(inputs, Tensor) else module(**inputs)
        same(First().outputs(raw), replay.outputs(units, how))


class First(mv.tasks.Classification):
    """The first tensor that a model returns, whatever it means."""

    def outputs(self, raw: Any) -> Tensor:
        first = raw if isinstance(raw, Tensor) else raw[0]
        return first.flatten(1)
