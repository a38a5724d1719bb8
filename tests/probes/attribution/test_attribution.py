"""Captum's attributions on any Study: by name, in closed form, and without a trace."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import memviz as mv
from memviz.probes.attribution import INPUT_METHODS, LAYER_METHODS, RULES, UNIT_METHODS

# Captum says so each time it sets hooks; it removes them itself.
pytestmark = pytest.mark.filterwarnings("ignore:Setting .*backward hooks:UserWarning")


class Conv(nn.Module):
    """In-place ReLUs, each used once, as DeepLift wants."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(2, 4, 3), nn.ReLU(inplace=True)
        self.fc, self.act = nn.Linear(4 * 16, 5), nn.ReLU(inplace=True)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv(x))
        return self.head(self.act(self.fc(x.flatten(1))))


def study_of(model: nn.Module, *shape: int) -> mv.Study:
    inputs = torch.randn(6, *shape)
    return mv.Study(model.eval(), inputs, torch.arange(6) % 3, {"test": range(6)})


def conv() -> mv.Study:
    torch.manual_seed(0)
    return study_of(Conv(), 2, 6, 6)


def mlp() -> mv.Study:
    torch.manual_seed(0)
    return study_of(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), 4)


def linear() -> mv.Study:
    """Two linear layers with nothing between: everything about it is known."""
    torch.manual_seed(0)
    return study_of(nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 3)), 4)


NETS: dict[str, Callable[[], mv.Study]] = {"conv": conv, "mlp": mlp}
EXAMPLES = [4, 0, 5]


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("method", INPUT_METHODS)
def test_every_input_method(net: str, method: str) -> None:
    study = NETS[net]()
    found = mv.attribute_inputs(study, EXAMPLES, method, n_steps=4)
    assert found.shape == study.inputs[EXAMPLES].shape
    assert found.isfinite().all() and found.any() and not found.requires_grad


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("method", LAYER_METHODS)
def test_every_layer_method(net: str, method: str) -> None:
    study = NETS[net]()
    scores = mv.attribute_layers(study, EXAMPLES, method, n_steps=4)
    layers = [layer for layer in mv.layers(study) if not layer.is_output]
    assert len(scores) == sum(layer.units for layer in layers)
    assert np.isfinite(scores.values).all() and scores.values.any()
    assert scores.null is not None and scores.null.values.shape == (1, len(scores))
    assert not np.allclose(scores.null.values[0], scores.values)
    assert LAYER_METHODS[method] in scores.source


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("method", UNIT_METHODS)
def test_every_unit_method(net: str, method: str) -> None:
    study = NETS[net]()
    unit = "conv:2" if net == "conv" else mv.Unit("0", 2)
    found = mv.attribute_unit(study, unit, EXAMPLES, method, n_steps=4)
    assert found.shape == study.inputs[EXAMPLES].shape
    assert found.isfinite().all() and not found.requires_grad


def test_input_x_gradient_in_closed_form() -> None:
    study = linear()
    first, second = study.model[0], study.model[1]
    whole = second.weight @ first.weight  # logits by inputs
    for targets in (None, torch.tensor([2, 2, 0])):
        found = mv.attribute_inputs(study, EXAMPLES, "input_x_gradient", targets=targets)
        goal = study.labels[EXAMPLES] if targets is None else targets
        assert torch.allclose(found, whole[goal] * study.inputs[EXAMPLES], atol=1e-6)


def test_conductance_in_closed_form() -> None:
    """Of a linear model: the unit's weight to the label × what the input adds to the unit."""
    study = linear()
    first, second = study.model[0], study.model[1]
    inputs, labels = study.inputs[EXAMPLES], study.labels[EXAMPLES]
    wanted = (second.weight[labels] * (inputs @ first.weight.T)).mean(0)
    for rule in RULES:
        for steps in (2, 20):
            scores = mv.attribute_layers(study, EXAMPLES, n_steps=steps, rule=rule, null_draws=0)
            assert scores.null is None
            assert scores.values == pytest.approx(wanted.detach().numpy(), abs=1e-6)
            unit = mv.attribute_unit(study, "0:3", EXAMPLES, n_steps=steps, rule=rule)
            by_hand = second.weight[labels, 3:4] * first.weight[3] * inputs
            assert torch.allclose(unit, by_hand, atol=1e-6)
    assert [str(unit) for unit in scores.units or ()] == [f"0:{k}" for k in range(5)]


