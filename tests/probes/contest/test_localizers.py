"""Localizers on nets small enough to know the right answer by hand."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import memviz as mv
from memviz.probes.attribution.localizers import feature_ablation, grad_cam
from memviz.probes.contest import BLIND, LOCALIZERS, Truth, contest
from memviz.probes.contest.localizers import (
    activation,
    exact_ablation,
    gradient_estimate,
    unit_tracin,
)
from memviz.probes.lm_localization.localizers import LOCALIZERS as OF_LANGUAGE
from memviz.probes.localization.localizers import critical_share
from memviz.study import sides
from tests.support.planted import planted


class Convolution(nn.Module):
    """Three channels kept apart, their mean, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(3, 3, 1, bias=False), nn.ReLU()
        self.head = nn.Linear(3, 2, bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(torch.eye(3)[:, :, None, None])
            self.head.weight.copy_(torch.tensor([[0.0, 1.0, 0.0], [3.0, 0.0, 1.0]]))

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.relu(self.conv(x)).mean((2, 3)))
        return found


def photographs() -> mv.Study:
    """Example 0 has a channel of its own at 2; it and the even ones fire channel 1, odd ones 2."""
    strengths = torch.zeros(5, 3)
    strengths[0] = torch.tensor([2.0, 1.0, 0.0])
    strengths[1::2, 2] = 1
    strengths[2::2, 1] = 1
    images = strengths[:, :, None, None] * torch.tensor([[0.5, 1.5], [1.0, 1.0]])
    labels = torch.tensor([1, 1, 0, 1, 0])
    groups = {"memorized": [0], "clean": range(1, 5)}
    return mv.Study(Convolution().eval(), images, labels, groups)


@pytest.mark.parametrize(
    "name", sorted(set(LOCALIZERS) - {"GradCam", "high entropy", *OF_LANGUAGE})
)
def test_two_memory_units_are_found(name: str) -> None:
    assert LOCALIZERS[name](planted()).top(2) == mv.UnitSet.parse("0:0,1")


def test_high_entropy_names_the_units_of_many_examples() -> None:
    assert LOCALIZERS["high entropy"](planted()).top(2) == mv.UnitSet.parse("0:2,3")


@pytest.mark.parametrize("name", ["low entropy", "high entropy", "low mutual information"])
def test_units_that_never_change_are_left_unknown(name: str) -> None:
    values = LOCALIZERS[name](planted()).values
    assert np.isnan(values).tolist() == [False] * 4 + [True, True]


def test_exact_and_estimated_effects_in_closed_form() -> None:
    # Memorized: 3 logits of one of two, and a rival of 1; clean: half of them lose all they have.
    expected = [1.5, 1.5, -0.5 - 0.5, -0.5 - 0.5, 0, 0]
    for localizer in (exact_ablation, gradient_estimate):
        assert localizer(planted()).values == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    "name", ["conductance", "integrated gradients", "gradient × activation", "feature ablation"]
)
def test_captum_on_labels_in_closed_form(name: str) -> None:
    # The label's logit: memory units carry 3 of one of two, class units 1 of half of the clean.
    values = LOCALIZERS[name](planted()).values
    # Conductance is a sum of ten steps that leaves out both ends of the way.
    near = 0.05 if name == "conductance" else 1e-5
    assert values == pytest.approx([1.5, 1.5, -0.5, -0.5, 0, 0], abs=near)


@pytest.mark.parametrize("localizer", [grad_cam, feature_ablation])
def test_captum_on_channels_in_closed_form(localizer: object) -> None:
    assert callable(localizer)
    assert localizer(photographs()).values == pytest.approx([6.0, -0.5, -0.5], abs=1e-5)


class Sequences(nn.Module):
    """A layer over places, of any kind, a ReLU, the mean over places and a head."""

    def __init__(self, layer: nn.Module, axis: int) -> None:
        super().__init__()
        self.layer, self.relu, self.head, self.axis = layer, nn.ReLU(), nn.Linear(5, 3), axis

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.relu(self.layer(x)).mean(self.axis))
        return found


