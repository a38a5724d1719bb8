"""Memorization and influence equal closed forms on learners whose every training is known."""

from collections.abc import Callable
from itertools import combinations
from math import comb

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import memviz as mv
from memviz.probes.examples import _feldman as feldman
from memviz.probes.examples import influential_pairs, leave_one_out, subsampled_memorization
from memviz.training.subsets import SubsetTrainings, train_subsets


def nearest_neighbour(inputs: Tensor, labels: Tensor, chosen: Tensor, seed: int) -> Tensor:
    """A learner without chance: the label of the nearest chosen example."""
    return labels[chosen][torch.cdist(inputs, inputs[chosen]).argmin(1)]


def constant(inputs: Tensor, labels: Tensor, chosen: Tensor, seed: int) -> Tensor:
    return torch.zeros_like(labels)


def coin(inputs: Tensor, labels: Tensor, chosen: Tensor, seed: int) -> Tensor:
    """Knows nothing of the labels."""
    return torch.randint(2, labels.shape, generator=torch.Generator().manual_seed(seed))


def study_of(points: list[float], labels: list[int], test: int = 0) -> mv.Study:
    n = len(points) - test
    groups = {"clean": range(n)} | ({"test": range(n, n + test)} if test else {})
    return mv.Study(nn.Linear(1, 2).eval(), torch.tensor(points)[:, None], labels, groups)


def all_subsets(study: mv.Study, size: int, fit: Callable[..., Tensor]) -> SubsetTrainings:
    """Every subset of a size once: the estimate is then the expectation itself."""
    n, inputs = len(study), study.inputs
    inside = torch.zeros(comb(n, size), n, dtype=torch.bool)
    correct = torch.zeros_like(inside)
    for row, chosen in enumerate(combinations(range(n), size)):
        inside[row, list(chosen)] = True
        correct[row] = fit(inputs, study.labels, torch.tensor(chosen), row) == study.labels
    return SubsetTrainings(torch.arange(n), inside, correct)


# Around 0 lie r points of another label, then five of its own.
@pytest.mark.parametrize("r", [1, 2, 3])
def test_nearest_neighbours_closed_form(r: int) -> None:
    points = [0.0, *(1.0 + 0.1 * k for k in range(r)), *(5.0 + k for k in range(5))]
    study = study_of(points, [0, *[1] * r, *[0] * 5])
    n, m = len(points), 5
    values = subsampled_memorization(all_subsets(study, m, nearest_neighbour)).values
    # Without it, it is right only if none of the r is in the subset.
    assert values[0] == pytest.approx(1 - comb(n - 1 - r, m) / comb(n - 1, m))
    assert leave_one_out(study, nearest_neighbour, [0], progress=False).values == [1.0]


def test_leaving_one_out_tells_whose_nearest_has_another_label() -> None:
    points, labels = torch.randn(12, generator=torch.Generator().manual_seed(0)), [0, 1, 1] * 4
    study = study_of(points.tolist(), labels)
    found = leave_one_out(study, nearest_neighbour, range(12), progress=False)
    apart = (points[:, None] - points).abs().fill_diagonal_(torch.inf)
    other = torch.tensor(labels)[apart.argmin(1)] != torch.tensor(labels)
    assert found.values.tolist() == other.double().tolist()
    assert found.null is not None
    assert found.null.values.shape == (11, 12)
    assert found.null.mean.max() < 0.5  # leaving out another one seldom matters


def test_twins_hide_each_other() -> None:
    # Two equal points of one label, all others of the other label.
    study = study_of([0.0, 0.0, 3.0, 4.0, 5.0, 6.0, 7.0], [1, 1, 0, 0, 0, 0, 0])
    n, m = 7, 5
    values = subsampled_memorization(all_subsets(study, m, nearest_neighbour)).values
    assert values[:2] == pytest.approx(1 - m / (n - 1))
    assert leave_one_out(study, nearest_neighbour, [0, 1], progress=False).values.tolist() == [0, 0]


