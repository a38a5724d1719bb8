"""Yun's construction: exact on any labelled points, and owners that exact ablation confirms."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from memviz.engine.sets import ablate
from memviz.models.memorizers import Activation, Memorizer, construct_memorizer

ACTIVATIONS: list[Activation] = ["hardtanh", "relu"]


def drawn(n: int, d: int, seed: int, *, signs: bool = False) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    points = torch.randn(n, d, generator=draw, dtype=torch.float64)
    values = torch.rand(n, generator=draw, dtype=torch.float64) * 2 - 1
    return points, values.sign() if signs else values


def outputs(memorizer: Memorizer, units: list[int]) -> Tensor:
    with torch.no_grad(), ablate(memorizer.model, {"layer2": units}):
        found: Tensor = memorizer.model(memorizer.inputs)[:, 0]
    return found


@settings(deadline=None, max_examples=40)
@given(
    n=st.integers(1, 40),
    first=st.integers(1, 40),
    d=st.integers(1, 6),
    seed=st.integers(0, 10_000),
    activation=st.sampled_from(ACTIVATIONS),
)
def test_any_labelled_points_are_memorized(
    n: int, first: int, d: int, seed: int, activation: Activation
) -> None:
    points, values = drawn(n, d, seed)
    second = -(-n // first)
    found = construct_memorizer(points, values, (first, second), activation=activation)
    largest = found.largest_weight
    assert found.error() < 1e-13 * max(1.0, largest) * (first + second)
    times = 1 if activation == "hardtanh" else 2
    assert found.units == times * (first + second)
    assert found.parameters == sum(p.numel() for p in found.model.parameters())
    # One point of each group an owner, and one owner a point.
    assert len({(int(g), int(o)) for g, o in zip(found.groups, found.owners, strict=True)}) == n


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_equally_spaced_points_are_perfectly_conditioned(activation: Activation) -> None:
    values = drawn(36, 1, 0, signs=True)[1]
    found = construct_memorizer(torch.arange(36.0)[:, None], values, (6, 6), activation=activation)
    # All slopes of an owner are then ±M plus a sum of few steps; nothing grows along the groups.
    assert found.error() < 1e-12
    assert found.largest_weight < 100


def test_the_sign_stays_right_in_float32_though_the_value_does_not() -> None:
    found = construct_memorizer(*drawn(400, 10, 0, signs=True))
    assert found.error() < 1e-8 < 1e-3 < found.error(torch.float32) < 1


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_an_owner_has_its_value_and_all_others_are_saturated(activation: Activation) -> None:
    found = construct_memorizer(*drawn(60, 4, 1), (10, 6), activation=activation)
    with torch.no_grad():
        hidden = found.model[:4](found.inputs)
    if activation == "relu":
        hidden = hidden[:, :6] - hidden[:, 6:] - 1
    sign = 1 - 2 * (torch.arange(6) % 2)
    mine = torch.nn.functional.one_hot(found.owners, 6).bool()
    own = (hidden * sign)[mine]
    assert torch.allclose(own, found.values, atol=1e-8)
    # Owners before it are at 1, those behind it at -1.
    side = torch.where(torch.arange(6) < found.owners[:, None], 1.0, -1.0).double()
    assert torch.allclose(hidden[~mine], side[~mine], atol=1e-8)


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 1000), owner=st.integers(0, 7))
def test_one_owner_less_takes_its_values_and_shifts_all_others_by_one(
    seed: int, owner: int
) -> None:
    found = construct_memorizer(*drawn(80, 5, seed), (10, 8), activation="hardtanh")
    change = outputs(found, [owner]) - found.values
    mine = found.owners == owner
    assert torch.allclose(change[mine], -found.values[mine], atol=1e-7)
    sign = 1 - 2 * (owner % 2)
    others = torch.where(found.owners > owner, -sign, sign).double()
    assert torch.allclose(change[~mine], others[~mine], atol=1e-7)


@settings(deadline=None, max_examples=20)
@given(
    seed=st.integers(0, 1000),
    start=st.integers(0, 6),
    pairs=st.integers(1, 2),
    activation=st.sampled_from(ACTIVATIONS),
)
def test_neighbouring_owners_hold_their_points_and_no_others(
    seed: int, start: int, pairs: int, activation: Activation
) -> None:
    found = construct_memorizer(*drawn(80, 5, seed), (10, 8), activation=activation)
    run = range(start, min(start + 2 * pairs, 8) - (min(start + 2 * pairs, 8) - start) % 2)
    after = outputs(found, [unit for owner in run for unit in found.units_of(owner)])
    mine = (found.owners >= run.start) & (found.owners < run.stop)
    assert torch.allclose(after[~mine], found.values[~mine], atol=1e-6)
    # All they still say is one and the same, whatever the value was.
    constant = -(1.0 - 2 * (run.start % 2))
    assert torch.allclose(after[mine], torch.full_like(after[mine], constant), atol=1e-6)


def test_order_and_repeats_do_not_matter() -> None:
    points, values = drawn(50, 3, 2)
    found = construct_memorizer(points, values)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    again = construct_memorizer(
        torch.cat([points[order], points[:7]]), torch.cat([values[order], values[:7]])
    )
    assert torch.equal(again.owners[:50], found.owners[order])
    assert torch.equal(again.owners[50:], found.owners[:7])
    assert again.error() < 1e-8


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    construct_memorizer(*drawn(20, 3, 0))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"values": torch.ones(3)}, "values has shape (3,) for 4 points"),
        ({"values": torch.tensor([0.0, 0, 0, 2])}, "values from -1 to 1"),
        ({"inputs": torch.full((4, 2), torch.nan)}, "inputs must be finite"),
        ({"widths": (1, 3)}, "widths 1 and 3 hold 3 points, but there are 4"),
        ({"activation": "gelu"}, "activation is 'gelu'; use 'relu' or 'hardtanh'"),
        ({"inputs": torch.zeros(4, 2)}, "example 0 has the same inputs as another one"),
    ],
)
def test_bad_input_gets_one_sentence(change: dict[str, object], sentence: str) -> None:
    arguments: dict[str, object] = {
        "inputs": torch.arange(8.0).view(4, 2),
        "values": torch.tensor([1.0, -1.0, 1.0, -1.0]),
        **change,
    }
    with pytest.raises(ValueError, match=re.escape(sentence)):
        construct_memorizer(**arguments)  # type: ignore[arg-type]


def test_an_owner_that_is_not_there() -> None:
    with pytest.raises(IndexError, match="owners are 0 to 1"):
        construct_memorizer(*drawn(4, 2, 0), (2, 2)).units_of(2)
