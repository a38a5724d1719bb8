"""Forecasts, sampling, exposure and counterfactual memorization against their closed forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binom, pearsonr
from torch import Tensor, nn

from memviz.probes.extraction import (
    constant_rate,
    correlations,
    counterfactual_influence,
    counterfactual_memorization,
    discoverable,
    exposure,
    extract,
    extrapolated_exposure,
    forecast,
    forecasts,
    samples_needed,
    sampling_probabilities,
    tracks,
    training_compute,
)


def indicators(seed: int, n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    memorized = rng.random(n) < 0.3
    return (memorized & (rng.random(n) < 0.6)) | (rng.random(n) < 0.05), memorized


# Forecasts ---------------------------------------------------------------------------------------


def test_nested_sets_are_precise_and_blind() -> None:
    small, large = np.zeros(100, bool), np.zeros(100, bool)
    small[:12], large[:30] = True, True
    judged = forecast(small, large)
    assert (judged.precision, judged.recall) == (1.0, 12 / 30)
    s, m = 0.12, 0.30
    assert judged.phi == pytest.approx((s * (1 - m) / (m * (1 - s))) ** 0.5)


@pytest.mark.parametrize("seed", range(4))
def test_forecasts_are_sets_and_pearson(seed: int) -> None:
    small, large = indicators(seed)
    judged = forecast(small, large)
    s, m = set(np.flatnonzero(small)), set(np.flatnonzero(large))
    assert judged.precision == len(s & m) / len(s)
    assert judged.recall == len(s & m) / len(m)
    assert len(s) * judged.precision == pytest.approx(len(m) * judged.recall)
    assert judged.phi == pytest.approx(pearsonr(small, large).statistic)
    assert judged.precision_by_chance == len(m) / 400
    assert judged.recall_by_chance == len(s) / 400
    low, high = judged.recall_interval
    assert low < judged.recall < high


def test_the_confusion_table_is_the_right_way_round() -> None:
    """The released code passes prediction and truth to scikit-learn in the wrong order."""
    from sklearn.metrics import confusion_matrix

    predicted, memorized = (
        np.array([True, True, True, False]),
        np.array([True, False, False, False]),
    )
    table = forecast(predicted, memorized).confusion()
    assert table.loc["predicted", "not memorized"] == 2
    assert table.loc["not predicted", "memorized"] == 0
    (_, false_positives), (false_negatives, true_positives) = confusion_matrix(memorized, predicted)
    assert table.loc["predicted", "not memorized"] == false_positives
    assert table.loc["not predicted", "memorized"] == false_negatives
    assert table.loc["predicted", "memorized"] == true_positives


def test_an_empty_set_is_undefined_with_its_reason() -> None:
    judged = forecast([False, False], [True, False])
    assert np.isnan(judged.precision)
    assert judged.recall == 0
    assert "its precision is undefined" in judged.reason
    ladder = {"none": [False, False], "all": [True, True], "target": [True, False]}
    rows = forecasts(ladder, "target")
    assert list(rows["predictor"]) == ["none", "all"]
    assert "undefined" in rows["reason"][0]
    assert np.isnan(correlations(ladder).loc["all", "target"])


def test_tracks_are_sets() -> None:
    first, second = indicators(1)
    third = first ^ second
    steps = tracks({"1": first, "2": second, "3": third})
    assert steps["forgotten"][0] == (first & ~second).sum()
    assert steps["learned"][1] == (~second & third).sum()
    assert steps["regained"][0] == (first & ~second & third).sum()


class Recites(nn.Module):
    """Follows each token by the next number, up to a limit."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit

    def forward(self, tokens: Tensor) -> Tensor:
        said = torch.where(tokens < self.limit, tokens + 1, 0)
        return nn.functional.one_hot(said, 20).float()


def test_two_tables_with_nested_sets_through_extract() -> None:
    passages = torch.stack([torch.arange(k, k + 6) for k in range(12)])
    ladder = {
        str(limit): extract(Recites(limit).eval(), passages, 2, 4, progress=False)
        for limit in (8, 12)
    }
    row = forecasts(ladder, "12", {"8": 1e6, "12": 2e6}).iloc[0]
    assert (row["precision"], row["recall"]) == (1.0, 4 / 8)
    assert row["compute"] == 1e6