def test_a_constant_learner_memorizes_nothing() -> None:
    study = study_of([float(k) for k in range(10)], [0, 1] * 5)
    found = subsampled_memorization(train_subsets(study, constant, trainings=12, progress=False))
    assert found.values[~np.isnan(found.values)] == pytest.approx(0)


def test_chance_is_unbiased_and_its_standard_error_right() -> None:
    study = study_of([float(k) for k in range(400)], [0, 1] * 200)
    trainings = train_subsets(study, coin, trainings=60, progress=False)
    found = subsampled_memorization(trainings)
    assert found.standard_error is not None
    z = found.values / found.standard_error
    assert abs(z.mean()) < 0.2  # of 400: 4 standard errors
    assert 0.8 < z.std() < 1.15
    bound = 0.5 * np.sqrt(1 / found.trainings_with + 1 / found.trainings_without)
    assert (found.standard_error <= bound).all()
    low, high = found.null.interval
    inside = (low <= found.values) & (found.values <= high)
    assert inside.mean() > 0.8  # 20 draws give a narrow 95 %
    assert abs(feldman.split_half(trainings.inside, trainings.correct_inside).mean()) < 0.2


def test_the_null_is_near_nothing_where_the_score_is_not() -> None:
    study = study_of([float(k) for k in range(20)], [0, 1] * 10)  # each among the other label
    trainings = train_subsets(study, nearest_neighbour, trainings=100, progress=False)
    found = subsampled_memorization(trainings)
    assert found.values.min() > 0.6
    assert abs(found.null.mean.mean()) < 0.05
    assert found.null.interval[1].max() < found.values.min()


def slow(inside: Tensor, correct: Tensor) -> tuple[list[float], list[float]]:
    """One training after the other, in plain Python."""
    values, errors = [], []
    for i in range(inside.shape[1]):
        groups: dict[bool, list[int]] = {True: [], False: []}
        for row in range(len(inside)):
            groups[bool(inside[row, i])].append(int(correct[row, i]))
        if not groups[True] or not groups[False]:
            values.append(float("nan"))
            errors.append(float("nan"))
            continue
        means = [sum(g) / len(g) for g in (groups[True], groups[False])]
        values.append(means[0] - means[1])
        p = [(sum(g) + 1) / (len(g) + 2) for g in groups.values()]
        widths = [q * (1 - q) / (len(g) + 2) for q, g in zip(p, groups.values(), strict=True)]
        errors.append(sum(widths) ** 0.5)
    return values, errors


