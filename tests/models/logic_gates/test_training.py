"""Gates in training: derivatives and piecewise trees against plain operations on whole batches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memviz.models.logic_gates import COEFFICIENTS, DenseGates, Gates, TreeConv


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
