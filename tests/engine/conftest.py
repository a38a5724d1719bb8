"""Nets to be exact on, each with a hand-written rule for where a layer's units have their value."""

import json
from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor, nn

import memviz as mv
from tests.support.nets import Counted, InPlace, LikeGpt, Net, Place, TextTower, Views


def _resnet18(name: str) -> list[Place]:
    block, _, own = name.rpartition(".")
    after = {"conv1": "relu", "conv2": "bn2", "0": "1", "fc": "fc"}[own]
    return [Place("out", f"{block}.{after}".lstrip("."), 1)]


def _densenet121(name: str) -> list[Place]:
    block, _, own = name.rpartition(".")
    after = {"conv0": "relu0", "conv1": "relu2"}.get(own, own)
    return [Place("out", f"{block}.{after}".lstrip("."), 1)]


def _mobilenet(name: str) -> list[Place]:
    block, _, own = name.rpartition(".")
    if own in ("fc1", "fc2"):  # squeeze and excitation
        return [Place("out", f"{block}.{'activation' if own == 'fc1' else 'scale_activation'}", 1)]
    if block == "classifier":
        return [Place("out", {"0": "classifier.1", "3": "classifier.3"}[own], 1)]
    return [Place("out", block, 1)]  # the sequence of conv, norm and (often) non-linearity


def _convnext(name: str) -> list[Place]:
    if name.endswith("block.3"):
        return [Place("out", name.replace("block.3", "block.4"), -1)]
    return [Place("out", name, -1 if "block.5" in name else 1)]


def _vit(name: str) -> list[Place]:
    if name.endswith("self_attention"):
        return [Place("linear_into", f"{name}.out_proj.weight", -1)]
    return [Place("out", name.replace("mlp.0", "mlp.1"), 1 if name == "conv_proj" else -1)]


def _swin(name: str) -> list[Place]:
    if name.endswith("attn"):
        return [Place("linear_into", f"{name}.proj.weight", -1)]
    if ".attn." in name:
        return [Place("linear_out", f"{name}.weight", -1)]
    return [Place("out", name.replace("mlp.0", "mlp.1"), 1 if name == "features.0.0" else -1)]


def _timm_vit(name: str) -> list[Place]:
    if name.endswith("attn"):
        return [Place("into", f"{name}.proj", -1)]
    return [Place("out", name.replace("mlp.fc1", "mlp.act"), 1 if "patch_embed" in name else -1)]


def _clip(name: str) -> list[Place]:
    if name.endswith("attn"):
        return [Place("linear_into", f"{name}.out_proj.weight", -1)]
    return [Place("out", name.replace("mlp.c_fc", "mlp.gelu"), 1 if name == "conv1" else -1)]


def _digits(name: str) -> list[Place]:
    after = name.replace("conv", "relu") if name != "fc" else "relu5"
    return [Place("out", after, 1)]


TINY_CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 4, "layers": 2},
}


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> nn.Module:
    """An open_clip model by its config route, random weights, nothing fetched."""
    import open_clip

    file = tmp_path_factory.mktemp("open_clip") / "memviz-test-tiny.json"
    file.write_text(json.dumps(TINY_CLIP))
    open_clip.add_model_config(file)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return open_clip.create_model("memviz-test-tiny", pretrained=None).eval()


def _settle(model: nn.Module, inputs: Tensor) -> nn.Module:
    # Fresh weights often say nothing: zero heads, tiny layer scales, batch norms that never saw
    # an image. Give all of them values, so that an ablated unit can be seen in the output.
    for name, parameter in model.named_parameters():
        if name.endswith("layer_scale") or not parameter.any():
            nn.init.normal_(parameter, std=0.5)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # a plain average
        norm.train()
    with torch.no_grad():
        model.eval()
        for norm in norms:
            norm.train()
        model(inputs)
    return model.eval()


def _image_net(name: str) -> Net:
    import torchvision

    rules = {
        "resnet18": _resnet18,
        "densenet121": _densenet121,
        "mobilenet_v3_small": _mobilenet,
        "convnext_tiny": _convnext,
        "vit_b_16": _vit,
        "swin_t": _swin,
    }
    more = {"image_size": 64} if name == "vit_b_16" else {}
    model = getattr(torchvision.models, name)(weights=None, num_classes=10, **more)
    inputs = torch.randn(4, 3, 64, 64)
    return Net(_settle(model.eval(), inputs), inputs, rules[name])


def _timm_net() -> Net:
    import timm

    inputs = torch.randn(4, 3, 32, 32)
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=3, num_classes=10)
    return Net(_settle(model, inputs), inputs, _timm_vit)


@pytest.fixture(scope="session")
def build(tiny_clip: nn.Module, digits: mv.Study) -> Callable[[str], Net]:
    """A net by name, built once."""
    small = {"in_place": InPlace, "views": Views, "counted": Counted, "like_gpt": LikeGpt}

    @cache
    def made(name: str) -> Net:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            if name == "digits":
                assert isinstance(digits.inputs, Tensor)
                return Net(digits.model, digits.inputs[::300].clone(), _digits)
            if name == "clip_image":
                return Net(tiny_clip.visual, torch.randn(4, 3, 32, 32), _clip)
            if name == "clip_text":
                tokens = torch.randint(1, 60, (4, 8))
                return Net(TextTower(tiny_clip).eval(), tokens, _clip)
            if name == "timm_vit":
                return _timm_net()
            if name in small:
                inputs = torch.randn(4, 5, 12) if name == "like_gpt" else torch.randn(4, 3, 8, 8)
                model = small[name]()
                return Net(_settle(model, inputs), inputs, model.places)
            return _image_net(name)

    return made
