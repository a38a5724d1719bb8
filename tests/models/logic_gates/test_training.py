"""Gates in training: derivatives and piecewise trees against plain operations on whole batches."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional as F

from memviz.models.logic_gates import COEFFICIENTS, DenseGates, Gates, TreeConv, _layers


def plain(gates: Gates, a: Tensor, b: Tensor) -> Tensor:
    """The mixture of all sixteen gates, one by one."""
    shares = gates.logits.softmax(-1)
    more = (1,) * (a.dim() - shares.dim() + 1)
    total = torch.zeros_like(a)
    for number, (c, ca, cb, cab) in enumerate(COEFFICIENTS.tolist()):
        share = shares[..., number].view(*shares.shape[:-1], *more[1:])
        total = total + share * (c + ca * a + cb * b + cab * a * b)
    return total


def plain_trees(layer: TreeConv, x: Tensor) -> Tensor:
    rows, columns = (size + 2 * layer.padding - layer.window + 1 for size in x.shape[2:])
    values = F.unfold(x, layer.window, padding=layer.padding)[:, layer.leaves]
    for gates in layer.trees:
        assert isinstance(gates, Gates)
        values = plain(gates, values[:, :, 0::2], values[:, :, 1::2])
    return values.view(len(x), -1, rows, columns)


def assert_same(layer: nn.Module, x: Tensor, slow: Tensor, fast: Tensor) -> None:
    generator = torch.Generator().manual_seed(1)
    g = torch.rand(fast.shape, generator=generator, dtype=torch.float64)
    of = [x, *layer.parameters()]
    torch.testing.assert_close(fast, slow)
    torch.testing.assert_close(
        torch.autograd.grad(fast, of, g, retain_graph=True),
        torch.autograd.grad(slow, of, g, retain_graph=True),
    )


def random(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(shape, generator=generator, dtype=torch.float64).requires_grad_()


def test_dense_gates_have_the_derivatives_of_the_mixture() -> None:
    layer, x = DenseGates(7, 11, init="gaussian").double(), random(5, 7)
    first, second = layer.wires
    assert_same(layer, x, plain(layer.gates, x[:, first], x[:, second]), layer(x))


@pytest.mark.parametrize(
    ("channels", "kernels", "window", "depth", "padding", "groups", "shape"),
    [
        (4, 8, 3, 3, 1, 1, (5, 9, 10)),
        (6, 12, 3, 2, 0, 2, (3, 32, 33)),
        (16, 700, 5, 1, 1, 2, (9, 6, 7)),
        (2, 3, 3, 3, 1, 1, (70, 4, 4)),
        (8, 1600, 1, 3, 0, 8, (2, 16, 16)),
    ],
)
def test_trees_in_pieces_are_those_of_the_whole_batch(
    channels: int,
    kernels: int,
    window: int,
    depth: int,
    padding: int,
    groups: int,
    shape: tuple[int, int, int],
) -> None:
    layer = TreeConv(
        channels, kernels, window=window, depth=depth, padding=padding, groups=groups,
        init="gaussian",
    ).double()  # fmt: skip
    x = random(shape[0], channels, *shape[1:])
    assert_same(layer, x, plain_trees(layer, x), layer(x))


def test_a_level_that_is_watched_is_called_and_changes_nothing() -> None:
    layer, bits = TreeConv(3, 8, padding=1, init="gaussian").eval(), (random(4, 3, 5, 5) > 0.5)
    before, seen = layer(bits.float()), []
    handle = layer.trees[0].register_forward_hook(lambda m, x, out: seen.append(out.shape))
    assert torch.equal(layer(bits.float()), before)
    handle.remove()
    assert seen == [(4, 8, 4, 25)]
    assert torch.equal(layer(bits.float()), before) and len(seen) == 1


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the number of examples with each call that is answered from a table."""
    calls: list[int] = []
    answer = _layers.trees_by_pattern

    def spy(x: Tensor, *rest: Any) -> Tensor:
        calls.append(len(x))
        return answer(x, *rest)

    monkeypatch.setattr(_layers, "trees_by_pattern", spy)
    return calls


def bits(*shape: int) -> Tensor:
    return (random(*shape).detach() > 0.4).double()


@pytest.mark.parametrize(
    ("channels", "kernels", "window", "depth", "padding", "groups", "shape"),
    [
        (4, 64, 3, 3, 1, 1, (20, 8, 8)),
        (6, 12, 3, 2, 0, 2, (3, 9, 10)),
        (1, 5, 1, 1, 2, 1, (2, 3, 4)),
        (2, 3, 2, 3, 1, 1, (70, 4, 4)),  # eight leaves on eight places: many read the same
    ],
)
def test_trees_over_bits_are_looked_up_and_stay_those_of_the_whole_batch(
    looked_up: list[int],
    channels: int,
    kernels: int,
    window: int,
    depth: int,
    padding: int,
    groups: int,
    shape: tuple[int, int, int],
) -> None:
    layer = TreeConv(
        channels, kernels, window=window, depth=depth, padding=padding, groups=groups,
        init="gaussian",
    ).double()  # fmt: skip
    x = bits(shape[0], channels, *shape[1:])
    fast, slow = layer(x), plain_trees(layer, x)
    assert looked_up == [shape[0]]
    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-12)
    g, of = random(*fast.shape).detach(), list(layer.parameters())
    torch.testing.assert_close(torch.autograd.grad(fast, of, g), torch.autograd.grad(slow, of, g))


def test_logits_of_looked_up_trees_have_the_numeric_derivative(looked_up: list[int]) -> None:
    layer, x = TreeConv(2, 3, depth=2, padding=1, init="gaussian").double(), bits(3, 2, 4, 4)
    assert torch.autograd.gradcheck(lambda *_: layer(x), tuple(layer.parameters()))
    assert set(looked_up) == {3}


def test_a_batch_gives_the_values_of_each_example_alone(looked_up: list[int]) -> None:
    layer, x = TreeConv(3, 8, padding=1, init="gaussian"), bits(30, 3, 5, 5).float()
    alone = torch.cat([layer(x[k : k + 1]) for k in range(30)])  # 25 places, 256 patterns
    assert not looked_up
    assert torch.equal(layer(x), alone) and torch.equal(layer(x.flip(0)).flip(0), alone)
    assert looked_up == [30, 30]


def test_only_bits_that_want_no_gradient_are_looked_up(looked_up: list[int]) -> None:
    layer, x = TreeConv(3, 8, padding=1, init="gaussian").double(), bits(30, 3, 5, 5)
    wants = x.clone().requires_grad_()
    assert_same(layer, wants, plain_trees(layer, wants), layer(wants))
    for value in (0.5, -1.0, 1.0 + 1e-15, float("nan")):
        other = x.clone()
        other[7, 1, 2, 3] = value
        torch.testing.assert_close(layer(other), plain_trees(layer, other), equal_nan=True)
    TreeConv(3, 8, padding=1, depth=4).double()(x)
    layer.eval()(x)
    assert not looked_up


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # torch's own call
def test_a_forward_derivative_of_bits_is_refused_not_lost() -> None:
    layer, x = TreeConv(3, 8, padding=1), bits(30, 3, 5, 5).float()
    with forward_ad.dual_level(), pytest.raises(RuntimeError, match="forward mode AD"):
        layer(forward_ad.make_dual(x, torch.ones_like(x)))