def test_gradient_x_activation_in_closed_form() -> None:
    study = linear()
    hidden = study.model[0](study.inputs[EXAMPLES])
    wanted = (study.model[1].weight[study.labels[EXAMPLES]] * hidden).mean(0).detach()
    found = mv.attribute_layers(study, EXAMPLES, "gradient_x_activation", null_draws=0)
    assert found.values == pytest.approx(wanted.numpy(), abs=1e-5)


def test_a_units_conductance_sums_to_the_layers() -> None:
    """Over the input's parts, at any number of steps; for a channel with 16 places too."""
    for study, layer in ((conv(), "conv"), (linear(), "0"), (mlp(), "0")):
        whole = mv.attribute_layers(study, [3], layers=[layer], n_steps=7, null_draws=0)
        for row in (0, 3):
            parts = mv.attribute_unit(study, f"{layer}:{row}", [3], n_steps=7)
            assert float(parts.sum()) == pytest.approx(whole.values[row], abs=1e-6)


def test_a_units_gradient_in_closed_form() -> None:
    study = linear()
    found = mv.attribute_unit(study, "0:3", EXAMPLES, "gradient")
    assert torch.allclose(found, study.model[0].weight[3].expand(3, 4), atol=1e-6)
    conv_study = conv()
    inputs = conv_study.inputs[[1]].clone().requires_grad_()
    channel = conv_study.model.conv(inputs)[:, 2].sum()
    (wanted,) = torch.autograd.grad(channel, inputs)
    found = mv.attribute_unit(conv_study, "conv:2", [1], "gradient")
    assert torch.allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize("net", [*NETS, "linear"])
def test_integrated_gradients_are_complete(net: str) -> None:
    """They sum to the logit minus the baseline's logit (Sundararajan et al. 2017, axiom 1)."""
    study = {**NETS, "linear": linear}[net]()
    found = mv.attribute_inputs(study, EXAMPLES, n_steps=200)
    with torch.no_grad():
        inputs = study.inputs[EXAMPLES]
        change = study.model(inputs) - study.model(torch.zeros_like(inputs))
    wanted = change.gather(1, study.labels[EXAMPLES][:, None])[:, 0]
    assert torch.allclose(found.flatten(1).sum(1), wanted, atol=0.01)


@pytest.mark.parametrize("method", INPUT_METHODS)
@pytest.mark.parametrize("net", NETS)
def test_with_units_ablated_it_is_that_of_a_net_without_them(net: str, method: str) -> None:
    study, smaller = NETS[net](), NETS[net]()
    layer, units = ("conv", [0, 2]) if net == "conv" else ("0", [1, 5])
    with torch.no_grad():
        module = smaller.model.get_submodule(layer)
        module.weight[units], module.bias[units] = 0.0, 0.0  # ReLU of nothing is nothing
    wanted = mv.attribute_inputs(smaller, EXAMPLES, method, n_steps=10)
    found = mv.attribute_inputs(study, EXAMPLES, method, units={layer: units}, n_steps=10)
    assert torch.allclose(found, wanted, atol=1e-6)
    untouched = mv.attribute_inputs(study, EXAMPLES, method, n_steps=10)
    assert not torch.allclose(found, untouched, atol=1e-4)


def test_digits_with_the_first_layer_ablated_say_nothing(digits: mv.Study) -> None:
    found = mv.attribute_inputs(digits, [0, 1], "saliency", units="conv1:0-47")
    assert found.shape == (2, 1, 8, 8) and not found.any()


