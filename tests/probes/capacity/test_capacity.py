"""Capacity: counts, certificates, clusters, and memorizers beside trained networks."""

from __future__ import annotations

import re
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from memviz.models.memorizers import METHODS, Memorizer, construct_memorizer
from memviz.probes.capacity import (
    certificates,
    cluster_curve,
    compare_memorizers,
    coupon_bound,
    covered,
    hidden_units,
    necessary,
    planted_clusters,
    precision,
    trained_networks,
    units_by_points,
    units_by_training,
    width_test,
)


def points(n: int, features: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(n, features, generator=draw, dtype=torch.float64)
    return x, torch.arange(n) % 2


def built(x: Tensor, labels: Tensor) -> Memorizer:
    return construct_memorizer(x, labels * 2 - 1, method="yu")


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(METHODS), st.integers(2, 30), st.integers(1, 5), st.integers(1, 3))
def test_counts_are_those_of_the_networks(method: str, n: int, features: int, outputs: int):
    x, labels = points(n, features)
    if method == "yu":
        outputs, values = 1, labels * 2.0 - 1
    elif method == "yun4":
        outputs, values = 2, labels
    else:
        values = torch.rand(n, outputs, generator=torch.Generator().manual_seed(1))
    built = construct_memorizer(x, values, method=method)
    assert hidden_units(method, n, features, outputs) == built.units == built.theorem


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 400))
def test_the_least_is_the_least_of_all_widths(n: int):
    fitting = [
        first + second
        for first, second in product(range(1, n + 2), repeat=2)
        if (first + 1) * (second + 1) >= n - 1
    ] if n < 60 else None  # fmt: skip
    least = necessary(n)
    if fitting:
        assert least <= min(fitting) <= least + 1
    assert least <= hidden_units("yun", n, 10, hardtanh=True) or n < 3


def test_the_table_of_counts_has_a_label_for_every_line():
    table = units_by_points([16, 100, 2500], 50)
    assert set(table.method) == {*METHODS, "yun hardtanh", "none"} and len(table) == 24
    kinds = table.label.str.contains("theorem|derivation")
    assert kinds.all()
    by = table.set_index(["method", "points"]).units
    assert by["zhang", 2500] == 2500 and by["yun", 2500] == 200 and by["bubeck", 2500] == 200
    assert by["none", 2500] < by["yun hardtanh", 2500] == by["yun", 2500] / 2


def test_every_certificate_holds_and_a_broken_network_breaks_them():
    x, labels = points(20, 4)
    memorizer = construct_memorizer(x, labels * 2 - 1, method="yu")
    found = certificates(memorizer, 5, progress=False)
    assert (found.checked, found.broken) == (120, 0) and found.least > 1 - 1e-9
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    again = construct_memorizer(x[order], labels[order] * 2 - 1, method="yu")
    assert certificates(again, 5, progress=False).broken == 0
    with torch.no_grad():
        memorizer.model.output.weight[0, 3] = -memorizer.model.output.weight[0, 3]
    assert certificates(memorizer, 5, progress=False).broken > 0


def test_covered_examples_are_right_and_counted_as_by_hand():
    x, signs = planted_clusters(40)
    seen, true = planted_clusters(200, seed=1)
    memorizer = construct_memorizer(x, signs, method="yu")
    inside = torch.zeros(200, dtype=torch.bool)
    for row, place in enumerate(seen):
        for centre, radius, sign in zip(x, memorizer.radii, signs, strict=True):
            inside[row] |= bool((place - centre).norm() <= radius) and bool(sign == true[row])
    assert covered(memorizer, seen, true) == pytest.approx(inside.double().mean().item())
    with torch.no_grad():
        right = memorizer.model(seen)[:, 0].sign() == true
    assert right[inside].all()


def test_the_share_covered_rises_to_one_with_the_clusters_that_were_met():
    seen, true = planted_clusters(300, seed=1)
    shares, accuracies = [], []
    for n in (10, 30, 120):
        memorizer = construct_memorizer(*planted_clusters(n), method="yu")
        with torch.no_grad():
            right = memorizer.model(seen)[:, 0].sign() == true
        shares.append(covered(memorizer, seen, true))
        accuracies.append(float(right.double().mean()))
    assert shares == sorted(shares) and shares[-1] > 0.95
    assert all(share <= right for share, right in zip(shares, accuracies, strict=True))
    assert [coupon_bound(24, eps, 0.1) for eps in (0.2, 0.1, 0.05)] == [658, 1316, 2631]


