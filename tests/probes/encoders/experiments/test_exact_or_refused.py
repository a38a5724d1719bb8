"""Experiments on encoders: ties, shared weights, dead units, and what is refused."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import memviz as mv
from memviz.probes.encoders import ProbeAccuracy, UnitScores, inject, prune, replace_layers
from memviz.probes.encoders.experiments import Injection, fine_tune_layers
from memviz.scores import Scores


class Units(nn.Module):
    """Two layers of units that the images are let through."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.one, self.two = (nn.Linear(units, units, bias=False) for _ in range(2))
        for layer in (self.one, self.two):
            nn.init.eye_(layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.two(torch.relu(self.one(x)))) * 1.0


def pruned(values: np.ndarray, order: np.ndarray, **more: object) -> tuple[mv.Study, list[set]]:
    """The units of layer one that each step ablates, and the table."""
    width = len(values)
    study = mv.Study(Units(width).eval(), torch.ones(3, width), torch.zeros(3), {"a": range(3)})
    units = tuple(mv.Unit("one", int(row)) for row in order)
    gone: list[set[int]] = []

    def accuracy(model: nn.Module) -> float:
        with torch.no_grad():
            gone.append({int(k) for k in (model(torch.ones(1, width))[0] == 0).nonzero()})
        return float(sum(2**k for k in gone[-1]))

    scores = Scores("made", "", values[order], units=units)
    return prune(study, scores, accuracy, progress=False, **more), gone[1:]


@pytest.mark.parametrize("per_layer", [True, False])
def test_tied_units_are_not_both_top_and_low(per_layer: bool) -> None:
    for seed in range(10):
        found, gone = pruned(np.ones(8), np.arange(8), shares=(0.25, 0.5), draws=6, seed=seed,
                             per_layer=per_layer)  # fmt: skip
        for part in (gone[:18], gone[18:]):
            top, low = part[:6], part[12:]
            assert all(not a & b for a, b in zip(top, low, strict=True))
        rows = found.frame.set_index(["share", "choice"])
        wanted = np.mean([sum(2**k for k in units) for units in gone[:6]])
        assert rows.loc[(0.25, "top"), "accuracy"] == pytest.approx(wanted)
        assert rows.loc[(0.25, "top"), "least"] < rows.loc[(0.25, "top"), "largest"]
    counts = np.zeros(8)
    for seed in range(40):
        for units in pruned(np.ones(8), np.arange(8), shares=(0.25,), seed=seed)[1][:5]:
            counts[list(units)] += 1
    assert counts.min() > 0.5 * counts.mean()  # no unit is favoured by its row


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(6)), st.lists(st.integers(0, 2), min_size=6, max_size=6))
def test_the_order_of_the_scores_changes_nothing(order: list[int], values: list[int]) -> None:
    one, gone = pruned(np.array(values, float), np.arange(6), shares=(0.3,), draws=3)
    other, again = pruned(np.array(values, float), np.array(order), shares=(0.3,), draws=3)
    assert gone == again and one.frame.equals(other.frame)


def test_without_ties_at_the_cut_one_set_is_enough() -> None:
    values = np.array([0.0, 0.0, 1, 2, 3, 3])
    _, gone = pruned(values, np.arange(6), shares=(1 / 3,), draws=4)
    assert gone[0] == {4, 5} and gone[-1] == {0, 1} and len(gone) == 1 + 4 + 1
    with pytest.raises(ValueError, match="draws is 0; give at least 1"):
        pruned(values, np.arange(6), draws=0)


