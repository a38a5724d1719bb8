"""Neurons of gated MLPs and of fused experts, against hooks and weights set to zero."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import memviz as mv
from tests.support.hugging_face import build
from tests.support.modules import (
    Hook,
    every_engine_agrees,
    every_engine_gives,
    outputs,
    study_of,
)


def layers_of(study: mv.Study, kind: str) -> list[mv.Layer]:
    return [layer for layer in mv.layers(study) if layer.kind == kind]


@pytest.mark.parametrize(
    ("name", "projection"), [("llama", "down_proj"), ("qwen3", "down_proj"), ("t5", "wo")]
)
def test_gated_mlps_of_hugging_face_models(name: str, projection: str) -> None:
    model, inputs = build(name)
    study = study_of(model, {"input_ids": inputs})
    mlps = layers_of(study, "neurons")
    assert [layer.units for layer in mlps] == [24] * (4 if name == "t5" else 2)
    hooks = {
        f"{mlp.name}:{unit}": Hook(f"{mlp.name}.{projection}", [unit])
        for mlp in (mlps[0], mlps[-1])
        for unit in (0, 5, 23)
    }
    every_engine_agrees(study, hooks)


class Halves(nn.Module):
    """Gate and rest are two halves of one linear map; a norm may follow their product."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.fc1, self.norm, self.fc2 = nn.Linear(6, 16), nn.LayerNorm(8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        both = self.fc1(x)
        if self.way == "glu":
            return self.fc2(F.glu(both, -1)).mean(1)
        gate, rest = (both[..., :8], both[..., 8:]) if self.way == "slices" else both.chunk(2, -1)
        if self.way == "clamped":
            return self.fc2((rest.clamp(-1, 1) + 1) * gate * torch.sigmoid(1.7 * gate)).mean(1)
        product = F.silu(gate) * rest
        return self.fc2(self.norm(product) if self.way == "norm" else product).mean(1)


@pytest.mark.parametrize("way", ["chunk", "slices", "glu", "norm"])
def test_gate_and_rest_in_one_linear_map(way: str) -> None:
    torch.manual_seed(0)
    study = study_of(Halves(way).eval(), torch.randn(4, 5, 6))
    (layer,) = layers_of(study, "neurons")
    assert (layer.name, layer.units) == ("", 8)
    every_engine_agrees(study, {f":{unit}": Hook("fc2", [unit]) for unit in range(8)})


class Plain(nn.Module):
    """GELU written out, as in GPT-2: a product of a tensor and a function of itself is no gate."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.fc1(x)
        return self.fc2(0.5 * hidden * (1 + torch.tanh(hidden + 0.04 * hidden.pow(3))))


def test_a_function_written_out_is_no_gate() -> None:
    torch.manual_seed(0)
    study = study_of(Plain().eval(), torch.randn(4, 6))
    assert [layer.name for layer in mv.layers(study)] == ["fc1", "fc2"]


def test_fused_experts_of_mixtral() -> None:
    model, inputs = build("mixtral")
    study = study_of(model, {"input_ids": inputs})
    experts = layers_of(study, "experts")
    assert [layer.name for layer in experts] == [
        f"model.layers.{block}.mlp.experts.{expert}" for block in range(2) for expert in range(4)
    ]
    assert {layer.units for layer in experts} == {24}
    wanted, clean = {}, outputs(study)
    for block, expert, unit in [(0, 0, 0), (0, 3, 23), (1, 1, 5), (1, 2, 7)]:
        weight = model.get_submodule(f"model.layers.{block}.mlp.experts").down_proj
        kept = weight.detach().clone()
        with torch.no_grad():
            weight[expert, :, unit] = 0  # [experts, features out, hidden features]
            wanted[f"model.layers.{block}.mlp.experts.{expert}:{unit}"] = outputs(study)
            weight.copy_(kept)
    every_engine_gives(study, wanted, clean)


def test_a_whole_expert() -> None:
    """Without an expert's neurons, what is routed to it passes the residual stream alone."""
    model, inputs = build("mixtral")
    study = study_of(model, {"input_ids": inputs})
    with torch.no_grad():
        weight = model.get_submodule("model.layers.0.mlp.experts").down_proj
        kept = weight.detach().clone()
        weight[2] = 0
        wanted = outputs(study)
        weight.copy_(kept)
    got = mv.Replay(study).outputs("model.layers.0.mlp.experts.2:0-23")
    assert torch.allclose(got, wanted, atol=1e-5)


def test_the_mean_of_an_experts_neuron_is_over_what_is_routed_to_it() -> None:
    model, inputs = build("mixtral")
    study = study_of(model, {"input_ids": inputs})
    name, unit = "model.layers.0.mlp.experts", 4
    module = model.get_submodule(name)
    model.config._experts_implementation = "eager"
    seen: list[Tensor] = []

    def down(value: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        ours = weight.shape == module.down_proj[1].shape and torch.equal(
            weight, module.down_proj[1]
        )
        if ours:
            seen.append(value.clone())
            value = value.clone()
            value[:, unit] = value[:, unit].mean()
        return torch.addmm(bias, value, weight.T) if bias is not None else value @ weight.T

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "linear", down)
        wanted = outputs(study)
    assert len(seen) == 1
    model.config._experts_implementation = "grouped_mm"
    got = mv.Replay(study).outputs(f"{name}.1:{unit}", "mean")
    assert torch.allclose(got, wanted, atol=1e-4)


def test_experts_elsewhere_are_refused_in_one_sentence() -> None:
    model, inputs = build("mixtral")
    study = study_of(model, {"input_ids": inputs})
    with pytest.raises(ValueError, match="has several layers of units; name one of them, '.*0'"):
        mv.sweep(study, "model.layers.0.mlp.experts:0", progress=False)
    assert not mv.estimate(study, "model.layers.0.mlp.experts.0:0").done.any()
    with pytest.raises(ValueError, match="other examples lie at other positions"):
        mv.Replay(study).outputs("model.layers.0.mlp.experts.0:0", "resample 1")
    few = mv.estimate(study)
    estimated = [unit for unit, done in zip(few.units, few.done, strict=True) if done]
    assert estimated and not any("experts" in unit.layer for unit in estimated)
    model.config._experts_implementation = "batched_mm"
    with pytest.raises(ValueError, match="set model.config._experts_implementation to 'grouped_mm"):
        mv.sweep(study, "model.layers.0.mlp.experts:0", progress=False)