def test_clusters_are_apart_and_seeds_share_their_centres():
    x, signs = planted_clusters(400, seed=5)
    apart = torch.cdist(x, x)
    other = signs[:, None] != signs
    assert apart[other].min() >= 4 - 2 * 4 / 6 - 1e-9
    near = torch.cdist(planted_clusters(400, seed=6)[0], x).min(1).values
    assert near.max() < 2 * 4 / 6
    with pytest.raises(ValueError, match="don't fit in 1 dimensions"):
        planted_clusters(3, features=1, clusters=24)
    with pytest.raises(ValueError, match="apart is inf; give a number above 0"):
        planted_clusters(4, apart=float("inf"))


def test_all_fit_and_the_certified_one_alone_says_anything_of_others():
    x, signs = planted_clusters(120)
    seen, true = planted_clusters(200, seed=1)
    table = compare_memorizers(
        x, (signs > 0).long(), seen, (true > 0).long(), methods=["yun", "zhang", "bubeck", "yu"]
    )
    assert (table.train == 1).all()
    assert table.test["yu"] > 0.95 > 0.85 > table.test[["yun", "zhang", "bubeck"]].max()
    assert (table.undecided[["yun", "zhang", "bubeck"]] == 0).all()


def test_labels_dealt_out_anew_are_memorized_as_well_and_tested_at_chance():
    x, signs = planted_clusters(120)
    seen, true = planted_clusters(600, seed=1)
    given = x, (signs > 0).long(), seen, (true > 0).long()
    table = compare_memorizers(*given, methods=["yun", "zhang", "bubeck", "yu", "trained"])
    assert (table.random_train.drop("trained") == 1).all() and table.random_train["trained"] > 0.9
    assert (table.random_test - 0.5).abs().max() < 0.15
    assert table.test["yu"] > 0.95 and table.test["trained"] > 0.9
    alone = compare_memorizers(*given, methods=["zhang"], null=False)
    assert "random_test" not in alone and alone.test["zhang"] == table.test["zhang"]


def test_the_null_is_of_the_examples_not_of_their_order():
    x, signs = planted_clusters(60)
    seen, true = planted_clusters(100, seed=1)
    labels, of_seen = (signs > 0).long(), (true > 0).long()
    order = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    one = compare_memorizers(x, labels, seen, of_seen, methods=["yu"])
    other = compare_memorizers(x[order], labels[order], seen, of_seen, methods=["yu"])
    assert one.equals(other)
    twice = torch.cat([x, x[:5]])  # equal inputs keep one label, or no network could fit them
    again = compare_memorizers(
        twice, torch.cat([labels, labels[:5]]), seen, of_seen, methods=["yu"]
    )
    assert again.random_train["yu"] == 1


def test_the_curve_of_clusters_is_that_of_its_parts():
    table = cluster_curve([10, 120], 300, progress=False)
    assert (table.train == 1).all() and (table.random_train == 1).all()
    assert (table.covered <= table.test).all() and table.test[120] > 0.97 > table.test[10]
    memorizer = construct_memorizer(*planted_clusters(10), method="yu")
    assert table.covered[10] == covered(memorizer, *planted_clusters(300, seed=1))


def test_trained_networks_need_no_fewer_units_than_there_have_to_be():
    table = units_by_training([10, 40], 6, epochs=100, progress=False)
    assert table.reached.all() and set(table.label) == {"measured"}
    assert all(
        units >= necessary(n) / 2 for n, units in zip(table.points, table.units, strict=True)
    )
    given_up = units_by_training([80], 6, epochs=2, widest=5, progress=False)
    assert given_up.units.tolist() == [10] and not given_up.reached.any()


def test_float32_is_coarser_the_more_points_there_are():
    table = precision([16, 400], 10)
    assert (table.float64 < 1e-7).all() and (table.float32 > 100 * table.float64).all()
    assert table.largest_weight[400] > table.largest_weight[16]


