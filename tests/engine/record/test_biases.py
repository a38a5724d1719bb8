"""Filter ablation leaves the bias that the call was given, and refuses where none can be told."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import memviz as mv
from tests.support.modules import Hook, every_engine_agrees, outputs, study_of


class Composed(nn.Module):
    """As BEiT and Swin v2: the bias of the joint map is put together from two parameters."""

    def __init__(self, keywords: bool) -> None:
        super().__init__()
        self.keywords = keywords
        self.qkv, self.head = nn.Linear(6, 9), nn.Linear(9, 3)
        self.q_bias, self.v_bias = nn.Parameter(torch.randn(3)), nn.Parameter(torch.randn(3))

    def forward(self, x: Tensor) -> Tensor:
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        if self.keywords:
            return self.head(F.linear(input=x, weight=self.qkv.weight, bias=bias).tanh())
        return self.head(F.linear(x, self.qkv.weight, bias).tanh())


class Scaled(nn.Linear):
    """As in networks with equalized learning rates."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * 0.5, self.bias * 3)


class AddedLater(nn.Linear):
    """The bias is added by hand: silencing a unit means the sum."""

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.T + self.bias


class LowRank(nn.Linear):
    """An adapter beside the weights: two maps make up one output."""

    def __init__(self, features: int, units: int) -> None:
        super().__init__(features, units)
        self.down, self.up = nn.Linear(features, units, bias=False), nn.Linear(units, units)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.up(self.down(x))


class Between(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(9, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x).tanh())


def filtered(study: mv.Study, name: str, unit: int, weight: Tensor) -> Tensor:
    """Outputs without the unit's weights: the meaning of filter ablation."""
    kept = weight.detach().clone()
    with torch.no_grad():
        weight[unit] = 0
        wanted = outputs(study)
        weight.copy_(kept)
    return wanted


@pytest.mark.parametrize("keywords", [False, True])
def test_a_composed_bias(keywords: bool) -> None:
    torch.manual_seed(0)
    study = study_of(Composed(keywords).eval(), torch.randn(4, 6))
    replay = mv.Replay(study)
    for unit in range(9):
        wanted = filtered(study, "qkv", unit, study.model.qkv.weight)
        assert torch.allclose(replay.outputs(f"qkv:{unit}", "filter"), wanted, atol=1e-6)
        with torch.no_grad(), mv.ablate(study.model, f"qkv:{unit}", "filter"):
            assert torch.allclose(outputs(study), wanted, atol=1e-6)
    every_engine_agrees(study, {f"qkv:{unit}": Hook("head", [unit]) for unit in range(9)})


@pytest.mark.parametrize("kind", [Scaled, AddedLater])
def test_a_bias_scaled_or_added_by_hand(kind: type[nn.Linear]) -> None:
    torch.manual_seed(0)
    study = study_of(Between(kind(6, 9)).eval(), torch.randn(4, 6))
    replay = mv.Replay(study)
    for unit in range(9):
        wanted = filtered(study, "layer", unit, study.model.layer.weight)
        assert torch.allclose(replay.outputs(f"layer:{unit}", "filter"), wanted, atol=1e-6)
    hooks = {f"layer:{unit}": Hook("layer", [unit], "out") for unit in range(9)}
    every_engine_agrees(study, hooks)


def test_two_maps_in_one_layer() -> None:
    torch.manual_seed(0)
    study = study_of(Between(LowRank(6, 9)).eval(), torch.randn(4, 6))
    hooks = {f"layer:{unit}": Hook("layer", [unit], "out") for unit in range(9)}
    every_engine_agrees(study, hooks)
    words = "layer 'layer' uses its weights in a way of its own, so what filter ablation"
    with pytest.raises(ValueError, match=words):
        mv.Replay(study).outputs("layer:3", "filter")


@pytest.mark.parametrize("name", ["swin v2", "beit"])
def test_the_models_that_do_so(name: str) -> None:
    import timm

    torch.manual_seed(0)
    if name == "beit":
        model = timm.models.beit.Beit(
            **{"img_size": 16, "patch_size": 8, "embed_dim": 8, "depth": 1, "num_heads": 2},
            **{"num_classes": 3, "qkv_bias": True, "init_values": None},
        )
        layer, inputs = "blocks.0.attn.qkv", torch.randn(4, 3, 16, 16)
    else:
        model = timm.models.swin_transformer_v2.SwinTransformerV2(
            **{"img_size": 32, "patch_size": 4, "window_size": 4, "embed_dim": 8},
            **{"depths": (1, 1), "num_heads": (2, 4), "num_classes": 3},
        )
        layer, inputs = "layers.0.blocks.0.attn.qkv", torch.randn(4, 3, 32, 32)
    for parameter in model.parameters():
        if parameter.dim() > 1 or not parameter.any():
            nn.init.normal_(parameter, std=0.4)
    study = study_of(model.eval(), inputs)
    replay, weight = mv.Replay(study), model.get_submodule(layer).weight
    scale = float(replay.clean.abs().max())
    for unit in (0, 3, 9, 17, 23):  # of queries, keys and values
        wanted = filtered(study, layer, unit, weight)
        got = replay.outputs(f"{layer}:{unit}", "filter")
        assert float((got - wanted).abs().max()) <= 1e-5 * scale
