"""All constructions: exact, as many units as promised, and owners or certificates that hold."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from memviz.engine.sets import ablate
from memviz.models.memorizers import METHODS, Memorizer, construct_memorizer

OF_VALUES = ["yun", "zhang", "bubeck", "narrow"]


def drawn(n: int, d: int, outputs: int, seed: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    points = torch.randn(n, d, generator=draw, dtype=torch.float64)
    values = torch.rand(n, outputs, generator=draw, dtype=torch.float64) * 2 - 1
    return points, values[:, 0] if outputs == 1 else values


def signs(n: int, d: int, seed: int) -> tuple[Tensor, Tensor]:
    points, values = drawn(n, d, 1, seed)
    values = values.sign()
    values[:2] = torch.tensor([1.0, -1.0])
    return points, values


@settings(deadline=None, max_examples=60)
@given(
    method=st.sampled_from(OF_VALUES),
    n=st.integers(1, 40),
    d=st.integers(1, 6),
    outputs=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
def test_every_value_is_there(method: str, n: int, d: int, outputs: int, seed: int) -> None:
    points, values = drawn(n, d, outputs, seed)
    found = construct_memorizer(points, values, method=method)
    assert isinstance(found.model, nn.Sequential) and not found.model.training
    assert {p.dtype for p in found.model.parameters()} == {torch.float64}
    assert found.error() < 1e-12 * max(1.0, found.largest_weight) * n
    by_hand = found.model(points).detach()
    assert torch.allclose(by_hand if outputs > 1 else by_hand[:, 0], values, atol=1e-4)
    d2 = max(1, round(n**0.5))
    promised = {
        "yun": 2 * -(-n // d2) + 2 * d2 * outputs,
        "zhang": n,
        "bubeck": 4 * -(-n // d) * outputs,
        "narrow": 2 + (n - 1) * (2 + outputs),
    }
    assert found.units == found.theorem == promised[method]


@settings(deadline=None, max_examples=25)
@given(n=st.integers(2, 30), classes=st.integers(2, 10), seed=st.integers(0, 1000))
def test_classes_become_one_hot(n: int, classes: int, seed: int) -> None:
    points = drawn(n, 4, 1, seed)[0]
    labels = torch.randint(classes, (n,), generator=torch.Generator().manual_seed(seed))
    labels[0] = classes - 1
    found = construct_memorizer(points, labels, method="yun4")
    assert torch.equal(found.values, nn.functional.one_hot(labels, classes).double())
    assert found.error() < 1e-6 and found.model(points).argmax(1).equal(labels)
    assert found.units == found.theorem == 2 * sum(found.widths[:2]) + 4 * classes


def test_the_plateau_of_a_class_absorbs_a_small_error_of_its_code() -> None:
    points, labels = drawn(30, 3, 1, 0)[0], torch.arange(30) % 5
    model = construct_memorizer(points, labels, method="yun4").model
    with torch.no_grad():
        model.layer3.bias += 0.9 * 0.5 / 4  # the codes lie .5 apart
        assert torch.allclose(model(points), nn.functional.one_hot(labels, 5).double(), atol=1e-6)


@settings(deadline=None, max_examples=25)
@given(n=st.integers(2, 40), d=st.integers(1, 8), seed=st.integers(0, 1000))
def test_every_ball_is_certified(n: int, d: int, seed: int) -> None:
    points, values = signs(n, d, seed)
    found = construct_memorizer(points, values, method="yu")
    up, down = int((values > 0).sum()), int((values < 0).sum())
    assert found.units == found.theorem == 2 * up * down + n
    apart = torch.cdist(points, points)
    apart[values[:, None] == values] = torch.inf
    nearest = apart.min(1)
    assert found.radii is not None and torch.allclose(found.radii, nearest.values / 3)
    draw = torch.Generator().manual_seed(seed)
    ways = torch.randn(20, n, d, generator=draw, dtype=torch.float64)
    ways = torch.cat([ways, (points[nearest.indices] - points)[None]])
    ways /= ways.norm(dim=2, keepdim=True)
    edge = points + found.radii[:, None] * ways * torch.linspace(0, 1, 21)[:, None, None]
    edge = torch.cat([edge, points + found.radii[:, None] * ways])
    with torch.no_grad():
        margins = found.model(edge.flatten(0, 1)).view(-1, n) * values
    assert margins.min() > 1 - 1e-9


def outputs_without(memorizer: Memorizer, owner: int) -> Tensor:
    units = {memorizer.owner_layer: list(memorizer.units_of(owner))}
    with torch.no_grad(), ablate(memorizer.model, units):
        found: Tensor = memorizer.model(memorizer.inputs)[:, 0]
    return found


@pytest.mark.parametrize("seed", range(3))
def test_a_slab_holds_its_points_and_no_others(seed: int) -> None:
    found = construct_memorizer(*drawn(23, 5, 1, seed), method="bubeck")
    for owner in range(5):
        after, mine = outputs_without(found, owner), found.owners == owner
        assert torch.allclose(after[mine], torch.zeros(()).double(), atol=1e-9)
        assert torch.allclose(after[~mine], found.values[~mine], atol=1e-9)
        assert int(mine.sum()) == (5 if owner < 4 else 3)


@pytest.mark.parametrize("seed", range(3))
def test_a_certified_point_loses_its_value_alone(seed: int) -> None:
    # Without the point's unit its own value is gone; no other point of its sign had that unit on.
    found = construct_memorizer(*signs(24, 6, seed), method="yu")
    with torch.no_grad():
        own = found.model[:4](found.inputs)
    for owner in range(24):
        after, mine = outputs_without(found, owner), found.owners == owner
        change = after - found.model(found.inputs)[:, 0].detach()
        assert torch.allclose(after[mine], (found.values - change * 0)[mine] * 0, atol=1e-9) or (
            own[mine].sum() > 1
        )
        assert torch.allclose(change, -found.values[mine] * own[:, owner], atol=1e-9)


def test_the_system_of_zhang_is_triangular_with_a_positive_diagonal() -> None:
    points, values = drawn(50, 4, 1, 3)
    found = construct_memorizer(points, values, method="zhang")
    order = found.owners.argsort()
    with torch.no_grad():
        seen = found.model[:2](points[order]).numpy()
    assert np.allclose(seen, np.tril(seen)) and (np.diag(seen) > 0).all()
    slow = np.linalg.solve(seen, values[order].numpy())
    assert np.allclose(found.model.output.weight.detach().numpy()[0], slow, rtol=1e-6)


def test_the_narrow_network_is_never_wider_than_its_outputs_and_two() -> None:
    found = construct_memorizer(*drawn(12, 3, 2, 0), method="narrow")
    assert found.widths == (2, *[4] * 11)


@pytest.mark.parametrize("method", METHODS)
def test_order_repeats_and_the_generator_do_not_matter(method: str) -> None:
    points, values = signs(30, 3, 2)
    if method == "yun4":
        values = (values > 0).long()
    before = torch.get_rng_state()
    found = construct_memorizer(points, values, method=method)
    assert torch.equal(torch.get_rng_state(), before)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    again = construct_memorizer(
        torch.cat([points[order], points[:5]]),
        torch.cat([values[order], values[:5]]),
        method=method,
    )
    assert torch.equal(again.owners[:30], found.owners[order])
    assert torch.equal(again.owners[30:], found.owners[:5])
    x = drawn(50, 3, 1, 9)[0]
    assert torch.allclose(again.model(x), found.model(x), rtol=1e-6, atol=1e-6)
    assert method in repr(found)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"method": "baum"}, "method is 'baum'; use yun, yun4, zhang, bubeck, yu, narrow"),
        ({"method": "zhang", "activation": "hardtanh"}, "is built of ReLUs; leave activation out"),
        ({"method": "zhang", "widths": (2, 2)}, "follow from the points; leave them out"),
        ({"method": "yu", "values": torch.tensor([0.5, 1, -1, 1])}, "values must be -1 or 1"),
        ({"method": "yu", "values": torch.ones(4)}, "needs points of both signs"),
        ({"method": "yun4"}, "give classes from 0, integers [n]"),
        ({"method": "yun4", "values": torch.tensor([0, 1, 2, 10**12])}, "at most 10,000 of them"),
        ({"inputs": torch.arange(4.0)}, "give one row per point, [n, ...]"),
        ({"inputs": torch.zeros(4, 0)}, "give one row per point, [n, ...]"),
        ({"inputs": "points"}, "inputs is 'points', not numbers; give a tensor"),
        ({"widths": (10**9, 10**9)}, "GB of weights, and 2 GB is the most"),
        ({"widths": (2, "2")}, "widths is (2, '2'); give"),
        ({"seed": -1}, "seed is -1; give a whole number"),
        ({"method": "yun4", "values": torch.tensor([-1, 0, 1, 2])}, "give classes from 0"),
        (
            {"method": "bubeck", "inputs": torch.tensor([[0.0, 1], [0, 2], [0, 3], [0, 4]])},
            "lie on no plane of their own",
        ),
        (
            {"inputs": torch.tensor([[1.0, 2], [3, 4], [1, 2], [5, 6]]),
             "values": torch.tensor([1.0, 1, -1, 1])},
            "example 0 has the same inputs as another one but another value: example 2",
        ),
    ],
)  # fmt: skip
def test_bad_input_gets_one_sentence(change: dict[str, object], sentence: str) -> None:
    arguments: dict[str, object] = {
        "inputs": torch.arange(8.0).view(4, 2),
        "values": torch.tensor([1.0, -1.0, 1.0, -1.0]),
        **change,
    }
    with pytest.raises(ValueError, match=re.escape(sentence)):
        construct_memorizer(**arguments)  # type: ignore[arg-type]


def test_a_network_that_grows_too_large_says_its_size_before() -> None:
    points, values = signs(4000, 2, 0)
    with pytest.raises(ValueError, match=r"hidden units, .* GB of weights, and 2 GB is the most"):
        construct_memorizer(points, values, method="yu")


@pytest.mark.parametrize("method", ["zhang", "narrow"])
def test_so_does_one_whose_system_of_equations_does(method: str) -> None:
    points = torch.linspace(0, 1, 20_000, dtype=torch.float64)[:, None]
    with pytest.raises(ValueError, match="GB of weights, and 2 GB is the most"):
        construct_memorizer(points, torch.ones(20_000), method=method)
