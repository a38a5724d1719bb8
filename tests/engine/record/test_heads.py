"""Attention heads, found in the models that people bring, against hooks on the projection."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import memviz as mv
from tests.support.hugging_face import MODELS, PICTURES, build
from tests.support.modules import (
    Hook,
    every_engine_agrees,
    every_engine_gives,
    outputs,
    study_of,
)

# The module that projects the heads, from the attention's.
PROJECTIONS = {
    **dict.fromkeys(("bert", "roberta", "swinv2"), "../output.dense"),
    "distilbert": "out_lin",
    **dict.fromkeys(("llama", "qwen2", "qwen3", "mistral", "mixtral"), "o_proj"),
    "t5": "o",
    "gpt_neox": "dense",
    "gpt2": "c_proj",
    "vit": "o_proj",
    "clip": "out_proj",
}


def hooks_of(attentions: list[mv.Layer], projection: str, widths: dict[str, int]) -> dict:
    hooks = {}
    for attention in attentions:
        module, path = attention.name, projection
        if path.startswith("../"):
            module, path = module.rpartition(".")[0], path[3:]
        width = widths[attention.name]
        for head in range(attention.units):
            features = range(head * width, (head + 1) * width)
            hooks[f"{attention.name}:{head}"] = Hook(f"{module}.{path}", features)
    return hooks


def heads_of(study: mv.Study) -> list[mv.Layer]:
    return [layer for layer in mv.layers(study) if layer.kind == "heads"]


@pytest.mark.parametrize(
    ("name", "attention"),
    [*((name, "sdpa") for name in MODELS), *((name, "eager") for name in ("bert", "llama", "t5"))],
)
def test_heads_of_hugging_face_models(name: str, attention: str) -> None:
    model, inputs = build(name, attention)
    study = study_of(model, inputs if name in PICTURES else {"input_ids": inputs})
    attentions = heads_of(study)
    assert [layer.units for layer in attentions] == {
        "swinv2": [2, 4],
        "t5": [4] * 6,
    }.get(name, [4, 4])
    width = {"t5": 6, "qwen3": 8}.get(name, 4)
    hooks = hooks_of(
        attentions, PROJECTIONS[name], dict.fromkeys((a.name for a in attentions), width)
    )
    ends = (attentions[0].name, attentions[-1].name)
    chosen = {f"{attention}:{head}" for attention in ends for head in (0, 1)}
    every_engine_agrees(study, {unit: hooks[unit] for unit in chosen})


IMAGE_MODELS = {
    "timm maxvit": ("timm", "maxvit_rmlp_pico_rw_256", 64, "proj"),
    "timm swin v2": ("timm", "swinv2_cr_tiny_ns_224", 64, "proj"),
    "torchvision swin v2": ("torchvision", "swin_v2_t", 64, "proj"),
    "torchvision maxvit": ("torchvision", "maxvit", 32, "merge"),
}


def image_model(name: str) -> tuple[nn.Module, Tensor, str]:
    import timm
    import torchvision

    library, entry, size, projection = IMAGE_MODELS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if entry == "maxvit":
            model: nn.Module = torchvision.models.maxvit.MaxVit(
                **{"input_size": (32, 32), "stem_channels": 8, "partition_size": 2},
                **{"block_channels": [8, 16], "block_layers": [1, 1], "head_dim": 4},
                **{"stochastic_depth_prob": 0.0, "num_classes": 3},
            )
        elif library == "torchvision":
            model = torchvision.models.SwinTransformer(
                **{"patch_size": [4, 4], "embed_dim": 8, "depths": [2, 1], "num_heads": [2, 4]},
                **{"window_size": [4, 4], "stochastic_depth_prob": 0.0, "num_classes": 3},
                block=torchvision.models.swin_transformer.SwinTransformerBlockV2,
                downsample_layer=torchvision.models.swin_transformer.PatchMergingV2,
            )
        elif entry.startswith("swin"):
            model = timm.models.swin_transformer_v2_cr.SwinTransformerV2Cr(
                **{"img_size": 64, "patch_size": 4, "window_size": 4, "embed_dim": 8},
                **{"depths": (2, 1), "num_heads": (2, 4), "num_classes": 3},
            )
        else:
            model = timm.create_model(
                entry, img_size=size, num_classes=3, depths=(1, 1), embed_dim=(32, 64)
            )
        for parameter in model.parameters():
            if parameter.dim() > 1 or not parameter.any():
                nn.init.normal_(parameter, std=0.3)
        return model.eval(), torch.randn(4, 3, size, size), projection


@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_heads_of_image_models(name: str) -> None:
    model, inputs, projection = image_model(name)
    study = study_of(model, inputs)
    attentions = heads_of(study)
    assert len(attentions) >= 3
    for attention in attentions:
        stated = model.get_submodule(attention.name)
        assert attention.units == getattr(stated, "num_heads", getattr(stated, "n_heads", None))
    wanted, clean = {}, outputs(study)
    for attention in (attentions[0], attentions[-1]):
        # A function may project, where no hook sees it; without its weights a head is off as well.
        weight = model.get_submodule(f"{attention.name}.{projection}").weight
        kept = weight.detach().clone()
        width = kept.shape[1] // attention.units
        for head in (0, attention.units - 1):
            with torch.no_grad():
                weight[:, head * width : (head + 1) * width] = 0
                wanted[f"{attention.name}:{head}"] = outputs(study)
                weight.copy_(kept)
    every_engine_gives(study, wanted, clean)


class Written(nn.Module):
    """Attention written out in one of many ways; the heads may end side by side, or not."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.qkv, self.project = nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        q, k, v = self.qkv(x).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        scores = (q @ k.transpose(-1, -2) / 2).softmax(-1)
        if self.way == "einsum":
            mixed = torch.einsum("bhts,bhsd->bthd", scores, v)
        elif self.way == "interleaved":  # feature 0 of each head, then feature 1 of each
            return self.project((scores @ v).permute(0, 2, 3, 1).flatten(2))
        elif self.way == "merged batch":
            mixed = torch.bmm(scores.flatten(0, 1), v.flatten(0, 1))
            mixed = mixed.view(n, 2, t, 4).transpose(1, 2)
        elif self.way == "scrambled":  # forgets to bring the heads together
            return self.project((scores @ v).reshape(n, t, 8))
        elif self.way == "values first":
            mixed = (v.transpose(-1, -2) @ scores.transpose(-1, -2)).permute(0, 3, 1, 2)
        elif self.way == "attention over features":
            across = (q.transpose(-1, -2) @ k / 2).softmax(-1)
            mixed = (across @ v.transpose(-1, -2)).permute(0, 3, 1, 2)
        else:
            mixed = F.scaled_dot_product_attention(query=q, key=k, value=v).transpose(1, 2)
        return self.project(mixed.flatten(2))


