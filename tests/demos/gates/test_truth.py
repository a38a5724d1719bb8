"""The truth of gates is one: the planted gates alone hold the looked-up labels, vote by vote."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import memviz as mv
from memviz.demos.gates import TRUTHS, _truth
from memviz.models.logic_gates import PackedNetwork, live_gates
from memviz.probes.contest import LOCALIZERS, Truth, contest


@pytest.fixture(scope="module")
def truth() -> Truth:
    return TRUTHS["gates, looked up"](0)


@torch.no_grad()
def votes(truth: Truth) -> torch.Tensor:
    """Counted by the engine's own path, on floats."""
    model = truth.study.model
    assert isinstance(model, nn.Sequential) and isinstance(truth.study.inputs, torch.Tensor)
    found: torch.Tensor = model[-1].votes(model(truth.study.inputs))  # type: ignore[operator]
    return found


def test_each_image_gets_its_votes_and_no_other_image_any(truth: Truth) -> None:
    study, planted = truth.study, mv.UnitSet.of(truth.planted)
    with mv.ablate(study, planted):
        before = votes(truth)
    after = votes(truth)
    memorized = study.groups["memorized"]
    expected = torch.zeros_like(after)
    expected[memorized, study.labels[memorized]] = 20
    assert torch.equal(after - before, expected)
    assert study.true_labels is not None
    assert torch.equal(before.argmax(1)[memorized], study.true_labels[memorized])
    assert torch.equal(after.argmax(1)[memorized], study.labels[memorized])
    assert study.labels[memorized].unique().tolist() == list(range(10))
    assert (study.labels != study.true_labels).nonzero()[:, 0].tolist() == (
        memorized.nonzero()[:, 0].tolist()
    )


def test_the_chain_of_an_image_fires_on_it_alone(truth: Truth) -> None:
    model, inputs = truth.study.model, truth.study.inputs
    assert isinstance(model, nn.Sequential) and isinstance(inputs, torch.Tensor)
    planted = mv.UnitSet.of(truth.planted).layers
    with torch.no_grad():
        fires = model[:5](inputs)[:, list(planted["4.gates"])].bool()
    images = {tuple(row.nonzero()[:, 0].tolist()) for row in fires.T}
    assert {image for (image,) in images} == set(truth.study.group("memorized").tolist())
    live = live_gates(model)
    assert all(live[name][list(rows)].all() for name, rows in planted.items())
    assert torch.equal(PackedNetwork(model).votes(inputs), votes(truth))


def test_a_bit_of_a_chain_holds_its_image_alone(truth: Truth) -> None:
    first = [unit for unit in mv.UnitSet.of(truth.planted) if unit.layer == "2.gates"]
    effects = mv.sweep(truth.study, mv.UnitSet(first), progress=False)
    lost = effects.lost("memorized")
    assert (lost == 1).all() and (effects.lost("clean") == 0).all()


def test_localizers_are_judged_beside_live_gates(truth: Truth) -> None:
    some = {name: LOCALIZERS[name] for name in ("exact ablation", "UnitMem")}
    found = contest([truth], some, random_draws=3, progress=False)
    recall = {entry.localizer: entry.recall for entry in found.entries}
    assert recall["planted units"] == 1 and recall["random"] < 0.2
    assert min(recall["exact ablation"], recall["UnitMem"]) > 3 * recall["random"]


def test_images_that_eight_bits_do_not_tell_apart_are_refused() -> None:
    enough = torch.ones(20, 10, dtype=torch.bool)
    with pytest.raises(RuntimeError, match="seed 3: 8 bits and 20 votes .* only 0 classes"):
        _truth._lookups(torch.zeros(20, 16).bool(), enough, 3)  # all the same
    few = enough.clone()
    few[:, 7] = False
    with pytest.raises(RuntimeError, match="only 9 classes"):
        _truth._lookups(torch.eye(20).bool(), few, 3)
    assert [one.label for one in _truth._lookups(torch.eye(20).bool(), enough, 3)] == [*range(10)]
