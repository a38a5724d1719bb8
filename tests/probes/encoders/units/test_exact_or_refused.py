"""UnitMem and ClassMem: plain tensors, medians, ties, double precision, and what is refused."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import memviz as mv
from memviz.probes.encoders import (
    class_mem,
    class_mem_from_activations,
    class_selectivity,
    unit_mem,
    unit_mem_from_activations,
)
from memviz.probes.encoders.localizers import owned_memorization


class Given(nn.Module):
    """Units whose activations are the inputs' own entries."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(units, units, bias=False), nn.Linear(units, 3)
        nn.init.eye_(self.layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.layer(x)))


def study_of(values: Tensor, labels: Tensor | None = None, **groups: Any) -> mv.Study:
    n = len(values)
    model = Given(values.shape[1]).to(values.dtype).eval()
    names = groups or {"training": range(n)}
    return mv.Study(model, values, torch.zeros(n) if labels is None else labels, names)


def by_numpy(table: np.ndarray, others: str) -> tuple[np.ndarray, np.ndarray]:
    """The ratio and the row of the largest, column by column."""
    ratios = []
    for column in table.T:
        top = column.argmax()
        rest = getattr(np, others)(np.delete(column, top))
        dead = column[top] == 0
        ratios.append(np.nan if dead else (column[top] - rest) / (column[top] + rest))
    return np.array(ratios), table.argmax(0)


@pytest.mark.parametrize("others", ["mean", "median"])
@pytest.mark.parametrize("places", [(1,), (6,), (2, 3)])
def test_unit_mem_of_plain_activations(others: Any, places: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    activations = torch.rand(9, 4, 5, *places, generator=generator)
    activations[:, :, 2] = 0  # dead
    found = unit_mem_from_activations(activations, others=others)
    means = activations.double().numpy().mean((1, *range(3, 3 + len(places))))
    ratio, owner = by_numpy(means, others)
    np.testing.assert_allclose(found.ratio.numpy(), ratio, rtol=1e-12)
    assert found.owner.tolist() == [-1 if k == 2 else int(o) for k, o in enumerate(owner)]
    assert found.ratio.dtype == torch.float64 and not found.negative.any()


@pytest.mark.parametrize("others", ["mean", "median"])
def test_class_mem_of_plain_activations(others: Any) -> None:
    generator = torch.Generator().manual_seed(1)
    activations = torch.rand(20, 2, 6, 3, generator=generator)
    labels = torch.arange(20) % 4 * 10 - 10
    found = class_mem_from_activations(activations, labels, others=others)
    means = activations.double().numpy().mean((1, 3))
    table = np.stack([means[labels.numpy() == label].mean(0) for label in (-10, 0, 10, 20)])
    ratio, owner = by_numpy(table, others)
    np.testing.assert_allclose(found.ratio.numpy(), ratio, rtol=1e-12)
    np.testing.assert_array_equal(found.owner.numpy(), owner * 10 - 10)


@pytest.mark.parametrize("others", ["mean", "median"])
def test_studies_and_plain_activations_agree(others: Any) -> None:
    values = torch.rand(24, 5, generator=torch.Generator().manual_seed(2))
    labels = torch.arange(24) % 4
    study = study_of(values, labels, training=range(16), test=range(16, 24))
    plain = values[:16, None, :, None]
    both = (
        (unit_mem(study, others=others, random_networks=0, progress=False),
         unit_mem_from_activations(plain, others=others)),
        (class_mem(study, others=others, progress=False),
         class_mem_from_activations(plain, labels[:16], others=others)),
        (class_selectivity(study, others=others, progress=False),
         class_mem_from_activations(values[16:, None, :, None], labels[16:], others=others)),
    )  # fmt: skip
    for of_study, of_tensor in both:
        np.testing.assert_allclose(of_study.values, of_tensor.ratio.numpy(), rtol=1e-6)
        np.testing.assert_array_equal(of_study.owners, of_tensor.owner.numpy())
        assert ("median" in of_study.source) == (others == "median")


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(8)), st.integers(0, 99))
def test_the_order_of_plain_images_changes_nothing(order: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    activations, labels = torch.rand(8, 2, 3, 4, generator=generator), torch.arange(8) % 3
    for one, other in (
        (unit_mem_from_activations(activations), unit_mem_from_activations(activations[order])),
        (class_mem_from_activations(activations, labels),
         class_mem_from_activations(activations[order], labels[order])),
    ):  # fmt: skip
        torch.testing.assert_close(one.ratio, other.ratio, rtol=1e-12, atol=1e-14)


def test_plain_activations_that_can_not_be_scored_are_refused() -> None:
    good = torch.rand(4, 2, 3, 5)
    for bad in (good[:, 0], good.long(), good[:, :0], good[..., :0]):
        with pytest.raises(ValueError, match=r"give floats \[images, views, units, positions\]"):
            unit_mem_from_activations(bad)
    with pytest.raises(ValueError, match="UnitMem compares images; give at least 2, not 1"):
        unit_mem_from_activations(good[:1])
    with pytest.raises(ValueError, match="others is 'mode'"):
        unit_mem_from_activations(good, others="mode")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"unit 0 has negative activations.*negative='abs'"):
        unit_mem_from_activations(-good, negative="refuse")
    torch.testing.assert_close(unit_mem_from_activations(-good).ratio,
                               unit_mem_from_activations(good).ratio)  # fmt: skip
    good[2, 1, 1, 0] = torch.nan
    for call in (
        lambda: unit_mem_from_activations(good),
        lambda: class_mem_from_activations(good, torch.arange(4)),
    ):
        with pytest.raises(ValueError, match="unit 1 is NaN or infinite on image 2"):
            call()
    for labels in (torch.zeros(3), torch.zeros(4), torch.ones(4, dtype=torch.bool)):
        with pytest.raises(ValueError, match="give a whole number per image"):
            class_mem_from_activations(torch.rand(4, 1, 2, 1), labels)
    with pytest.raises(ValueError, match="give images of at least two"):
        class_mem_from_activations(torch.rand(4, 1, 2, 1), torch.zeros(4, dtype=torch.long))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_activations_that_are_no_numbers_are_not_dead_units(bad: float) -> None:
    study = study_of(torch.rand(8, 3), torch.arange(8) % 2)
    study.inputs[5, 1] = bad  # a study itself refuses such inputs
    for call in (partial(unit_mem, random_networks=0), class_mem):
        with pytest.raises(ValueError, match=r"is NaN or infinite on example 5; leave that"):
            call(study, progress=False)
        rest = torch.tensor([0, 1, 2, 3, 4, 6, 7])
        assert not call(study, examples=rest, progress=False).dead.any()