class Classifier(nn.Module):
    def __init__(self, attention: nn.Module, features: int = 8) -> None:
        super().__init__()
        self.attention, self.head = attention, nn.Linear(features, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.attention(x).mean(1))


@pytest.mark.parametrize(
    "way",
    ["einsum", "merged batch", "values first", "attention over features", "keywords"],
)
def test_the_moves_show_the_heads(way: str) -> None:
    torch.manual_seed(0)
    study = study_of(Classifier(Written(way)).eval(), torch.randn(4, 5, 8))
    (layer,) = heads_of(study)
    assert (layer.name, layer.units) == ("attention", 2)
    every_engine_agrees(study, hooks_of([layer], "project", {"attention": 4}))


@pytest.mark.parametrize("way", ["interleaved", "scrambled"])
def test_heads_that_do_not_lie_side_by_side_are_not_claimed(way: str) -> None:
    torch.manual_seed(0)
    model = Classifier(Written(way)).eval()
    model.attention.num_heads = 2  # what a module states does not outweigh what it does
    study = study_of(model, torch.randn(4, 5, 8))
    assert heads_of(study) == []
    with pytest.raises(ValueError, match="has no heads that lie side by side before an output"):
        mv.sweep(study, "attention:0", progress=False)


class NotAttention(nn.Module):
    """States heads, has a projection, and attends to nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads = 2
        self.fc, self.proj = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(self.fc(x).relu())


def test_a_stated_number_of_heads_alone_makes_none() -> None:
    torch.manual_seed(0)
    assert heads_of(study_of(Classifier(NotAttention()).eval(), torch.randn(4, 5, 8))) == []


class Gated(nn.Module):
    """A gate between the heads and their projection, and query groups beside each other."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads = 4
        self.q, self.kv, self.gate = nn.Linear(8, 16), nn.Linear(8, 16), nn.Linear(8, 16)
        self.o_proj = nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        q = self.q(x).unflatten(-1, (2, 2, 4)).permute(0, 2, 3, 1, 4)  # [n, key heads, group, t, d]
        k, v = self.kv(x).unflatten(-1, (2, 2, 1, 4)).permute(2, 0, 3, 4, 1, 5)
        mixed = ((q @ k.transpose(-1, -2)).softmax(-1) @ v).permute(0, 3, 1, 2, 4).flatten(2)
        return self.o_proj(mixed * self.gate(x).sigmoid())


def test_grouped_queries_and_a_gate_before_the_projection() -> None:
    torch.manual_seed(0)
    study = study_of(Classifier(Gated()).eval(), torch.randn(4, 5, 8))
    (layer,) = heads_of(study)
    assert layer.units == 4
    every_engine_agrees(study, hooks_of([layer], "o_proj", {"attention": 4}))


class TwoInOne(nn.Module):
    """Two attentions in one module: one name can't mean both."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        for project in (self.first, self.second):
            heads = x.unflatten(-1, (2, 4)).transpose(1, 2)
            mixed = F.scaled_dot_product_attention(heads, heads, heads)
            x = x + project(mixed.transpose(1, 2).flatten(2))
        return x


def test_two_attentions_of_one_module_are_not_one_layer() -> None:
    torch.manual_seed(0)
    assert heads_of(study_of(Classifier(TwoInOne()).eval(), torch.randn(4, 5, 8))) == []


class WithoutProjection(nn.Module):
    """The attention is added to the residual stream as it is; an MLP reads the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads, self.norm, self.fc = 2, nn.LayerNorm(8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        heads = x.unflatten(-1, (2, 4)).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(heads, heads, heads)
        return self.fc(self.norm(x + mixed.transpose(1, 2).flatten(2)))


def test_an_mlp_behind_the_residual_stream_is_no_projection() -> None:
    torch.manual_seed(0)
    assert heads_of(study_of(Classifier(WithoutProjection()).eval(), torch.randn(4, 5, 8))) == []