def votes(
    features: np.ndarray, labels: list[int], query: np.ndarray, k: int
) -> dict[int, Fraction]:
    """The share of each class in the prediction: every choice of the tied for the last seats."""
    cosines = features @ query
    last = sorted(cosines)[-k]
    nearer = [i for i in range(len(labels)) if cosines[i] > last]
    tied = [i for i in range(len(labels)) if cosines[i] == last]
    total: dict[int, Fraction] = {}
    for chosen in itertools.combinations(tied, k - len(nearer)):
        for i in [*nearer, *chosen]:
            total[labels[i]] = total.get(labels[i], Fraction(0)) + 1
    best = [c for c in total if total[c] == max(total.values())]
    return {c: Fraction(1, len(best)) for c in best}


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=4, max_size=9),
    st.integers(1, 4),
    st.permutations(range(3)),
    st.randoms(use_true_random=False),
)
def test_neighbours_and_classes_that_tie_share_the_vote(
    rows: list[tuple[int, int]], k: int, names: list[int], random: object
) -> None:
    places = torch.eye(4)
    labels = [label for _, label in rows]
    if len(set(labels)) < 2:
        return
    images = places[[place for place, _ in rows]]
    queries, true = places.repeat(3, 1), torch.arange(3).repeat_interleave(4)
    found = ProbeAccuracy(images, torch.tensor(labels), queries, true, "knn", k)(nn.Identity())
    wanted = [
        votes(images.numpy(), labels, query.numpy(), k).get(int(label), Fraction(0))
        for query, label in zip(queries, true, strict=True)
    ]
    assert found == pytest.approx(float(sum(wanted) / len(wanted)))
    order = list(range(len(rows)))
    random.shuffle(order)  # type: ignore[attr-defined]
    renamed = torch.tensor(names)
    again = ProbeAccuracy(images[order], renamed[torch.tensor(labels)[order]], queries,
                          renamed[true], "knn", k)(nn.Identity())  # fmt: skip
    assert again == pytest.approx(found)


def test_probes_refuse_encoders_that_are_not_fixed() -> None:
    images, labels = torch.rand(12, 3), torch.arange(12) % 2

    class Changed(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return self.change(super().forward(x))

    def accuracy(change: object) -> float:
        model = Changed(3, 8)
        model.change = change
        return ProbeAccuracy(images, labels, images, labels)(model.eval())

    with pytest.raises(ValueError, match="the model's forward pass is random"):
        accuracy(lambda x: F.dropout(x, 0.5))
    with pytest.raises(ValueError, match="depend on the other images of its batch"):
        accuracy(lambda x: x - x.mean(0))
    with pytest.raises(ValueError, match="train mode"):
        ProbeAccuracy(images, labels, images, labels)(nn.Linear(3, 2).train())
    with pytest.raises(ValueError, match="the encoder returns 2 tensors with a row per image"):
        accuracy(lambda x: (x, x + 1))


class Tied(nn.Module):
    """A decoder that uses the weights of a layer, as a tied head does."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(4, 4), nn.Linear(4, 2)
        self.decoder = nn.ParameterList([self.layer.weight])

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.layer(x)) @ self.decoder[0])


def test_layers_that_share_weights_are_not_changed_alone() -> None:
    model, donor, images = Tied().eval(), Tied().eval(), torch.rand(6, 4)
    words = r"'decoder.0' is also a weight of a chosen layer and would change with it"
    with pytest.raises(ValueError, match=words):
        replace_layers(model, donor, ["layer"], images[:2])
    with pytest.raises(ValueError, match=words):
        fine_tune_layers(model, ["layer"], images, torch.arange(6) % 2, epochs=1)
    study = mv.Study(model, images, torch.zeros(6), {"a": range(6)})
    with pytest.raises(ValueError, match=f"can't be tuned unit by unit|{words}"):
        inject(study, 0, "layer:1", progress=False)
    mixed = replace_layers(model, donor, ["head"], images[:2])
    assert torch.equal(mixed.head.weight, donor.head.weight)


def test_an_image_is_not_planted_in_weights_that_the_layer_computes() -> None:
    class Standardized(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return F.conv2d(x, self.weight - self.weight.mean((1, 2, 3), keepdim=True), self.bias)

    model = nn.Sequential(Standardized(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)).eval()
    study = mv.Study(model, torch.rand(6, 1, 6, 6), torch.zeros(6), {"a": range(6)})
    with pytest.raises(ValueError, match="layer '0' does not use its weights as they are"):
        inject(study, 0, "0:1", progress=False)


def test_a_dead_unit_comes_last_and_units_that_tie_share_a_rank() -> None:
    def planted(values: list[float]) -> Injection:
        units = tuple(mv.Unit("fc", k) for k in range(len(values)))
        owners = np.where(np.isnan(values), -1, 3)
        scores = UnitScores("UnitMem", "", np.array(values), units=units, owners=owners)
        return Injection(None, units[1], 3, scores, scores, None)  # type: ignore[arg-type]

    assert planted([0.5, np.nan, 0.7]).rank == 3 and not planted([0.5, np.nan, 0.7]).found
    assert planted([1.0, 1.0, 0.7]).rank == 1 and planted([0.5, 0.4, 0.5]).rank == 3
