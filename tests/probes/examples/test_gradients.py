"""Scores at checkpoints equal closed forms, a slow version, Captum; the model stays as it was."""

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import memviz as mv
from memviz.probes.examples import (
    chosen_epochs,
    early_epochs,
    el2n,
    grand,
    loss_curvature,
    loss_sensitivity,
    tracin,
    tracin_influence,
)
from tests.support.traces import no_trace


class Values:
    """A task whose loss is the output itself."""

    def outputs(self, raw: Any) -> Tensor:
        return raw

    def predictions(self, outputs: Tensor) -> Tensor:
        return torch.zeros(len(outputs), dtype=torch.int64)

    def margin(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return -outputs[:, 0]

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return outputs[:, 0]


class Quadratic(nn.Module):
    """x'Ax / 2 + b'x."""

    def __init__(self, a: Tensor, b: Tensor) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(a), nn.Parameter(b)

    def forward(self, x: Tensor) -> Tensor:
        return ((x @ self.a * x).sum(1) / 2 + x @ self.b)[:, None]


def quadratic(a: Tensor, n: int = 3) -> mv.Study:
    a = a.double()
    model = Quadratic(a, torch.arange(len(a)).double()).eval()
    inputs = torch.randn(n, len(a), generator=torch.Generator().manual_seed(0)).double()
    return mv.Study(model, inputs, torch.zeros(n), {"test": range(n)}, task=Values())


@pytest.fixture
def study() -> mv.Study:
    """Three epochs of checkpoints, moving away from the first."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(27, 4)
        )
        model(torch.randn(50, 1, 5, 5))
        inputs, labels = torch.randn(12, 1, 5, 5), torch.arange(12) % 4
        states = {}
        for epoch in (0, 2, 5, 9):
            states[epoch] = copy.deepcopy(model.state_dict())
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter += 0.3 * torch.randn(parameter.shape)
    groups = {"clean": range(10), "test": [10, 11]}
    return mv.Study(model.eval(), inputs, labels, groups, checkpoints=states)


def at(study: mv.Study, epoch: int) -> nn.Module:
    model = copy.deepcopy(study.model)
    model.load_state_dict(study.checkpoints[epoch])
    return model.double()


def loss(model: nn.Module, x: Tensor, label: Tensor) -> Tensor:
    return nn.functional.cross_entropy(model(x[None].double()), label[None])


def test_curvature_of_a_diagonal_quadratic_is_exact_with_every_draw() -> None:
    a = torch.tensor([1.0, -2.0, 3.0, 0.5])
    for draws in (1, 4):
        found = loss_curvature(quadratic(torch.diag(a)), draws=draws)
        assert found.values == pytest.approx(float((a**2).sum()), rel=1e-6)


def test_curvature_of_a_quadratic_is_its_squared_frobenius_norm_in_the_mean() -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(5, 5, generator=generator)
    a = (a + a.T) / 2
    found = loss_curvature(quadratic(a, n=200), draws=50)  # 10,000 directions
    squared = a @ a
    spread = 2 * ((squared**2).sum() - (squared.diagonal() ** 2).sum())  # of one direction
    error = float((spread / 10_000) ** 0.5)
    assert abs(found.values.mean() - float((a**2).sum())) < 4 * error


def test_sensitivity_of_a_quadratic() -> None:
    study = quadratic(torch.eye(3))
    gradient = study.inputs + torch.arange(3)
    assert loss_sensitivity(study).values == pytest.approx(gradient.norm(dim=1).numpy())


def test_el2n_of_a_uniform_output() -> None:
    model = nn.Linear(4, 10).eval()
    with torch.no_grad():
        model.weight.zero_()
        model.bias.zero_()
    study = mv.Study(model, torch.randn(5, 4), [0, 3, 9, 9, 1], {"test": range(5)})
    assert el2n(study).values == pytest.approx((1 - 1 / 10) ** 0.5)


def test_tracin_of_one_step_of_a_linear_model() -> None:
    study = quadratic(torch.zeros(3, 3))  # the loss is b'x: its gradients are x and xx'/2
    x = study.inputs
    outer = torch.einsum("ni,nj->nij", x, x) / 2
    squared = x.square().sum(1) + outer.square().sum((1, 2))
    assert tracin(study, 0.3).values == pytest.approx(0.3 * squared.numpy(), rel=1e-5)
    assert grand(study).values == pytest.approx(squared.sqrt().numpy(), rel=1e-5)


def test_all_equal_one_example_at_a_time(study: mv.Study) -> None:
    """Plain autograd, an example and a checkpoint at a time, the mean by hand."""
    rows: dict[str, list[list[float]]] = {"sensitivity": [], "el2n": [], "grand": []}
    for epoch in (2, 5, 9):
        model = at(study, epoch)
        found: dict[str, list[float]] = {name: [] for name in rows}
        for x, label in zip(study.inputs, study.labels, strict=True):
            x = x.clone().double().requires_grad_()
            value = loss(model, x, label)
            weights = torch.autograd.grad(value, list(model.parameters()), retain_graph=True)
            found["grand"].append(float(torch.cat([g.flatten() for g in weights]).norm()))
            found["sensitivity"].append(float(torch.autograd.grad(value, x)[0].norm()))
            error = model(x[None])[0].softmax(0).detach()
            error[label] -= 1
            found["el2n"].append(float(error.norm()))
        for name, values in found.items():
            rows[name].append(values)
    tables = {name: np.array(table) for name, table in rows.items()}
    mean = tables["sensitivity"].mean(0)
    assert loss_sensitivity(study, progress=False).values == pytest.approx(mean, rel=1e-4)
    # The first third of nine epochs: epoch 2 alone.
    assert el2n(study, progress=False).values == pytest.approx(tables["el2n"][0], rel=1e-4)
    assert grand(study, progress=False).values == pytest.approx(tables["grand"][0], rel=1e-4)
    both = grand(study, epochs=[9, 5], progress=False)
    assert both.values == pytest.approx(tables["grand"][1:].mean(0), rel=1e-4)
    rates = {2: 0.1, 5: 0.05, 9: 0.01}
    expected = sum(rate * row**2 for rate, row in zip(rates.values(), tables["grand"], strict=True))
    assert tracin(study, rates, progress=False).values == pytest.approx(expected, rel=1e-4)


def test_curvature_equals_the_hessian_where_the_loss_is_smooth() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double().eval()
        inputs = torch.randn(3, 4).double()
    study = mv.Study(model, inputs, [0, 1, 2], {"test": range(3)})
    found = loss_curvature(study, draws=2000, progress=False)
    for k in range(3):
        hessian = torch.autograd.functional.hessian(
            lambda x, k=k: loss(model, x, study.labels[k]), inputs[k]
        )
        squared = hessian @ hessian
        spread = 2 * ((squared**2).sum() - (squared.diagonal() ** 2).sum())
        error = float((spread / 2000) ** 0.5)
        exact = float((hessian**2).sum())
        assert abs(found.values[k] - exact) < 4 * error + 0.02 * exact  # and steps of 1e-3


def test_captum_gives_the_same_self_influence(study: mv.Study) -> None:
    rates = {2: 0.1, 5: 0.05, 9: 0.01}
    ours = tracin(study, rates, progress=False)
    captum = tracin(study, rates, engine="captum", progress=False)
    assert captum.values == pytest.approx(ours.values, rel=1e-4)


def test_examples_are_those_asked_for(study: mv.Study) -> None:
    some = torch.tensor([7, 2, 11])
    for probe in (loss_sensitivity, el2n, grand):
        everything, few = probe(study, progress=False), probe(study, some, progress=False)
        assert few.examples.tolist() == [7, 2, 11]
        assert few.values == pytest.approx(everything.values[some], rel=1e-4)


def test_the_null_deals_each_checkpoint_anew(study: mv.Study) -> None:
    found = loss_sensitivity(study, progress=False)
    assert "each checkpoint dealt" in found.null.words
    assert found.null.mean == pytest.approx(found.values.mean(), rel=0.05)
    assert "mean over epochs 2, 5, 9" in found.measure
    study.checkpoints = {}
    assert "the model as it is" in loss_sensitivity(study, progress=False).measure
    assert loss_sensitivity(study, null_draws=0, progress=False).null is None


def test_no_trace_is_left(study: mv.Study) -> None:
    with no_trace(study.model):
        loss_curvature(study, draws=2, progress=False)
        loss_sensitivity(study, progress=False)
        el2n(study, progress=False)
        grand(study, progress=False)
        tracin(study, 0.1, progress=False)
        tracin(study, 0.1, engine="captum", progress=False)


def test_early_and_chosen_epochs(study: mv.Study) -> None:
    assert chosen_epochs(study, None) == [2, 5, 9]
    assert chosen_epochs(study, [9, 0]) == [0, 9]
    assert early_epochs(study) == [2]
    study.checkpoints = {0: {}, 8: {}, 9: {}}
    assert early_epochs(study) == [8]
    study.checkpoints = {0: {}}
    assert chosen_epochs(study, None) == [None]
    assert early_epochs(study) is None


def test_bad_input_gets_one_sentence(study: mv.Study) -> None:
    with pytest.raises(ValueError, match="epochs names epoch 3; .* epochs 0, 2, 5, 9"):
        el2n(study, epochs=[3])
    with pytest.raises(ValueError, match="epochs names no epoch"):
        grand(study, epochs=[])
    with pytest.raises(ValueError, match="learning_rates has none for epoch 5"):
        tracin(study, {2: 0.1})
    with pytest.raises(ValueError, match="engine is 'trak'; choose from"):
        tracin(study, 0.1, engine="trak")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="draws is 0"):
        loss_curvature(study, draws=0)
    with pytest.raises(ValueError, match="examples names 12"):
        loss_sensitivity(study, torch.tensor([12]))
    study.labels[3] = 4
    for probe in (loss_curvature, loss_sensitivity, el2n, grand):
        with pytest.raises(ValueError, match="the model gives 4 classes, .* the labels hold 4"):
            probe(study)
    study.labels[3] = 3
    study.checkpoints = {1: nn.Linear(3, 3).state_dict()}
    with pytest.raises(ValueError, match="epoch 1: the checkpoint is of another architecture"):
        el2n(study)


def test_inputs_without_gradients_get_one_sentence() -> None:
    model = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(8, 3)).eval()
    study = mv.Study(model, torch.randint(9, (5, 2)), [0, 1, 2, 0, 1], {"test": range(5)})
    for probe in (loss_curvature, loss_sensitivity):
        with pytest.raises(ValueError, match="floating-point tensor; these are torch.int64"):
            probe(study)
    assert grand(study, progress=False).values.shape == (5,)  # needs none


@pytest.mark.parametrize("rate", [-0.1, math.nan, math.inf, {2: 0.1, 5: -1.0, 9: 0.1}])
def test_a_learning_rate_is_a_finite_number_of_at_least_0(study: mv.Study, rate: Any) -> None:
    with pytest.raises(ValueError, match="a learning rate is a finite number of at least 0"):
        tracin(study, rate, progress=False)


def test_an_example_twice_is_refused(study: mv.Study) -> None:
    twice = torch.tensor([1, 2, 1])
    for score in (el2n, grand, loss_curvature, loss_sensitivity):
        with pytest.raises(ValueError, match="examples names an example twice"):
            score(study, twice, progress=False)
    with pytest.raises(ValueError, match="examples names an example twice"):
        tracin(study, 0.1, twice, progress=False)


def test_the_directions_of_an_example_depend_on_no_other_one(
    study: mv.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = loss_curvature(study, draws=2, null_draws=0, seed=4, progress=False)
    monkeypatch.setattr("memviz.probes.examples._input_gradients._BATCH", 5)
    for chosen in ([3], [11, 0, 3]):
        few = loss_curvature(
            study, torch.tensor(chosen), draws=2, null_draws=0, seed=4, progress=False
        )
        assert few.values == pytest.approx(whole.values[chosen], rel=1e-3)
    other = loss_curvature(study, draws=2, null_draws=0, seed=5, progress=False)
    assert not np.allclose(other.values, whole.values, rtol=0.01)


def test_numbers_to_predict_and_several_labels_have_gradients_of_their_own() -> None:
    torch.manual_seed(0)
    x = torch.randn(6, 4)
    groups = {"test": range(6)}
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)).eval()
    tasks = (
        (mv.tasks.Regression(0.5), torch.randn(6, 2) + 0.5),
        (mv.tasks.MultiLabel(), torch.randint(0, 2, (6, 2))),
    )
    for task, labels in tasks:
        study = mv.Study(model, x, labels, groups, task=task)
        sensitivity, norms = loss_sensitivity(study).values, grand(study).values
        rates = tracin(study, 0.5).values
        for k in range(6):
            given = x[[k]].requires_grad_()
            value = task.loss(task.outputs(model(given)), study.labels[[k]])[0]
            slope, *slopes = torch.autograd.grad(value, [given, *model.parameters()])
            norm = float(torch.cat([s.flatten() for s in slopes]).norm())
            assert sensitivity[k] == pytest.approx(float(slope.norm()), rel=1e-4)
            assert norms[k] == pytest.approx(norm, rel=1e-4)
            assert rates[k] == pytest.approx(0.5 * norm**2, rel=1e-4)
        with pytest.raises(ValueError, match="EL2N scores need one class per example"):
            el2n(study)


def test_influence_of_one_example_on_another_is_a_sum_of_products(study: mv.Study) -> None:
    test, train = torch.tensor([10, 3]), torch.tensor([0, 3, 7])
    rates = {2: 0.2, 9: 0.05}
    wanted = torch.zeros(2, 3).double()
    for epoch, rate in rates.items():
        model = at(study, epoch)
        parameters = list(model.parameters())

        gradients = {
            k: torch.cat([
                part.flatten()
                for part in torch.autograd.grad(
                    loss(model, study.inputs[k], study.labels[k]), parameters
                )
            ])
            for k in (0, 3, 7, 10)
        }  # fmt: skip
        for row, i in enumerate(test.tolist()):
            for column, j in enumerate(train.tolist()):
                wanted[row, column] += rate * (gradients[i] @ gradients[j])
    found = tracin_influence(study, rates, test, train, epochs=[2, 9], progress=False)
    assert found.dtype == torch.float64
    assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-6)
    own = tracin(study, rates, torch.tensor([3]), epochs=[2, 9], null_draws=0, progress=False)
    assert float(found[1, 1]) == pytest.approx(own.values[0], rel=1e-5)
    alone = tracin_influence(study, rates, test[1:], train[:1], epochs=[2, 9], progress=False)
    assert float(alone) == pytest.approx(float(found[1, 0]), rel=1e-6)
    masks = [torch.zeros(len(study)).bool().scatter(0, ids, True) for ids in (test, train)]
    order = test.argsort(), train.argsort()
    masked = tracin_influence(study, rates, *masks, epochs=[2, 9], progress=False)
    assert torch.equal(masked, found[order[0]][:, order[1]])
    with pytest.raises(ValueError, match="train names 99"):
        tracin_influence(study, rates, test, torch.tensor([99]))
    with pytest.raises(ValueError, match="a finite number of at least 0"):
        tracin_influence(study, -1.0, test, train)
    with pytest.raises(ValueError, match="learning_rates has none for epoch 5"):
        tracin_influence(study, rates, test, train)


@pytest.mark.parametrize(("dtype", "scale"), [(torch.float16, 4.0), (torch.float32, 1e5)])
def test_a_step_that_rounding_swallows_is_refused(dtype: torch.dtype, scale: float) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)).to(dtype)
    inputs = (scale * (1 + torch.rand(6, 4))).to(dtype)
    one = mv.Study(model.eval(), inputs, torch.zeros(6), {"test": range(6)})
    with pytest.raises(ValueError, match="is lost in the rounding of inputs .* give a larger step"):
        loss_curvature(one, progress=False)