@pytest.mark.parametrize(("kind", "axis"), [(nn.Linear, 1), (partial(nn.Conv1d, kernel_size=2), 2)])
def test_feature_ablation_of_units_with_places_equals_a_hook(
    kind: Callable[[int, int], nn.Module], axis: int
) -> None:
    torch.manual_seed(0)
    model = Sequences(kind(4, 5), axis).eval()
    groups = {"memorized": range(2), "clean": range(2, 6)}
    study = mv.Study(model, torch.randn(6, 4, 4), torch.arange(6) % 3, groups)

    def logits(*ablated: int) -> Tensor:
        def zero(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
            return output.index_fill(3 - axis, torch.tensor(ablated, dtype=torch.int64), 0.0)

        with torch.no_grad(), model.layer.register_forward_hook(zero):
            found: Tensor = model(study.inputs).gather(1, study.labels[:, None])[:, 0]
        return found

    lost = [logits() - logits(unit) for unit in range(5)]
    expected = [float(each[:2].mean() - each[2:].mean()) for each in lost]
    assert feature_ablation(study).values == pytest.approx(expected, abs=1e-6)


def test_grad_cam_knows_convolutions_only() -> None:
    with pytest.raises(ValueError, match="GradCam is for convolutions, and this model has none"):
        grad_cam(planted())


def test_activation_and_critical_units_in_closed_form() -> None:
    assert activation(planted()).values == pytest.approx([0.5, 0.5, 0, 0, 0, 0])
    found = critical_share(planted()).values
    # Each example is flipped by its own unit; a clean one by that of its class.
    assert found == pytest.approx([0.5, 0.5, -0.5, -0.5, 0, 0])


def test_tracin_equals_a_slow_version() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    groups = {"memorized": range(3), "clean": range(3, 7)}
    study = mv.Study(model.eval(), torch.randn(7, 3), torch.arange(7) % 3, groups)
    expected = []
    for module in (model[0], model[2]):
        assert isinstance(module, nn.Linear)
        squares = torch.zeros(7, module.out_features)
        for example in range(7):
            model.zero_grad()
            logits = model(study.inputs[example : example + 1])  # type: ignore[index]
            nn.functional.cross_entropy(logits, study.labels[example : example + 1]).backward()
            assert module.weight.grad is not None and module.bias.grad is not None
            squares[example] = module.weight.grad.square().sum(1) + module.bias.grad.square()
        expected += (squares[:3].mean(0) - squares[3:].mean(0)).tolist()
    model.zero_grad()
    assert unit_tracin(study).values == pytest.approx(expected, rel=1e-4, abs=1e-7)


def test_many_examples_are_drawn_and_always_the_same() -> None:
    groups = {"memorized": range(5), "clean": range(5, 400)}
    study = mv.Study(nn.Linear(2, 3).eval(), torch.zeros(400, 2), torch.zeros(400), groups)
    mine, rest = sides(study)
    assert mine.tolist() == list(range(5)) and len(rest) == 120
    assert len(rest.unique()) == 120 and 5 <= rest.min() and rest.max() < 400
    assert torch.equal(rest, sides(study)[1])


def test_a_study_without_a_second_group_is_refused() -> None:
    study = mv.Study(nn.Linear(2, 3).eval(), torch.zeros(4, 2), torch.zeros(4), {"all": range(4)})
    with pytest.raises(ValueError, match="this study has only the group 'all'"):
        sides(study)


def test_no_localizer_leaves_a_trace_or_touches_the_generator() -> None:
    study = photographs()
    before = {key: value.clone() for key, value in study.model.state_dict().items()}
    state = torch.get_rng_state()
    found = contest([Truth("channel", study, "conv:0")], progress=False)
    assert torch.equal(torch.get_rng_state(), state)
    after = study.model.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert all(parameter.grad is None for parameter in study.model.parameters())
    assert all(not m._forward_hooks and not m._backward_hooks for m in study.model.modules())
    # It has too few examples; those of passages are passed over.
    assert set(found.refused) == {("channel", "low mutual information")}
    assert not set(OF_LANGUAGE) & set(found.localizers)
    told = found.table().loc[
        [name for name in LOCALIZERS if name not in BLIND | set(OF_LANGUAGE)], "channel"
    ]
    assert told.eq(1.0).all()