@pytest.mark.parametrize(
    ("ladder", "target", "sentence"),
    [
        ({"a": [True]}, "b", "no model 'b'"),
        ({"a": [True], "b": [True, False]}, "b", "'b' has 2 passages and 'a' 1"),
        ({"a": [1, 0], "b": [1, 1]}, "b", "a bool for each passage"),
        ({}, "b", "no model 'b'"),
        ({"b": [True]}, "b", "holds only its target 'b'"),
        ({"a": [[True], [True, False]], "b": [True]}, "b", "'a' is object of shape"),
        ({"a": None, "b": [True]}, "b", "give what extract"),
        ({"a": [True]}, "b" * 1000, "no model 'bbb.*…' in the ladder"),
    ],
)
def test_bad_ladders_get_one_sentence(ladder: Any, target: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        forecasts(ladder, target)


def test_a_model_without_its_compute_gets_one_sentence() -> None:
    with pytest.raises(ValueError, match="compute says nothing of b; give a number for each"):
        forecasts({"a": [True], "b": [True]}, "a", {"a": 1.0})
    with pytest.raises(ValueError, match="parameters is -1; give a number above 0"):
        training_compute(-1, 3)


def test_other_passages_are_refused() -> None:
    model, passages = Recites(9).eval(), torch.stack([torch.arange(k, k + 6) for k in range(3)])
    one = extract(model, passages, 2, 4, progress=False)
    other = extract(model, passages.flip(0), 2, 4, progress=False)
    with pytest.raises(ValueError, match="other passages than"):
        forecast(one, other)


# The constant-rate null --------------------------------------------------------------------------


def test_the_constant_rate_is_binomial() -> None:
    np.testing.assert_allclose(constant_rate(0.9, 32), binom.pmf(range(33), 32, 0.9), rtol=1e-9)
    assert constant_rate(0.5, 32)[-1] == 0.5**32


# Sampling ----------------------------------------------------------------------------------------


def test_n_p_table() -> None:
    assert [int(samples_needed(0.162, p)) for p in (0.5, 0.9, 0.999)] == [4, 14, 40]
    np.testing.assert_array_equal(samples_needed([0.0, 1.0, 0.5], 0.5), [np.inf, 1, 1])
    np.testing.assert_array_equal(discoverable([0.162, 0.0, 0.9], 1, 0.5), [False, False, True])


class Grams(nn.Module):
    """After token 0 come m copies of token 1 among c others; after it always itself."""

    def __init__(self, copies: int, others: int) -> None:
        super().__init__()
        counts = torch.full((7, 7), 1e-30)
        counts[0, 1], counts[0, 2] = float(copies), float(others)
        counts[1, 1], counts[1, 2] = float(copies), float(others)
        self.register_buffer("logits", counts.log())

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.logits[tokens]  # type: ignore[index]
        return logits


@pytest.mark.parametrize(("copies", "others"), [(3, 1), (1, 3), (5, 5)])
def test_n_grams_have_the_chance_of_their_counts(copies: int, others: int) -> None:
    model, p = Grams(copies, others).eval(), copies / (copies + others)
    passage = [[0, 1, 1, 1]]
    chance = sampling_probabilities(model, passage, 1, 3, progress=False)
    np.testing.assert_allclose(chance, p**3, rtol=1e-6)
    recited = extract(model, passage, 1, 3, progress=False).memorized[0]
    assert recited == (copies >= others)  # of equal counts the first token is said
    greedy = sampling_probabilities(model, passage, 1, 3, top_k=1, progress=False)
    np.testing.assert_allclose(greedy, float(recited), atol=1e-12)


def test_a_chance_above_one_half_is_recited_greedily() -> None:
    weights = torch.randn(40, 40, generator=torch.Generator().manual_seed(0)) * 4
    model = nn.Embedding.from_pretrained(weights).eval()
    passages = torch.randint(40, (4000, 3), generator=torch.Generator().manual_seed(1))
    for k in (1, 2):  # every second passage follows the model's first choices
        passages[::2, k] = weights[passages[::2, k - 1]].argmax(1)
    chance = sampling_probabilities(model, passages, 1, 2, progress=False)
    recited = extract(model, passages, 1, 2, progress=False).memorized
    assert recited[chance > 0.5].all()
    assert 0 < (chance > 0.5).mean() < 0.5


def test_temperature_and_top_k_are_those_of_sampling() -> None:
    weights = torch.randn(9, 9, generator=torch.Generator().manual_seed(0)).double()
    model = nn.Embedding.from_pretrained(weights).eval()
    chance = sampling_probabilities(model, [[2, 4]], 1, 1, temperature=0.7, top_k=9, progress=False)
    np.testing.assert_allclose(chance, (weights[2] / 0.7).softmax(0)[4].numpy(), rtol=1e-6)
    top = weights[2].topk(3)
    for token, logit in zip(top.indices.tolist(), top.values.tolist(), strict=True):
        chance = sampling_probabilities(model, [[2, token]], 1, 1, top_k=3, progress=False)
        np.testing.assert_allclose(
            chance, np.exp(logit) / np.exp(top.values.numpy()).sum(), rtol=1e-6
        )
    rest = next(t for t in range(9) if t not in top.indices.tolist())
    assert sampling_probabilities(model, [[2, rest]], 1, 1, top_k=3, progress=False)[0] == 0


# Exposure ----------------------------------------------------------------------------------------


def test_exposure_of_an_untrained_model_is_log2_e() -> None:
    rng = np.random.default_rng(0)
    references, canaries = rng.random(200_000), rng.random(20_000)
    mean = exposure(canaries, references).mean()
    assert mean == pytest.approx(np.log2(np.e), abs=4 * 1.4427 / 20_000**0.5)


def test_exposure_is_the_rank() -> None:
    references = np.arange(1, 1024, dtype=float)
    np.testing.assert_allclose(exposure([0.5, 1.5, 2000.0], references), [10, 9, 0])


@pytest.mark.parametrize("kind", ["int16", "uint8", "float16", "bfloat16"])
def test_exposure_of_small_numbers_is_that_of_large_ones(kind: str) -> None:
    """No rank overflows: there are more references than the losses' dtype can count."""
    losses = torch.arange(256).repeat(400)
    wanted = exposure(losses[:250].double(), losses.double())
    dtype = getattr(torch, kind)
    np.testing.assert_array_equal(exposure(losses[:250].to(dtype), losses.to(dtype)), wanted)


def test_extrapolation_agrees_where_ranks_are_known() -> None:
    references = np.random.default_rng(0).normal(100, 10, 20_000)
    canaries = np.array([95.0, 80.0, 70.0])
    np.testing.assert_allclose(
        extrapolated_exposure(canaries, references), exposure(canaries, references), atol=0.4
    )
    assert extrapolated_exposure([20.0], references)[0] > 30


# Counterfactual memorization ---------------------------------------------------------------------


def test_counterfactual_memorization_of_tables() -> None:
    rng = np.random.default_rng(0)
    members = rng.random((40, 6)) < 0.25
    vocabulary = 50
    accuracies = np.where(members, 1.0, 1 / vocabulary)
    mem = counterfactual_memorization(accuracies, members)
    np.testing.assert_allclose(mem, 1 - 1 / vocabulary)
    members[:, 0] = True
    assert np.isnan(counterfactual_memorization(accuracies, members)[0])
    influence = counterfactual_influence(accuracies, members, accuracies[:, 1:2])
    np.testing.assert_allclose(influence[1, 0], 1 - 1 / vocabulary)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: samples_needed([1.2], 0.5), "outside 0 to 1"),
        (lambda: samples_needed([0.2], 1.0), "between 0 and 1"),
        (lambda: discoverable([0.2], 0, 0.5), "1 or more"),
        (lambda: exposure([float("nan")], [1.0]), "holds NaN"),
        (lambda: exposure([1.0], []), "give one loss per string"),
        (lambda: extrapolated_exposure([1.0], [1.0, 2.0]), "at least 20"),
        (lambda: extrapolated_exposure([1.0], [np.inf, *range(30)]), "holds an infinity"),
        (lambda: counterfactual_memorization([[1.0]], [[1]]), "bool of the same shape"),
        (lambda: constant_rate(1.5, 3), "from 0 to 1"),
        (lambda: tracks({"a": [True]}), "at least two checkpoints"),
    ],
)
def test_bad_input_gets_one_sentence(call: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        call()