def test_adam_needs_more_units_than_there_have_to_be_and_leaves_no_trace():
    x, _ = points(200, 8)
    labels = torch.randint(2, (200,), generator=torch.Generator().manual_seed(0))
    state = torch.get_rng_state()
    table = trained_networks(x, labels, [2, 64], epochs=100, progress=False)
    assert torch.equal(torch.get_rng_state(), state) and torch.is_grad_enabled()
    assert table.train[2] < 0.8 < 0.95 < table.train[64]
    assert table.units.tolist() == [4, 128]
    assert table.equals(trained_networks(x, labels, [2, 64], epochs=100, progress=False))


def test_a_first_layer_narrower_than_the_data_can_not_tell_ring_from_ball():
    table = width_test(3, [1, 6], examples=400, epochs=150, progress=False)
    assert table.test[1] < 0.9 < table.test[6]


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda x, y: hidden_units("baum", 3, 2), "method is 'baum'; use yun"),
        (lambda x, y: compare_memorizers(x, y, x, y, methods=["baum"]), "no method 'baum'"),
        (lambda x, y: compare_memorizers(x, y + 1, x, y, methods=["yu"]), "there are 3"),
        (lambda x, y: certificates(construct_memorizer(x, y, method="zhang")), "no certified"),
        (lambda x, y: coupon_bound(3, 2.0, 0.1), "give shares below 1"),
        (
            lambda x, y: covered(built(x, y), x, y),
            "labels must be -1 or 1",
        ),
        (lambda x, y: covered(built(x, y), x[:, :2], y), "one row or more of 3 features"),
        (lambda x, y: covered(built(x, y), x[0], y), "one row or more of 3 features"),
        (lambda x, y: covered(built(x, y), x * torch.inf, y), "not finite; leave out its row"),
        (lambda x, y: compare_memorizers(x, y[:5], x, y), "labels has 5 entries for 8 inputs"),
        (lambda x, y: compare_memorizers(x, y, x, y[:5]), "test_labels has 5 entries for 8"),
        (lambda x, y: compare_memorizers(x, y, x[:, :2], y), "has 2 features and inputs 3"),
        (lambda x, y: compare_memorizers(x, y, x, y, methods=[]), "give at least one, and each"),
        (lambda x, y: compare_memorizers(x, y, x, y, noise=-1), "give a standard deviation"),
        (lambda x, y: compare_memorizers(x * torch.nan, y, x, y), "not finite, in row 0"),
        (lambda x, y: compare_memorizers(x[:0], y[:0], x, y), "at least one row"),
        (lambda x, y: compare_memorizers(x, y * 0, x, y), "all 8 labels are 0"),
        (lambda x, y: trained_networks(x, y * 0 + 1, [2]), "all 8 labels are 1"),
        (lambda x, y: trained_networks(x, y - 1, [2]), "labels holds -1; give classes from 0"),
        (lambda x, y: trained_networks(x, y * 0.5, [2]), "labels holds 0.5, which is not a class"),
        (lambda x, y: trained_networks(x, y * torch.nan, [2]), "labels holds nan"),
        (lambda x, y: trained_networks(x, y[None], [2]), "give one class per row, [n]"),
        (lambda x, y: trained_networks(x, y, []), "widths is []; give at least one"),
        (lambda x, y: trained_networks(x, y, [-2]), "widths is [-2]; give"),
        (lambda x, y: trained_networks(x, y, [10**6]), "GB to train, and 2 GB is the most"),
        (lambda x, y: width_test(2, []), "give at least one, and each once"),
        (lambda x, y: width_test(2, [2, 2]), "give at least one, and each once"),
        (lambda x, y: width_test(2, [10**8]), "GB to train, and 2 GB is the most"),
        (lambda x, y: precision(["many"]), "points is ['many']; give"),
        (lambda x, y: precision([]), "points is []; give at least one"),
        (lambda x, y: precision([10**8]), "100,000,000 points of 20 features take"),
        (lambda x, y: precision([10], -1), "features is -1; give a whole number"),
        (lambda x, y: precision([10], method="baum"), "method is 'baum'; use yun"),
        (lambda x, y: units_by_points([0], 3), "points is [0]; give"),
        (lambda x, y: units_by_training([5, 5]), "give at least one, and each once"),
        (lambda x, y: cluster_curve([]), "points is []; give at least one"),
        (lambda x, y: planted_clusters(10**9), "take"),
    ],
)
def test_bad_input_gets_one_sentence(call, sentence: str):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        call(*points(8, 3))
