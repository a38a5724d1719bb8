"""Random networks: measured batch norm whatever the order of the examples, and what is refused."""

import pytest
import torch
from torch import nn

import memviz as mv
from memviz.training.random_network import (
    random_network,
    with_batch_norm_of,
    without_initializer,
)
from tests.support.traces import no_trace


def normed(norm: nn.Module | None = None) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), norm or nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 2)
        ).eval()


def study(model: nn.Module, n: int = 40) -> mv.Study:
    images = 3 + torch.rand(n, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    return mv.Study(model, images, torch.zeros(n), {"a": range(n)})


def test_batch_norm_is_that_of_the_examples_in_any_order() -> None:
    given = study(normed())
    examples = torch.arange(5, 35)
    with no_trace(given.model):
        one = random_network(given, examples)
        other = random_network(given, examples.flip(0))
    with torch.no_grad():
        raw = one[0](given.inputs[examples])
    torch.testing.assert_close(one[1].running_mean, raw.mean((0, 2, 3)), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(one[1].running_var, raw.var((0, 2, 3)), atol=1e-5, rtol=1e-4)
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])


def test_a_sample_is_taken_of_a_sorted_study() -> None:
    """Of 2,000 examples, dark ones first: the first 1,024 alone would be half as bright."""
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1)).eval()
    inputs = torch.linspace(0, 1, 2000)[:, None]
    given = mv.Study(model, inputs, torch.zeros(2000), {"a": range(2000)})
    drawn = random_network(given, torch.arange(2000))
    middle = float(drawn[1].running_mean / drawn[0].weight.detach())
    assert middle == pytest.approx(0.5, abs=0.03)


def test_networks_without_batch_norm_are_left_and_others_copied() -> None:
    plain = nn.Sequential(nn.Flatten(), nn.Linear(36, 2)).eval()
    assert with_batch_norm_of(plain, study(plain), torch.arange(3)) is plain
    given = normed()
    with no_trace(given):
        measured = with_batch_norm_of(given, study(plain), torch.arange(9))
    assert not torch.equal(measured[1].running_mean, given[1].running_mean)
    assert torch.equal(measured[0].weight, given[0].weight)


def test_what_can_not_be_measured_is_refused() -> None:
    from torchvision.ops import FrozenBatchNorm2d

    with pytest.raises(ValueError, match="module '1' is a FrozenBatchNorm2d, whose running"):
        random_network(study(normed(FrozenBatchNorm2d(4))), torch.arange(9))
    tracked = nn.InstanceNorm2d(4, track_running_stats=True)
    with pytest.raises(ValueError, match="module '1' is a InstanceNorm2d"):
        random_network(study(normed(tracked)), torch.arange(9))
    with pytest.raises(ValueError, match="can't be measured on 1 example; give at least 2"):
        random_network(study(normed()), torch.tensor([3]))


def test_parameters_without_an_initializer_are_named() -> None:
    model = normed()
    model.position = nn.Parameter(torch.randn(5))
    assert without_initializer(model) == ["model"] and without_initializer(normed()) == []


def test_an_untrained_network_may_have_the_weights_that_the_seed_draws() -> None:
    """They were taken for weights that no module initializes, and drawn from a normal instead."""
    model = normed()  # made with seed 0
    drawn = random_network(study(model), torch.arange(9), seed=0)
    for name, weight in model.named_parameters():
        assert torch.equal(dict(drawn.named_parameters())[name], weight)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tied = nn.utils.parametrizations.weight_norm(nn.Linear(36, 2))
    flat = nn.Sequential(nn.Flatten(), tied).eval()
    other = random_network(study(flat), torch.arange(9), seed=0)
    # No initializer reaches the weights of a parametrization: these are drawn.
    first, second = (m[1].parametrizations.weight.original1 for m in (flat, other))
    assert not torch.equal(first, second)
