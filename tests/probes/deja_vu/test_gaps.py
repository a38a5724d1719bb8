"""Déjà vu: curves, intervals and sortings are those of the definitions."""

from dataclasses import replace
from itertools import combinations, permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from memviz.probes.deja_vu import (
    DejaVu,
    Embedded,
    gaps_of_means,
    summary,
    survival,
    two_model_test,
)
from memviz.statistics import first_of, resampled, share_of_first, sign_test


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def masks(seed: int, pictures: int, kinds: int, share: float = 0.3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(pictures, kinds, generator=generator) < share


def random_test(seed: int = 0, n: int = 60, m: int = 40, k: int = 6, **more: object) -> DejaVu:
    sides = [
        Embedded(drawn(seed + i, n, 8), drawn(seed + i + 2, m, 8), drawn(seed + i + 4, n, 8))
        for i in range(2)
    ]
    return two_model_test(
        *sides,
        masks(seed, n, 9),
        masks(seed + 1, m, 9),
        held_out_objects=masks(seed + 2, n, 9),
        k=k,
        **more,
    )


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_the_area_below_the_curve_is_the_mean_recall(recalls):
    levels, shares = survival(torch.tensor(recalls, dtype=torch.float64))
    steps = torch.diff(levels, prepend=torch.zeros(1, dtype=torch.float64))
    assert float((steps * shares).sum()) == pytest.approx(float(np.mean(recalls)))
    for level, share in zip(levels.tolist(), shares.tolist(), strict=True):
        assert share == pytest.approx(np.mean([r >= level for r in recalls]))


def test_intervals_are_those_of_the_binomial():
    signs = torch.cat([torch.ones(300), -torch.ones(100)]).double()
    drawn_means = resampled(signs[None], 2000, 0, progress=False)[:, 0]
    assert drawn_means.mean() == pytest.approx(0.5, abs=0.01)
    assert drawn_means.std() == pytest.approx((1 - 0.25) ** 0.5 / 20, rel=0.06)
    assert sign_test(signs) == pytest.approx(200 / 20) and sign_test(torch.zeros(3)) == 0
    assert np.array_equal(resampled(signs[None], 5, 1), resampled(signs[None], 5, 1))
    table = summary(signs.expand(3, -1), -signs.expand(3, -1), 500, 0)
    assert table["beyond"].tolist() == [1.0] * 3
    assert (table["beyond low"] < 1).all() and (table["beyond high"] > 1).all()
    assert table["beyond std"].iloc[0] == pytest.approx(2**0.5 * table["std"].iloc[0], rel=0.15)


def test_the_sortings_are_those_of_the_definitions():
    found = random_test(1, top=3)
    table = found.frame[found.frame["objects"] > 0]
    right = table["target_right"] - table["reference_right"]
    assert table["max_pred_gap"].tolist() == right.tolist()
    assert table["recall_gap"].to_numpy() == pytest.approx((right / table["objects"]).to_numpy())
    unit = [nn.functional.normalize(drawn(seed, n, 8)) for seed, n in ((1, 60), (3, 40))]
    nearest_one = torch.cdist(unit[0], unit[1]).amin(1)
    assert found.frame["min_dist"].to_numpy()[table.index] == pytest.approx(
        nearest_one.numpy()[table.index], abs=1e-5
    )
    for by, best in (("min_dist", table["min_dist"].idxmin()), ("crct_pred", None)):
        order = found.order(by)
        values = table[by][order].to_numpy()
        assert (np.diff(values) >= 0).all() if by == "min_dist" else (np.diff(values) <= 0).all()
        assert best is None or order[0] == best
    assert set(found.order()) == set(found.scored.tolist())


def test_gaps_of_the_first_pairs_are_of_means():
    found = random_test(2)
    table = found.most_memorized("recall_gap", (0.001, 0.1, 1.0))
    scored = len(found.scored)
    assert table["pairs"].tolist() == [1, int(0.1 * scored), scored]
    assert table["recall_gap"].iloc[-1] == pytest.approx(found.aucg)
    # By hand, over every choice among the pairs that tie for the last places.
    count = int(0.1 * scored)
    values = found.frame["recall_gap"].round(9).dropna()
    cut = values.sort_values().iloc[-count]
    sure, tied = values.index[values > cut], values.index[values == cut]
    choices = [[*sure, *some] for some in combinations(tied, count - len(sure))]
    assert len(choices) > 1
    f = []
    for side in ("target", "reference"):
        frame = found.frame[[f"{side}_precision", f"{side}_recall"]]
        p, r = np.mean([frame.loc[rows].mean() for rows in choices], axis=0)
        f.append(2 * p * r / (p + r + 1e-5))
    assert table["f_gap"].iloc[1] == pytest.approx(f[0] - f[1])
    assert (table["recall_gap"].diff().dropna() <= 1e-12).all()
    assert {"null_precision_gap", "null_recall_gap", "null_f_gap"} < set(table.columns)
    nothing = torch.zeros(2, 3)
    assert gaps_of_means(nothing, nothing) == (0, 0, 0)


def test_29_percent_of_100_are_29():
    found = random_test(3, n=100)
    scored = len(found.scored)
    shares = [row / scored for row in range(1, scored + 1)]
    assert found.most_memorized(fractions=shares)["pairs"].tolist() == list(range(1, scored + 1))
    assert [first_of(share, 100) for share in (0.29, 0.57, 0.58, 0.999, 1e-9)] == [
        29,
        57,
        58,
        99,
        1,
    ]


def test_equal_values_share_the_last_places():
    values = torch.tensor([5.0, 3.0, 3.0, 3.0, 1.0])
    expected = torch.zeros(5, dtype=torch.float64)
    for order in permutations(range(5)):
        rows = sorted(order, key=lambda row: -float(values[row]))  # stable
        expected[rows[:3]] += 1 / 120
    torch.testing.assert_close(share_of_first(values, 3), expected)
    assert share_of_first(values, 5).tolist() == [1] * 5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_distances_to_the_nearest_image_are_exact(dtype):
    n = 40
    public = drawn(0, n, 16).to(dtype)
    smallest = 1e-7 if dtype == torch.float32 else 1e-13
    steps = torch.logspace(np.log10(smallest), -2, n, dtype=torch.float64)[:, None]
    captions = (public.double() * (1 + steps * drawn(1, n, 16).double())).to(dtype)
    one = Embedded(captions, public)
    found = two_model_test(one, replace(one, name="r"), masks(0, n, 5) | True, masks(1, n, 5), k=1)
    u, v = (rows.double() / rows.double().norm(dim=1, keepdim=True) for rows in (captions, public))
    expected = (u - v).norm(dim=1)
    assert found.target.neighbours.ids[:, 0].tolist() == list(range(n))
    assert found.frame["min_dist"].tolist() == pytest.approx(expected.tolist(), rel=1e-6, abs=1e-15)
    assert (expected > 0).sum() > n - 5 and found.at(1).frame["min_dist"].equals(
        found.frame["min_dist"]
    )
    kept = found.order("min_dist")
    assert (np.diff(expected[kept.copy()]) >= 0).all()


def test_scores_are_over_pairs_with_a_null_of_held_out_pairs():
    found = random_test(4)
    for by in ("max_pred_gap", "recall_gap", "crct_pred", "min_dist"):
        scores = found.scores(by)
        assert len(scores) == 60 and scores.null is not None and found.null is not None
        held_out = found.null.scores(by).values
        assert sorted(scores.null.values[:, 0]) == sorted(held_out[~np.isnan(held_out)])
        assert "held-out" in repr(scores) and len(scores.frame) == 60
    assert set(found.scores("min_dist").top(3)) == set(found.order("min_dist")[:3])
    assert random_test(4).null.scores().null is None  # type: ignore[union-attr]
