"""Logic gates: truth tables, mixtures, wiring, trees, and networks on packed bits."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from memviz.models.logic_gates import (
    COEFFICIENTS,
    GATES,
    SIZES,
    TRUTH,
    DenseGates,
    Gates,
    GroupSum,
    PackedNetwork,
    Thresholds,
    TreeConv,
    logic_dense_net,
    logic_tree_net,
)
from memviz.models.logic_gates._packed import packed, unpacked

CORNERS = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
PYTHON = {
    "False": lambda a, b: False,
    "A and B": lambda a, b: a and b,
    "A and not B": lambda a, b: a and not b,
    "A": lambda a, b: a,
    "not A and B": lambda a, b: not a and b,
    "B": lambda a, b: b,
    "A xor B": lambda a, b: a != b,
    "A or B": lambda a, b: a or b,
    "A nor B": lambda a, b: not (a or b),
    "A xnor B": lambda a, b: a == b,
    "not B": lambda a, b: not b,
    "B implies A": lambda a, b: a or not b,
    "not A": lambda a, b: not a,
    "A implies B": lambda a, b: not a or b,
    "A nand B": lambda a, b: not (a and b),
    "True": lambda a, b: True,
}
# The relaxations as the papers list them, one by one.
RELAXED = [
    lambda a, b: 0 * a,
    lambda a, b: a * b,
    lambda a, b: a - a * b,
    lambda a, b: a,
    lambda a, b: b - a * b,
    lambda a, b: b,
    lambda a, b: a + b - 2 * a * b,
    lambda a, b: a + b - a * b,
    lambda a, b: 1 - (a + b - a * b),
    lambda a, b: 1 - (a + b - 2 * a * b),
    lambda a, b: 1 - b,
    lambda a, b: 1 - b + a * b,
    lambda a, b: 1 - a,
    lambda a, b: 1 - a + a * b,
    lambda a, b: 1 - a * b,
    lambda a, b: 0 * a + 1,
]


def only(*numbers: int) -> Gates:
    gates = Gates(len(numbers))
    gates.logits.data = nn.functional.one_hot(torch.tensor(numbers), 16).float() * 9
    return gates


def test_sixteen_gates_are_pythons_own_at_the_corners():
    assert len(set(GATES)) == 16
    for number, name in enumerate(GATES):
        expected = [bool(PYTHON[name](bool(a), bool(b))) for a, b in CORNERS.tolist()]
        assert TRUTH[number].tolist() == expected, name
        hard = only(number).eval()(CORNERS[:, :1], CORNERS[:, 1:])[:, 0]
        assert hard.tolist() == expected, name


def test_the_four_coefficients_are_the_listed_relaxations_and_mix_as_sixteen_gates_do():
    torch.manual_seed(0)
    a, b = torch.rand(2, 50, 7, dtype=torch.float64)
    for number, relaxed in enumerate(RELAXED):
        c, ca, cb, cab = COEFFICIENTS[number].tolist()
        assert torch.allclose(c + ca * a + cb * b + cab * a * b, relaxed(a, b))
    gates = Gates(7, init="gaussian")
    shares = gates.logits.softmax(-1)
    slow = sum(shares[:, k] * relaxed(a, b) for k, relaxed in enumerate(RELAXED))
    assert torch.allclose(gates.double()(a, b), slow, atol=1e-6)


def test_a_soft_gate_is_the_mean_over_random_bits_and_random_gates():
    draw = torch.Generator().manual_seed(1)
    gates = Gates(1, init="gaussian", generator=draw)
    a, b, n = 0.3, 0.8, 400_000
    number = torch.multinomial(gates.logits.softmax(-1)[0], n, replacement=True, generator=draw)
    bits = (torch.rand(n, 2, generator=draw) < torch.tensor([a, b])).long()
    mean = TRUTH[number, 2 * bits[:, 0] + bits[:, 1]].float().mean()
    soft = gates(torch.tensor([[a]]), torch.tensor([[b]]))
    assert abs(soft.item() - mean.item()) < 4 * 0.5 / n**0.5


def test_residual_gates_pass_their_first_input_on():
    assert Gates(1).logits.softmax(-1)[0, 3].item() == pytest.approx(0.908, abs=5e-4)
    layer = DenseGates(6, 10, seed=3)
    layer.gates.logits.data[:, 3] = 30
    x = torch.rand(4, 6)
    assert torch.allclose(layer(x), x[:, layer.wires[0]], atol=1e-6)
    assert torch.equal(layer.eval()(x), x[:, layer.wires[0]])


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 40), st.integers(1, 60), st.integers(0, 5))
def test_every_input_is_read_about_equally_often(inputs: int, gates: int, seed: int):
    if 2 * gates < inputs:
        with pytest.raises(ValueError, match="can't read"):
            DenseGates(inputs, gates, seed=seed)
        return
    layer = DenseGates(inputs, gates, seed=seed)
    read = torch.bincount(layer.wires.flatten(), minlength=inputs)
    assert read.min() >= 2 * gates // inputs and read.max() <= -(-2 * gates // inputs)
    assert torch.equal(layer.wires, DenseGates(inputs, gates, seed=seed).wires)
    assert "wires" in layer.state_dict()


def tree_by_hand(layer: TreeConv, x: Tensor) -> Tensor:
    """One gate after another, at one place after another."""
    n, _, height, width = x.shape
    p, w = layer.padding, layer.window
    padded = torch.zeros(n, x.shape[1], height + 2 * p, width + 2 * p)
    padded[:, :, p : p + height, p : p + width] = x
    rows, columns = height + 2 * p - w + 1, width + 2 * p - w + 1
    output = torch.zeros(n, len(layer.leaves), rows, columns)
    fours = [gates.coefficients() for gates in layer.trees]
    for i, k, r, s in product(range(n), range(len(layer.leaves)), range(rows), range(columns)):
        values = [
            padded[i, leaf // w**2, r + leaf % w**2 // w, s + leaf % w]
            for leaf in layer.leaves[k].tolist()
        ]
        for four in fours:
            values = [
                four[k, j] @ torch.stack([torch.ones(()), a, b, a * b])
                for j, (a, b) in enumerate(zip(values[::2], values[1::2], strict=True))
            ]
        output[i, k, r, s] = values[0]
    return output


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize(("depth", "padding", "window"), [(3, 1, 3), (2, 0, 2), (1, 0, 3)])
def test_a_tree_convolution_is_its_gates_one_by_one(
    mode: bool, depth: int, padding: int, window: int
):
    torch.manual_seed(0)
    layer = TreeConv(
        4, 6, window=window, depth=depth, padding=padding, groups=2, init="gaussian", seed=1
    ).train(mode)
    x = torch.rand(2, 4, 4, 5) if mode else (torch.rand(2, 4, 4, 5) > 0.5).float()
    with torch.no_grad():
        assert torch.allclose(layer(x), tree_by_hand(layer, x), atol=1e-6)


def test_a_tree_reads_two_channels_of_its_own_group_and_saves_which():
    layer = TreeConv(16, 40, groups=2, depth=3, seed=2)
    channels = layer.leaves // 9
    for kernel, read in enumerate(channels.tolist()):
        assert len(set(read)) <= 2
        assert all(channel // 8 == kernel // 20 for channel in read)
    assert torch.equal(layer.state_dict()["leaves"], layer.leaves)
    with pytest.raises(ValueError, match="don't divide"):
        TreeConv(9, 32, groups=4)


def test_a_tree_reads_as_many_channels_as_it_may():
    for most in (1, 3, None):
        layer = TreeConv(16, 40, groups=2, depth=5, tree_channels=most, seed=2)
        read = [set((leaves // 9).tolist()) for leaves in layer.leaves]
        assert max(len(channels) for channels in read) == (most or 8)
        assert all(c // 8 == kernel // 20 for kernel, group in enumerate(read) for c in group)
    with pytest.raises(ValueError, match="tree_channels is 0; give a number from 1 up"):
        TreeConv(8, 8, tree_channels=0)


def test_a_planted_tree_is_the_parity_of_its_leaves_soft_hard_and_packed():
    layer = TreeConv(8, 1, window=1, depth=3)
    layer.leaves[:] = torch.arange(8)
    for gates in layer.trees:
        gates.logits.data[:] = 0
        gates.logits.data[..., 6] = 30
    bits = torch.tensor(list(product([0.0, 1.0], repeat=8)))[:, :, None, None]
    parity = bits.sum((1, 2, 3)) % 2
    assert torch.allclose(layer(bits).flatten(), parity, atol=1e-4)
    model = nn.Sequential(layer, nn.Flatten(), _both())
    model.append(GroupSum(2, 1.0)).eval()
    assert torch.equal(model(bits)[:, 0], parity)
    assert torch.equal(PackedNetwork(model).votes(bits)[:, 0].float(), parity)


def _both() -> DenseGates:
    """One input to two gates: itself, and its negation."""
    layer = DenseGates(2, 2)
    layer.wires[:] = 0
    layer.gates = only(3, 12)
    return layer


def test_or_pooling_is_the_largest_bit():
    bits = torch.tensor(list(product([0.0, 1.0], repeat=4))).view(16, 1, 2, 2)
    assert torch.equal(nn.MaxPool2d(2)(bits).flatten(), (bits.sum((1, 2, 3)) > 0).float())


def test_one_gate_learns_xor_from_four_rows():
    torch.manual_seed(0)
    gates = Gates(1)
    target = torch.tensor([[0.0], [1.0], [1.0], [0.0]])
    optimizer = torch.optim.Adam(gates.parameters(), lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        ((gates(CORNERS[:, :1], CORNERS[:, 1:]) - target) ** 2).mean().backward()
        optimizer.step()
    assert [GATES[number] for number in gates.chosen()] == ["A xor B"]
    assert torch.equal(gates.eval()(CORNERS[:, :1], CORNERS[:, 1:]), target)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 200), st.integers(1, 5))
def test_packing_is_undone_by_unpacking(n: int, features: int):
    bits = np.random.default_rng(n).random((n, features, 2)) > 0.5
    words = packed(bits)
    assert words.shape == (features, 2, -(-n // 64)) and words.dtype == np.uint64
    assert np.array_equal(unpacked(words, n).astype(bool), bits)


@pytest.mark.parametrize("n", [0, 1, 63, 64, 65, 200])
def test_a_packed_network_votes_as_the_hard_one(n: int):
    torch.manual_seed(n)
    dense = logic_dense_net(20, [64, 48, 30], 10, thresholds=(0.3, 0.6), init="gaussian").eval()
    tree = logic_tree_net(8, "mnist", thresholds=(0.4,), init="gaussian", seed=n).eval()
    for model, x in ((dense, torch.rand(n, 20)), (tree, torch.rand(min(n, 65), 1, 28, 28))):
        votes = PackedNetwork(model).votes(x)
        assert votes.dtype == torch.int64 and votes.shape == (len(x), 10)
        with torch.no_grad():
            assert torch.equal(votes, (model(x) * model[-1].tau).round().long())
            assert torch.equal(PackedNetwork(model).predictions(x), votes.argmax(1))


def test_packing_or_batching_an_example_with_others_changes_nothing():
    model = logic_dense_net(12, [40, 20], 2, init="gaussian").eval()
    x = torch.rand(150, 12)
    together, order = PackedNetwork(model).votes(x), torch.randperm(150)
    assert torch.equal(PackedNetwork(model).votes(x[order]), together[order])
    assert torch.equal(PackedNetwork(model).votes(x[7:8]), together[7:8])


def test_the_networks_of_the_paper_have_its_layers():
    model = logic_tree_net("S")
    convs = [layer for layer in model if isinstance(layer, TreeConv)]
    dense = [layer for layer in model if isinstance(layer, DenseGates)]
    assert [len(conv.leaves) for conv in convs] == [32, 128, 512, 1024]
    assert [layer.wires.shape[1] for layer in dense] == [40_960, 20_480, 10_240]
    gates = sum(
        layer.logits[..., 0].numel() for layer in model.modules() if isinstance(layer, Gates)
    )
    assert gates == 7 * 1_696 + 71_680 and model[-1].tau == 20
    assert SIZES["mnist"]["L"][0] == 1024
    with pytest.raises(ValueError, match="give S, M, B, L, G"):
        logic_tree_net("XL")


def test_bad_input_gets_one_sentence():
    with pytest.raises(ValueError, match="in ascending order"):
        Thresholds([0.5, 0.5])
    with pytest.raises(ValueError, match="at least one"):
        Thresholds([])
    with pytest.raises(ValueError, match="can't vote for 3 classes"):
        logic_dense_net(4, [10], 3)
    with pytest.raises(ValueError, match="can't vote in 3 groups"):
        GroupSum(3, 1.0)(torch.zeros(2, 10))
    with pytest.raises(ValueError, match="tau above 0"):
        GroupSum(3, 0.0)
    with pytest.raises(ValueError, match="mixtures; call model.eval"):
        PackedNetwork(logic_dense_net(4, [4], 2))
    with pytest.raises(ValueError, match="does not work on bits"):
        PackedNetwork(nn.Sequential(nn.Linear(2, 2), GroupSum(2, 1.0)).eval())
    with pytest.raises(ValueError, match="begin the model with Thresholds"):
        PackedNetwork(nn.Sequential(DenseGates(4, 4), GroupSum(2, 1.0)).eval()).votes(
            torch.rand(2, 4)
        )
    with pytest.raises(ValueError, match="does not end with GroupSum"):
        PackedNetwork(nn.Sequential(DenseGates(4, 4)).eval())
    with pytest.raises(ValueError, match='give "residual" or "gaussian"'):
        Gates(2, init="normal")
