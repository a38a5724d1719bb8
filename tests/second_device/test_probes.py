"""Every paper's probe on a second device: its figures are the CPU's, bit for bit."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import memviz as mv
from memviz.data.subsets import Subsets
from memviz.engine.search import nearest
from memviz.probes import (
    attribution,
    deja_vu,
    deja_vu_ssl,
    density,
    early_learning,
    encoders,
    examples,
    information,
    localization,
)
from tests.support.density import density_study
from tests.support.figures import ROUNDING, differing
from tests.support.gates import dense_net
from tests.support.second_device import DEVICE

Pair = tuple[mv.Study, mv.Study]
QUIET: dict[str, Any] = {"progress": False}
GROUPS = {"memorized": range(8), "clean": range(8, 24)}


class Small(nn.Module):
    """Two convolutions, a batch norm and a linear layer, with each ReLU a module."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.relu = (
            nn.Conv2d(1, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
        )
        self.two, self.relu2, self.head = nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.relu2(self.two(self.relu(self.norm(self.conv(x))))).flatten(1))


def pair_of(study: mv.Study) -> Pair:
    there = copy.deepcopy(study.model).to(DEVICE)
    moved = mv.Study(there, study.inputs, study.labels, study.groups, task=study.task)
    assert (study.device.type, moved.device) == ("cpu", DEVICE)
    return study, moved


def test_a_study_that_is_there_as_a_whole(small: Pair) -> None:
    one, moved = small
    given = one.inputs.to(DEVICE), one.labels.to(DEVICE)  # type: ignore[union-attr]
    other = mv.Study(moved.model, *given, {"memorized": torch.arange(8, device=DEVICE)})
    for call in (mv.estimate, CALLS["unit_mem"], CALLS["loss"]):
        assert differing(call(one), call(other), ROUNDING) == []


def augment(rows: Tensor, generator: torch.Generator) -> Tensor:
    return rows + 0.1 * torch.randn(rows.shape, generator=generator).to(rows.device)


@pytest.fixture(scope="module")
def small() -> Pair:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        images, labels = torch.randn(24, 1, 6, 6), torch.arange(24) % 3
        return pair_of(mv.Study(Small().eval(), images, labels, GROUPS))


CALLS: dict[str, Any] = {
    "unit_mem": lambda s: encoders.unit_mem(s, None, augment, 2, **QUIET),
    "class_mem": lambda s: encoders.class_mem(s, **QUIET),
    "entropy": lambda s: information.entropy(s, null_draws=1, bins=8, **QUIET),
    "unit values": lambda s: information.unit_values(s, **QUIET),
    "binned pairs": lambda s: information.pair_information(s, **QUIET),
    "ksg pairs": lambda s: information.pair_information(s, estimator="ksg", **QUIET),
    "critical units": lambda s: localization.critical_units(s, per_group=2, cap=6, **QUIET),
    "el2n": lambda s: examples.el2n(s, null_draws=2, **QUIET),
    "grand": lambda s: examples.grand(s, null_draws=2, **QUIET),
    "tracin": lambda s: examples.tracin(s, 0.1, null_draws=2, **QUIET),
    "curvature": lambda s: examples.loss_curvature(s, draws=2, null_draws=2, **QUIET),
    "sensitivity": lambda s: examples.loss_sensitivity(s, null_draws=2, **QUIET),
    "depth": lambda s: examples.prediction_depth(s, k=3, null_draws=2, **QUIET),
    "loss": lambda s: examples.final_loss(s, null_draws=2, **QUIET),
    "conductance of a unit": lambda s: attribution.attribute_unit(s, "conv:1", [0, 1], n_steps=4),
}
for method in attribution.INPUT_METHODS:
    CALLS[f"input {method}"] = lambda s, m=method: attribution.attribute_inputs(s, [0], m)
for method in attribution.LAYER_METHODS:
    CALLS[f"layers {method}"] = lambda s, m=method: attribution.attribute_layers(s, [0, 1], m)


@pytest.mark.parametrize("call", CALLS)
def test_probes_of_a_classifier(small: Pair, call: str) -> None:
    within = ROUNDING if call == "critical units" else 0
    assert differing(CALLS[call](small[0]), CALLS[call](small[1]), within) == []


ON_TENSORS: dict[str, Any] = {
    "entropy": lambda x: information.unit_entropy(x, 5),
    "codes": lambda x: information.quantile_codes(x, 4),
    "ksg matrix": lambda x: information.ksg_matrix(x, **QUIET),
    "ksg": lambda x: information.ksg_mutual_information(x[:, 0], x[:, 1]),
    "nearest ratio": lambda x: density.nearest_ratio(x[:9], x[9:18], x[18:]),
}


def retrieved(rows: Tensor) -> Any:
    objects = rows[:, :3] > 0
    near = nearest(rows[:9], rows[9:], 3, **QUIET)
    crops = rows[:9], rows[9:], (rows[9:, 0] > 0).long()
    return (
        deja_vu.predict(near, objects[:9], objects[9:], 2),
        deja_vu.near_duplicates({"a": rows[:9], "b": rows[9:]}, 0.2, **QUIET),
        deja_vu.duplicates({"a": rows[:9], "b": rows[5:]}),
        deja_vu.zero_shot(rows[:3], rows[3:], objects[3:]),
        deja_vu.linear_probe(rows[:15], objects[:15], rows[15:], objects[15:], least=1),
        deja_vu_ssl.vote(*crops, 5, **QUIET),
    )


def corrected(targets: Tensor) -> Any:
    shares, labels = targets.softmax(1), (targets[:, 0] > 0).long()
    return early_learning.detected_as_wrong(shares, labels)


ON_TENSORS |= {"retrieval": retrieved, "early learning": corrected}


@pytest.mark.parametrize("call", ON_TENSORS)
def test_measures_of_values_on_the_device(call: str) -> None:
    values = torch.randn(27, 4, generator=torch.Generator().manual_seed(0))
    assert differing(ON_TENSORS[call](values), ON_TENSORS[call](values.to(DEVICE))) == []


def test_layer_mem_of_two_encoders(small: Pair) -> None:
    sets = Subsets(range(9), range(9, 14), range(14, 19), range(19, 24))
    other, images = Small().eval(), small[0].inputs

    def measured(place: str | torch.device) -> Any:
        pair = (copy.deepcopy(model).to(place) for model in (small[0].model, other))
        given = {"augmentations": 2, **QUIET}
        return encoders.layer_mem(*pair, images, augment, sets, **given)

    assert differing(measured("cpu"), measured(DEVICE)) == []


@pytest.mark.parametrize("call", [lambda s: mv.sweep(s, **QUIET), mv.estimate])
def test_effects_on_a_density(call: Any) -> None:
    one, other = pair_of(density_study())
    assert differing(call(one), call(other), ROUNDING) == []


@pytest.mark.parametrize(
    "call",
    [
        lambda s: mv.sweep(s, **QUIET),
        lambda s: mv.readout(s, {mv.layers(s)[0].name: [0]}, random_draws=2),
    ],
)
def test_gates_soft_and_hard(call: Any) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        images = torch.rand(24, 1, 4, 4)
    one, other = pair_of(mv.Study(dense_net(), images, torch.arange(24) % 4, GROUPS))
    assert differing(call(one), call(other), ROUNDING) == []
