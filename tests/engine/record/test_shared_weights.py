"""A weight that two layers share: each module is its own layer."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import memviz as mv
from tests.support.hugging_face import build
from tests.support.modules import Hook, every_engine_agrees, study_of


class Twins(nn.Module):
    """Two layers with one weight and biases of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.b(self.a(x).tanh()).tanh())


class TwinConvs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.b.weight, self.head = self.a.weight, nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.b(self.a(x)).mean((2, 3)))


class Autoencoder(nn.Module):
    """The decoder is the encoder's weight, transposed: its features are no units of the encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.head = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.linear(self.encoder(x), self.encoder.weight.t()))


class CalledByHand(nn.Module):
    """The weight passed to functions, in three ways, beside the module's own call."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.head = nn.Linear(6, 6, bias=False), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x).tanh()
        x = F.linear(input=x, weight=self.a.weight).tanh()
        return self.head((x @ self.a.weight.T).tanh())


def two_layers(kind: Callable[[], nn.Module], *shape: int) -> mv.Study:
    torch.manual_seed(0)
    return study_of(kind().eval(), torch.randn(4, *shape))


def test_each_module_is_a_layer() -> None:
    study = two_layers(Twins, 6)
    assert [layer.name for layer in mv.layers(study)] == ["a", "b", "head"]
    hooks = {f"a:{unit}": Hook("b", [unit]) for unit in range(6)}
    hooks |= {f"b:{unit}": Hook("head", [unit]) for unit in range(6)}
    every_engine_agrees(study, hooks)


def test_convolutions() -> None:
    study = two_layers(TwinConvs, 4, 5, 5)
    hooks = {f"{n}:{unit}": Hook(n, [unit], "out", 1) for n in "ab" for unit in range(4)}
    every_engine_agrees(study, hooks)


def test_filter_ablation_leaves_each_its_own_bias() -> None:
    study = two_layers(Twins, 6)
    model, replay = study.model, mv.Replay(study)
    with torch.no_grad():
        for unit in range(6):
            hidden = model.a(study.inputs)
            hidden[:, unit] = model.a.bias[unit]
            wanted = model.head(model.b(hidden.tanh()).tanh())
            assert torch.allclose(replay.outputs(f"a:{unit}", "filter"), wanted, atol=1e-6)
            hidden = model.b(model.a(study.inputs).tanh())
            hidden[:, unit] = model.b.bias[unit]
            wanted = model.head(hidden.tanh())
            assert torch.allclose(replay.outputs(f"b:{unit}", "filter"), wanted, atol=1e-6)


def test_a_transposed_weight_has_other_units() -> None:
    study = two_layers(Autoencoder, 6)
    hooks = {f"encoder:{k}": Hook("encoder", [k], "out") for k in range(6)}
    every_engine_agrees(study, hooks)


def test_a_weight_passed_to_functions() -> None:
    study = two_layers(CalledByHand, 6)
    model, replay = study.model, mv.Replay(study)
    assert len(replay.located["a"].unit_sites) == 3
    keep = torch.ones(6)
    keep[2] = 0
    with torch.no_grad():
        hidden = study.inputs
        for _ in range(3):
            hidden = F.linear(hidden, model.a.weight).tanh() * keep
        wanted = model.head(hidden)
    assert torch.allclose(replay.outputs("a:2"), wanted, atol=1e-6)


class OnlyByFunction(nn.Module):
    """Two modules share the weight, and a function uses it: whose units are those?."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.linear(x, self.a.weight))


def test_a_shared_weight_that_a_function_uses() -> None:
    study = two_layers(OnlyByFunction, 6)
    assert [layer.name for layer in mv.layers(study)] == ["head"]
    with pytest.raises(ValueError, match="'a' .Linear. shares its weight with 'b'"):
        mv.sweep(study, "a:0", progress=False)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_head_tied_to_an_embedding(name: str) -> None:
    import transformers as hf

    model, inputs = build(name)
    kinds = {"gpt2": hf.GPT2LMHeadModel, "llama": hf.LlamaForCausalLM}
    model.config.tie_word_embeddings = True
    with torch.random.fork_rng():
        torch.manual_seed(0)
        language = kinds[name](model.config).eval()
    embedding = language.get_input_embeddings()
    assert language.lm_head.weight is embedding.weight

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.language, self.read = language, nn.Linear(50, 3)

        def forward(self, input_ids: Tensor) -> Tensor:
            return self.read(self.language(input_ids).logits[:, -1])

    study = study_of(Last().eval(), {"input_ids": inputs})
    assert "language.lm_head" in [layer.name for layer in mv.layers(study)]
    hooks = {f"language.lm_head:{k}": Hook("language.lm_head", [k], "out") for k in (0, 7, 49)}
    every_engine_agrees(study, hooks)