@given(st.integers(1, 9), st.integers(1, 6), st.integers(1, 5), st.integers(0, 10**6))
def test_memorization_and_influence_equal_plain_python(t: int, n: int, m: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    inside = torch.rand(t, n, generator=generator) < 0.7
    correct = torch.rand(t, n, generator=generator) < 0.5
    values, errors = feldman.memorization(inside, correct)
    expected = slow(inside, correct)
    assert values.numpy() == pytest.approx(expected[0], nan_ok=True)
    assert errors.numpy() == pytest.approx(expected[1], nan_ok=True)
    others = torch.rand(t, m, generator=generator) < 0.5
    matrix = feldman.influence(inside, others)
    for j in range(m):
        column = slow(inside, others[:, j : j + 1].expand(t, n))[0]
        assert matrix[:, j].numpy() == pytest.approx(column, abs=1e-6, nan_ok=True)
    itself = feldman.influence(inside, correct).diagonal().double()
    assert itself.numpy() == pytest.approx(values.numpy(), abs=1e-6, nan_ok=True)


def test_always_in_and_never_in_is_not_known() -> None:
    inside = torch.tensor([[1, 0, 1], [1, 0, 0]]).bool()
    values, errors = feldman.memorization(inside, inside)
    assert values.isnan().tolist() == errors.isnan().tolist() == [True, True, False]
    assert feldman.influence(inside, inside).isnan().all(1).tolist() == [True, True, False]
    pairs, _ = feldman.influential_pairs(inside, inside, threshold=-2)
    assert pairs[:, 0].unique().tolist() == [2]


def test_pairs_are_those_of_the_whole_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(1)
    inside, correct = (torch.rand(30, n, generator=generator) < 0.6 for n in (40, 7))
    monkeypatch.setattr(feldman, "_BLOCK", 3 * 7)  # three rows at a time
    pairs, values = feldman.influential_pairs(inside, correct, 0.2)
    matrix = feldman.influence(inside, correct)
    assert len(pairs) == int((matrix >= 0.2).sum()) > 5
    assert torch.equal(matrix[pairs[:, 0], pairs[:, 1]], values)
    assert (values.diff() <= 0).all()


def test_a_planted_pair_is_found() -> None:
    # Test point 9.1 has a single near example of its label, which is alone in its class.
    study = study_of([0.0, 1.0, 2.0, 3.0, 4.0, 9.0, 9.1, 2.1], [0, 0, 0, 0, 0, 1, 1, 0], test=2)
    trainings = train_subsets(study, nearest_neighbour, trainings=40, progress=False)
    frame = influential_pairs(study, trainings)
    assert frame[["example", "test example"]].to_numpy().tolist() == [[5, 6]]
    assert frame[["influence", "memorization"]].to_numpy() == pytest.approx(1)
    study.labels[6] = 0
    assert len(influential_pairs(study, trainings)) == 0  # of another class


def test_split_halves_of_a_learner_without_chance_agree() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(60, generator=generator).tolist()
    labels = torch.randint(2, (60,), generator=generator).tolist()
    trainings = train_subsets(
        study_of(points, labels), nearest_neighbour, trainings=200, progress=False
    )
    tables = trainings.inside, trainings.correct_inside
    assert feldman.split_half(*tables).mean() > 0.95
    some = torch.arange(60) < 30
    assert not np.allclose(feldman.split_half(*tables), feldman.split_half(*tables, some))


def test_the_frame_has_errors_and_numbers_beside() -> None:
    study = study_of([float(k) for k in range(10)], [0, 1] * 5)
    trainings = train_subsets(study, nearest_neighbour, trainings=9, progress=False)
    frame = subsampled_memorization(trainings).frame
    counted = frame["trainings_with"] + frame["trainings_without"]
    assert counted.tolist() == [9] * 10
    assert frame["trainings_with"].tolist() == trainings.inside.sum(0).tolist()
    assert {"value", "standard_error", "null_low", "null_high"} <= set(frame)


def test_bad_tables_get_one_sentence() -> None:
    good = torch.ones(4, 3, dtype=torch.bool)
    with pytest.raises(ValueError, match="inside is torch.float32 of shape"):
        feldman.memorization(good.float(), good)
    with pytest.raises(ValueError, match="has 4 trainings and correct 3"):
        feldman.influence(good, good[:3])
    with pytest.raises(ValueError, match="the same trainings and examples"):
        feldman.memorization(good, good[:, :2])
    with pytest.raises(ValueError, match="too few to halve"):
        feldman.split_half(good[:3], good[:3])
    study = study_of([0.0, 1.0, 2.0], [0, 1, 0], test=1)
    with pytest.raises(ValueError, match="example 2, which is not in the pool"):
        leave_one_out(study, nearest_neighbour, [2])


def test_an_influence_of_exactly_the_threshold_counts() -> None:
    """Of 20 trainings with and 20 without: 7/20 − 4/20 is .15, which no rounding may lose."""
    inside = (torch.arange(40) < 20)[:, None]
    correct = torch.zeros(40, 20).bool()
    for column in range(18):  # column + 3 right with it, column right without
        correct[: column + 3, column] = True
        correct[20 : 20 + column, column] = True
    pairs, values = feldman.influential_pairs(inside, correct, 0.15)
    assert pairs[:, 1].sort().values.tolist() == list(range(18))
    assert values.numpy() == pytest.approx(0.15)
    assert len(feldman.influential_pairs(inside, correct, 0.151)[0]) == 0
    with pytest.raises(ValueError, match="threshold is nan"):
        feldman.influential_pairs(inside, correct, float("nan"))
