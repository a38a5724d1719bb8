"""Nets to be exact on, each with a hand-written rule for where a layer's units have their value."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import memviz as mv
from memviz.engine.sets import Toggle


@dataclass(frozen=True)
class Place:
    """Where a plain hook finds a layer's activation.

    ``out`` and ``into`` are a module's output and first input; ``linear_out`` and ``linear_into``
    those of ``F.linear`` with the weight of that name, where a model calls it itself; ``relu`` is
    the output of ``F.relu``. ``call`` counts the calls of one forward pass.
    """

    at: Literal["out", "into", "linear_out", "linear_into", "relu"]
    name: str
    axis: int
    call: int = 0


@dataclass
class Net:
    """A model, what to call it with, and the rule: the places of each layer."""

    model: nn.Module
    inputs: Tensor
    places: Callable[[str], list[Place]]
    study: mv.Study = field(init=False)

    def __post_init__(self) -> None:
        groups = {"memorized": [0], "clean": range(1, len(self.inputs))}
        self.study = mv.Study(self.model, self.inputs, torch.zeros(len(self.inputs)), groups)

    @cached_property
    def kept(self) -> mv.Replay:
        """The engine with a record."""
        return mv.Replay(self.study)

    @cached_property
    def toggle(self) -> Toggle:
        """The engine that answers clicks."""
        return Toggle(self.kept)

    @cached_property
    def is_graph(self) -> bool:
        """Whether the graph engine takes it: none that writes through views or into its buffers."""
        return type(self.model) not in (Views, Counted)

    @cached_property
    def whole(self) -> mv.Replay:
        """The engine without one."""
        return mv.Replay(self.study, memory=0)

    def layer(self, name: str) -> mv.Layer:
        return self.kept.located[name].layer


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


class InPlace(nn.Module):
    """In-place ReLU on a residual sum, one ReLU for all calls, one convolution called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.shared = nn.Conv2d(6, 6, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(self.first(x)))
        y = self.shared(self.relu(self.shared(x)))
        y += x
        return self.head(self.relu(y).mean((2, 3)))

    def places(self, name: str) -> list[Place]:
        if name == "first":
            return [Place("out", "relu", 1)]
        if name == "shared":
            return [Place("out", "relu", 1, call=1), Place("out", "shared", 1, call=1)]
        return [Place("out", name, 1)]


class Views(nn.Module):
    """F.relu, setitem, a change through a view, torch.cat, plain numbers made from a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(3, 4, 3, padding=1) for _ in range(3))
        self.hidden, self.head = nn.Linear(12, 7), nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        a, b, c = F.relu(self.a(x)), self.b(x), self.c(x)
        b[:, 0] = 0.5 * b[:, 1]
        part = c[:, 1:3]
        part.mul_(2.0).add_(a[:, 1:3])
        scale = torch.tensor(a.detach().amax((1, 2, 3)).tolist())
        pooled = torch.cat([a, b, c], 1).square().mean((2, 3)) * scale[:, None]
        return self.head(F.relu(self.hidden(pooled)))

    def places(self, name: str) -> list[Place]:
        if name in ("a", "hidden"):
            return [Place("relu", "", 1, call=["a", "hidden"].index(name))]
        return [Place("out", name, 1)]


class Counted(nn.Module):
    """Weight norm, a buffer that counts the calls (by name and in place), a dict for an output."""

    calls: Tensor
    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 6, 3, padding=1))
        self.act, self.head = nn.Tanh(), nn.Linear(6, 5)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        self.calls += 1
        self.seen.add_(len(x))
        return {"logits": self.head(self.act(self.conv(x)).square().mean((2, 3)))}

    def places(self, name: str) -> list[Place]:
        return [Place("out", "act" if name == "conv" else name, 1)]


class Conv1D(nn.Module):
    """Hugging Face's linear layer: its weight lies the other way round."""

    def __init__(self, features: int, nf: int) -> None:
        super().__init__()
        self.nf = nf
        self.weight = nn.Parameter(torch.randn(features, nf) / features**0.5)
        self.bias = nn.Parameter(torch.randn(nf))

    def forward(self, x: Tensor) -> Tensor:
        flat = torch.addmm(self.bias, x.reshape(-1, x.shape[-1]), self.weight)
        return flat.view(*x.shape[:-1], self.nf)


class Attention(nn.Module):
    """Attention written out, as in GPT-2."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads = 3
        self.c_attn, self.c_proj = Conv1D(12, 36), Conv1D(12, 12)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.c_attn(x).unflatten(-1, (3, self.num_heads, 4)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*parts)
        return self.c_proj(mixed.transpose(1, 2).flatten(2))


class LikeGpt(nn.Module):
    """Two attentions and a head, for sequences of 5."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = Attention(), Attention(), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.one(x)
        return self.head((x + self.two(x)).mean(1))

    def places(self, name: str) -> list[Place]:
        if name in ("one", "two"):
            return [Place("into", f"{name}.c_proj", -1)]
        return [Place("out", name, -1)]


class TextTower(nn.Module):
    """encode_text of a CLIP as a module of its own."""

    def __init__(self, clip: nn.Module) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, tokens: Tensor) -> Tensor:
        return self.clip.encode_text(tokens)


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