def test_images_are_named_once_and_trained_on_or_held_out() -> None:
    study = study_of(torch.rand(9, 2), torch.arange(9) % 2)
    for call in (unit_mem, class_mem, class_selectivity):
        with pytest.raises(ValueError, match="examples names 3 more than once"):
            call(study, examples=torch.tensor([3, 2, 3]), progress=False)
        every = call(study, examples=torch.ones(9, dtype=torch.bool), progress=False)
        assert np.array_equal(every.values, call(study, examples=range(9), progress=False).values)
        with pytest.raises(ValueError, match="examples names -1; this study has 9"):
            call(study, examples=torch.tensor([0, -1]), progress=False)
    with pytest.raises(ValueError, match="image 4 is scored and held out"):
        unit_mem(study, examples=torch.arange(5), held_out=torch.tensor([4, 5, 6, 7, 8]))
    both = [
        unit_mem(study, examples=torch.arange(3), held_out=torch.tensor(h), random_networks=0)
        for h in ([3, 4, 5, 6], [6, 5, 4, 3])
    ]
    np.testing.assert_array_equal(both[0].held_out, both[1].held_out)


def test_owners_that_tie_are_drawn_by_the_seed() -> None:
    values = torch.full((12, 4), 0.5)
    labels = torch.arange(12) % 4
    study = study_of(values, labels)
    drawn = {
        call: [call(study, seed=seed, progress=False, **fast).owners.tolist() for seed in range(20)]
        for call, fast in ((unit_mem, {"random_networks": 0}), (class_mem, {"shuffles": 0}))
    }
    assert {o for owners in drawn[unit_mem] for o in owners} > {0, 1, 2}
    assert {o for owners in drawn[class_mem] for o in owners} == {0, 1, 2, 3}
    for call, owners in drawn.items():
        fast = {"random_networks": 0} if call is unit_mem else {"shuffles": 0}
        turned = call(study, examples=torch.arange(12).flip(0), seed=4, progress=False, **fast)
        assert turned.owners.tolist() == owners[4]
    plain = values[:, None, :, None]
    assert len({int(unit_mem_from_activations(plain, seed=s).owner[0]) for s in range(20)}) > 3


def test_a_unit_that_is_the_same_for_all_belongs_to_no_group_more_often() -> None:
    """Where memorized examples stood first, they owned every constant unit."""
    owned = []
    for first in (True, False):
        groups = {"memorized": range(6) if first else range(6, 12)}
        groups["clean"] = range(6, 12) if first else range(6)
        scores = owned_memorization(study_of(torch.ones(12, 3), **groups))
        owned.append(scores.values >= 0)
    assert (owned[0] != owned[1]).all()  # the same image is drawn, whichever group it is in


def test_double_precision_stays() -> None:
    values = torch.rand(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    values = 1 + 1e-9 * values  # in single precision all the same
    labels = torch.arange(7) % 2
    study = study_of(values, labels)
    for others in ("mean", "median"):
        ratio, owner = by_numpy(values.numpy(), others)
        found = unit_mem(study, others=others, random_networks=0, progress=False)
        np.testing.assert_allclose(found.values, ratio, rtol=0, atol=1e-15)
        np.testing.assert_array_equal(found.owners, owner)
    table = np.stack([values.numpy()[labels == label].mean(0) for label in (0, 1)])
    found = class_mem(study, shuffles=0, progress=False)
    np.testing.assert_allclose(found.values, by_numpy(table, "mean")[0], rtol=0, atol=1e-15)


def test_a_null_with_parameters_that_can_not_be_reinitialized_says_so() -> None:
    study = study_of(torch.rand(6, 2))
    assert "estimate" not in unit_mem(study, progress=False).null.words
    study.model.shift = nn.Parameter(torch.randn(3))
    words = unit_mem(study, progress=False).null.words
    assert "an estimate, since 1 module ('model') cannot be reinitialized" in words
