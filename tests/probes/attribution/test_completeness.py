"""Conductance in closed forms and by plain hooks, and the completeness error that is shown."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import memviz as mv
from memviz.probes.attribution import RULES, Attribution, Completeness, layer_attributions
from memviz.probes.attribution.localizers import layer_attribution


def study_of(model: nn.Module, inputs: Tensor, **more: object) -> mv.Study:
    n = len(inputs)
    labels = torch.arange(n) % 2
    groups = {"memorized": range(n // 2), "clean": range(n // 2, n)}
    return mv.Study(model.eval(), inputs, labels, groups, **more)


class Square(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.square()


class Residual(nn.Module):
    """A branch around the layer, so that the layer's conductances are not the whole change."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.skip, self.head = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.fc(x)) + self.skip(x))


class Twice(nn.Module):
    """One layer, used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.fc(torch.tanh(self.fc(x)))))


def smooth(dtype: torch.dtype = torch.float64) -> mv.Study:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), Square(), nn.Linear(5, 2)).to(dtype)
    return study_of(model, torch.randn(6, 4, dtype=dtype))


def convolutional(dtype: torch.dtype = torch.float32) -> mv.Study:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 2),
    )  # fmt: skip
    return study_of(model.to(dtype), torch.randn(6, 1, 6, 6, dtype=dtype))


def plain_conductance(study: mv.Study, layer: nn.Module, example: int, steps: int) -> Tensor:
    """Of each value of a layer's output: its slope to the logit × its change along the path.

    At the midpoints, by plain hooks; the change is that between two points very close by.
    """
    kept: list[Tensor] = []
    handle = layer.register_forward_hook(lambda _m, _i, output: kept.append(output))
    x, label = study.inputs[[example]], int(study.labels[example])
    parts = []
    for k in range(steps):
        kept.clear()
        middle = (k + 0.5) / steps
        study.model((middle - 1e-6) * x)
        study.model((middle + 1e-6) * x)
        logit = study.model((middle * x).requires_grad_())[0, label]
        (slope,) = torch.autograd.grad(logit, kept[2])
        parts.append(slope[0] * (kept[1] - kept[0]).detach()[0] / 2e-6 / steps)
    handle.remove()
    return torch.stack(parts).sum(0)


def change_of(study: mv.Study, examples: Tensor) -> Tensor:
    with torch.no_grad():
        x = study.inputs[examples]
        change = (study.model(x) - study.model(0 * x)).double()
    return change.gather(1, study.labels[examples][:, None])[:, 0]


def test_conductance_through_squares_in_closed_form() -> None:
    """Of w·(ax + b)² by one unit: w((ax + b)² − b²), whatever the number of steps."""
    study = smooth()
    first, head = study.model[0], study.model[2]
    examples = torch.tensor([0, 3, 4])
    hidden = study.inputs[examples] @ first.weight.T + first.bias
    wanted = head.weight[study.labels[examples]] * (hidden.square() - first.bias.square())
    # The slope is linear along the path: the midpoint rule and Gauss's are exact.
    for rule in ("riemann_middle", "gausslegendre"):
        found = layer_attributions(study, "0", examples, n_steps=2, rule=rule)
        assert torch.allclose(found, wanted, atol=1e-12)
        for unit in range(5):
            parts = mv.attribute_unit(study, f"0:{unit}", examples, n_steps=2, rule=rule)
            a, b = first.weight[unit], first.bias[unit]
            x = study.inputs[examples]
            ways = head.weight[study.labels[examples], unit] * (hidden[:, unit] + b)
            assert torch.allclose(parts, ways[:, None] * a * x, atol=1e-12)
        assert found.completeness is not None
        assert np.abs(found.completeness.errors).max() < 1e-12
    left = layer_attributions(study, "0", examples, n_steps=50, rule="riemann_left")
    assert left.completeness is not None and left.completeness.share > 1e-3


@pytest.mark.parametrize("layer", ["0", "5"])
def test_conductance_equals_slopes_times_changes_of_plain_hooks(layer: str) -> None:
    study = convolutional(torch.float64)
    for example in (0, 5):
        wanted = plain_conductance(study, study.model.get_submodule(layer), example, 7)
        found = layer_attributions(study, layer, [example], n_steps=7)[0]
        assert torch.allclose(found, wanted, atol=1e-7)
        scores = mv.attribute_layers(study, [example], layers=[layer], n_steps=7, null_draws=0)
        per_unit = wanted.reshape(len(wanted), -1).sum(1)
        assert scores.values == pytest.approx(per_unit.numpy(), abs=1e-7)


def test_a_layer_used_twice_has_the_conductance_of_both_uses() -> None:
    torch.manual_seed(0)
    study = study_of(Twice().double(), torch.randn(4, 4, dtype=torch.float64))
    x, label = study.inputs[[1]], int(study.labels[1])
    model, total = study.model, torch.zeros(4, dtype=torch.float64)
    for k in range(1000):  # the slow way: the layer written out as two layers

        def parts(point: float) -> tuple[Tensor, Tensor, Tensor]:
            first = model.fc(point * x).requires_grad_()
            second = model.fc(torch.tanh(first))
            return first, second, model.head(torch.tanh(second))[0, label]

        first, second, logit = parts((k + 0.5) / 1000)
        slopes = torch.autograd.grad(logit, [first, second])
        before, after = parts(k / 1000), parts((k + 1) / 1000)
        for place, slope in enumerate(slopes):
            total += (slope * (after[place] - before[place]))[0].detach()
    found = layer_attributions(study, "fc", [1], rule="gausslegendre")
    assert torch.allclose(found[0], total, atol=1e-6)
    with pytest.raises(ValueError, match="calls a layer's module 2 times.*method 'conductance'"):
        mv.attribute_layers(study, [1], "gradient_x_activation", layers=["fc"])


@pytest.mark.parametrize(
    "make", [smooth, convolutional, lambda: study_of(Residual(), torch.randn(6, 4))]
)
def test_the_completeness_error_is_the_sum_less_the_logits_change(
    make: Callable[[], mv.Study],
) -> None:
    torch.manual_seed(0)
    study, examples = make(), torch.tensor([4, 1])
    change = change_of(study, examples).numpy()
    found = mv.attribute_inputs(study, examples, n_steps=3)
    assert isinstance(found, Attribution) and found.completeness is not None
    assert found.completeness.changes == pytest.approx(change, abs=1e-6)
    missed = found.flatten(1).sum(1).double().numpy() - change
    assert found.completeness.errors == pytest.approx(missed, abs=1e-5)
    assert "completeness error: " in repr(found) and "riemann_middle, 3 steps" in repr(found)
    for method in ("conductance", "internal_influence"):
        scores = mv.attribute_layers(study, examples, method, n_steps=3, null_draws=0)
        assert scores.completeness is not None
        # The same path: also where a branch leads around the layer.
        for errors in scores.completeness.errors:
            assert errors == pytest.approx(missed, abs=1e-5)
        assert "completeness error: " in repr(scores) + scores._repr_html_()
        shares = scores.frame["completeness_error"].to_numpy()
        assert shares == pytest.approx(np.abs(missed).mean() / np.abs(change).mean(), abs=1e-4)
    unit = mv.attribute_unit(study, mv.Unit(mv.layers(study)[0].name, 1), examples, n_steps=3)
    assert unit.completeness is not None
    assert unit.completeness.errors == pytest.approx(missed, abs=1e-5)


def test_layer_integrated_gradients_are_complete_about_the_layers_own_change() -> None:
    torch.manual_seed(0)
    study = study_of(Residual(), torch.randn(6, 4))
    model, examples = study.model, torch.arange(6)
    with torch.no_grad():
        x = study.inputs
        without = model.head(torch.tanh(model.fc(0 * x)) + model.skip(x))
        change = (model(x) - without).gather(1, study.labels[:, None])[:, 0].double().numpy()
    scores = mv.attribute_layers(
        study, examples, "integrated_gradients", layers=["fc"], null_draws=0
    )
    assert scores.completeness is not None
    assert scores.completeness.changes[0] == pytest.approx(change, abs=1e-6)
    assert scores.values.sum() == pytest.approx(change.mean(), abs=0.01)
    unit = mv.attribute_unit(study, "fc:2", examples, "integrated_gradients", n_steps=5)
    assert unit.completeness is not None
    hidden = (study.inputs @ model.fc.weight[2]).detach().double().numpy()
    assert unit.completeness.changes == pytest.approx(hidden, abs=1e-5)
    assert unit.completeness.share < 1e-5


def test_the_digits_meet_one_percent_at_the_steps_that_are_used(digits: mv.Study) -> None:
    examples = torch.cat([digits.group(name)[:20] for name in digits.groups])
    change = change_of(digits, examples)
    scores = mv.attribute_layers(digits, examples, null_draws=0)
    for layer in {unit.layer for unit in scores.units or ()}:
        rows = [row for row, unit in enumerate(scores.units or ()) if unit.layer == layer]
        assert scores.values[rows].sum() == pytest.approx(float(change.mean()), rel=0.005)
    assert scores.completeness is not None
    assert scores.completeness.share.max() < 0.01
    inputs = mv.attribute_inputs(digits, examples)
    assert inputs.completeness is not None and inputs.completeness.share < 0.01
    missed = inputs.flatten(1).sum(1).double() - change
    assert float(missed.abs().mean() / change.abs().mean()) < 0.01


def test_the_localizers_show_it_too() -> None:
    study = convolutional()
    for method in ("conductance", "integrated_gradients"):
        scores = layer_attribution(study, method)
        assert scores.completeness is not None
        assert scores.completeness.errors.shape == (2, 6)
        for name, errors in zip(
            study.groups, np.split(scores.completeness.errors, 2, 1), strict=True
        ):
            alone = mv.attribute_layers(study, study.group(name), method, n_steps=32, null_draws=0)
            assert alone.completeness is not None
            assert errors == pytest.approx(alone.completeness.errors, abs=1e-6)
        assert "32 steps" in repr(scores)
    assert layer_attribution(study, "gradient_x_activation").completeness is None


def test_the_localizers_meet_one_percent_on_the_digits(digits: mv.Study) -> None:
    scores = layer_attribution(digits, "conductance")
    assert scores.completeness is not None
    assert scores.completeness.share.max() < 0.01


def test_double_precision_stays() -> None:
    study = smooth()
    assert mv.attribute_inputs(study, [0]).dtype == torch.float64
    assert mv.attribute_unit(study, "0:1", [0]).dtype == torch.float64
    assert layer_attributions(study, "0", [0]).dtype == torch.float64
    single = smooth(torch.float32)
    assert layer_attributions(single, "0", [0]).dtype == torch.float32
    scores = mv.attribute_layers(study, [2], rule="gausslegendre", null_draws=0)
    assert scores.values.sum() == pytest.approx(float(change_of(study, torch.tensor([2]))), 1e-12)


def test_layer_attributions_keep_examples_units_and_positions() -> None:
    study = convolutional()
    for method in ("conductance", "gradient_x_activation", "activation", "integrated_gradients"):
        found = layer_attributions(study, "0", [5, 2, 5], method, n_steps=4)
        assert found.shape == (3, 3, 4, 4)
        assert torch.equal(found[0], found[2])
        scores = mv.attribute_layers(study, [5, 2], method, layers=["0"], n_steps=4, null_draws=0)
        assert found[:2].flatten(2).sum(2).mean(0).numpy() == pytest.approx(scores.values, abs=1e-5)


def test_a_layer_that_the_logit_does_not_depend_on_gets_zero() -> None:
    class Aside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.aside, self.head = nn.Linear(4, 3), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"aside": self.aside(x), "logits": self.head(x)}

    study = study_of(Aside(), torch.randn(6, 4))
    for method in ("conductance", "gradient_x_activation", "integrated_gradients"):
        scores = mv.attribute_layers(study, [0, 1], method, layers=["aside"], null_draws=0)
        assert not scores.values.any()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"rule": "riemann_trapezoid"}, r"weights add up to 1 - 1/n_steps, not 1; choose from"),
        ({"rule": "simpson"}, "rule is 'simpson'; choose from riemann_middle, gausslegendre"),
        ({"n_steps": 1}, "n_steps is 1; give a whole number of at least 2"),
        ({"n_steps": 2.5}, r"n_steps is 2\.5; give a whole number"),
        ({"layers": []}, "layers is empty; name at least one, or leave it out for all"),
        ({"layers": ["0", "0"]}, "layers names '0' twice"),
        ({"examples": [1, 1]}, "examples names an example twice"),
    ],
)
def test_what_is_refused(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        mv.attribute_layers(smooth(), **{"examples": [0], **wrong})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        ([0], r"targets is torch\.int64 of shape \[1\] for 2 examples"),
        ([0.0, 1.0], r"targets is torch\.float32"),
        ([True, False], r"targets is torch\.bool"),
        ([0, 2], "target 2 is outside the model's 2 classes, 0 to 1"),
        ([0, -1], "target -1 is outside"),
    ],
)
def test_targets_that_do_not_fit(targets: list[float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        mv.attribute_inputs(smooth(), [0, 1], targets=torch.tensor(targets))


def test_a_model_with_no_layer_before_the_last() -> None:
    study = study_of(nn.Linear(4, 2), torch.randn(4, 4))
    with pytest.raises(ValueError, match="no convolution or linear layer before its output layer"):
        mv.attribute_layers(study, [0])


def test_completeness_of_several_batches_is_joined() -> None:
    parts = [Completeness(np.ones((2, n)), np.full((2, n), 2.0), "a rule") for n in (3, 1)]
    whole = Completeness.join(parts)
    assert whole.errors.shape == (2, 4)
    assert whole.share.tolist() == [0.5, 0.5]
    assert set(RULES) >= {"riemann_middle", "gausslegendre"}