@pytest.mark.parametrize("function", ["inputs", "layers", "unit"])
def test_an_unknown_method(function: str) -> None:
    study = mlp()
    calls: dict[str, Callable[[str], Any]] = {
        "inputs": lambda name: mv.attribute_inputs(study, [0], name),
        "layers": lambda name: mv.attribute_layers(study, [0], name),
        "unit": lambda name: mv.attribute_unit(study, "0:1", [0], name),
    }
    with pytest.raises(ValueError, match=r"'deep_lifd' is not .*; did you mean 'deep_lift'"):
        calls[function]("deep_lifd")
    with pytest.raises(ValueError, match=r"'shap' is not an attribution of .*; choose from "):
        calls[function]("shap")


def test_wrong_layers_and_units() -> None:
    study = mlp()
    with pytest.raises(KeyError, match="there is no layer '7' with units"):
        mv.attribute_layers(study, [0], layers=["7"])
    with pytest.raises(IndexError, match="layer '0' has 8 units, 0 to 7; there is no unit 8"):
        mv.attribute_unit(study, "0:8", [0])
    with pytest.raises(ValueError, match="'0:1,2' names 2 units; attribute_unit takes exactly one"):
        mv.attribute_unit(study, "0:1,2", [0])


class Attends(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn, self.head = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.attn(x, x, x, need_weights=False)[0].mean(1))


def test_heads_are_refused() -> None:
    study = study_of(Attends(), 5, 8)
    with pytest.raises(ValueError, match=r"has attention heads.*use sweep\(\) or estimate\(\)"):
        mv.attribute_layers(study, [0], layers=["attn"])
    with pytest.raises(ValueError, match="has attention heads"):
        mv.attribute_unit(study, "attn:1", [0])


@pytest.mark.parametrize("inputs", [torch.randint(0, 9, (6, 4)), {"x": torch.ones(6, 4).long()}])
def test_inputs_without_gradients(inputs: Any) -> None:
    study = mlp()
    study.inputs = inputs
    with pytest.raises(ValueError, match=r"no nn\.Embedding of the model looks .*token indices"):
        mv.attribute_inputs(study, [0])


def test_in_place_flags_come_back_after_an_exception() -> None:
    study = conv()

    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    handle = study.model.act.register_forward_hook(fail)
    for use in (
        lambda: mv.attribute_inputs(study, [0]),
        lambda: mv.attribute_inputs(study, [0], "deep_lift", units="conv:1"),
    ):
        with pytest.raises(ZeroDivisionError):
            use()
        assert study.model.relu.inplace and study.model.act.inplace
    handle.remove()
    mv.attribute_layers(study, [0], n_steps=2)
    assert study.model.relu.inplace and study.model.act.inplace
    assert len(study.model.act._forward_hooks) == 0


def test_work_can_be_stopped_between_layers() -> None:
    asked = iter([False, True])
    scores = mv.attribute_layers(
        conv(), [0], n_steps=2, null_draws=0, stop=lambda: next(asked, True)
    )
    assert np.isfinite(scores.values[:4]).all() and np.isnan(scores.values[4:]).all()
    assert len(scores.order()) == 4


def test_batches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    study = conv()
    wanted = mv.attribute_layers(study, range(6), n_steps=4, null_draws=0).values
    monkeypatch.setattr("memviz.probes.attribution._layer_values.BATCH", 4)
    found = mv.attribute_layers(study, range(6), n_steps=4, null_draws=0).values
    assert found == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("examples", [torch.tensor([True, False]), [-1], [1.7], [99], []])
def test_a_mask_or_an_index_outside_the_study_is_refused(examples: object) -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    study = mv.Study(model, torch.randn(6, 4), torch.zeros(6), {"test": range(6)})
    for attribute in (
        mv.attribute_inputs,
        mv.attribute_layers,
        lambda study, examples: mv.attribute_unit(study, "0:1", examples),
    ):
        with pytest.raises(ValueError, match="example"):
            attribute(study, examples)
