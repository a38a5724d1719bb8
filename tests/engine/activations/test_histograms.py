"""Joint histograms and mutual information against NumPy, scikit-learn and closed forms."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mutual_info_score
from torch import Tensor

from memviz.engine.activations import _histograms as histograms
from memviz.engine.activations import binned_mutual_information, histogram_tiles, joint_histograms

PATHS = ("int8", "float32", "bincount")


def take(path: str, patch: pytest.MonkeyPatch) -> None:
    """Make one of the ways of counting look the quickest."""
    dtype = torch.float32 if path == "float32" else torch.int8
    patch.setattr(histograms, "_fastest", lambda _device: (dtype, float(path == "bincount")))
    patch.setattr(histograms, "_seconds_per_pair", lambda _n: 1e-9)


@pytest.fixture(params=PATHS)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    take(request.param, monkeypatch)
    return request.param


def drawn(units: int, examples: int, bins: int, seed: int = 0) -> Tensor:
    """Codes of which neighbours depend on each other."""
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randint(bins, (1, examples), generator=generator)
    own = torch.randint(bins, (units, examples), generator=generator)
    return torch.where(
        torch.rand(units, 1, generator=generator) < 0.5, own, (own // 2 + shared) % bins
    )


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize(
    ("units", "examples", "bins"), [(5, 100, 2), (7, 333, 10), (1, 1, 3), (3, 50, 300)]
)
def test_counts_are_those_of_numpy(units: int, examples: int, bins: int) -> None:
    codes = drawn(units, examples, bins)
    table = joint_histograms(codes, bins)
    assert table.dtype == torch.int64 and table.shape == (units, units, bins, bins)
    edges = [np.arange(bins + 1)] * 2
    for i in range(units):
        for j in range(units):
            counts = np.histogram2d(codes[i], codes[j], edges)[0]
            assert np.array_equal(table[i, j], counts)


@pytest.mark.usefixtures("path")
def test_many_tiles_and_two_steps_give_one_table(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = drawn(23, 500, 5)
    whole = joint_histograms(codes, 5)
    monkeypatch.setattr(histograms, "_SIDE", 16)
    monkeypatch.setattr(histograms, "_ONE_HOT", 16 * 499)  # the last step has one example
    tiles = list(histogram_tiles(codes, 5))
    assert len(tiles) == 6 * 7 / 2
    assert all(counts.dtype == torch.int32 for _, _, counts in tiles)
    assert joint_histograms(codes, 5).equal(whole)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(PATHS),
    st.integers(1, 5),
    st.integers(1, 200),
    st.integers(2, 40),
    st.integers(0, 2**32 - 1),
    st.sampled_from([torch.int64, torch.int32, torch.uint8, torch.int16]),
)
def test_information_is_that_of_scikit_learn(
    path: str, units: int, examples: int, bins: int, seed: int, dtype: torch.dtype
) -> None:
    codes = drawn(units, examples, bins, seed)
    with pytest.MonkeyPatch.context() as patch:
        take(path, patch)
        found = binned_mutual_information(codes.to(dtype), bins)
    assert found.dtype == torch.float64
    true = [[mutual_info_score(a, b) for a in codes.numpy()] for b in codes.numpy()]
    torch.testing.assert_close(found, torch.tensor(true, dtype=torch.float64), rtol=0, atol=1e-12)
    assert found.equal(found.T) and bool((found >= 0).all())


@pytest.mark.usefixtures("path")
def test_closed_forms() -> None:
    uniform = torch.arange(1000) % 10
    constant = torch.zeros(1000, dtype=torch.int64)
    coin = (torch.arange(1000) < 300).long()
    independent = torch.arange(1000) // 100  # each of its bins meets each of uniform's as often
    renamed = 9 - uniform
    found = binned_mutual_information(
        torch.stack([uniform, constant, coin, independent, renamed]), 10
    )
    entropy = -0.3 * math.log(0.3) - 0.7 * math.log(0.7)
    expected = torch.tensor([math.log(10), 0.0, entropy, math.log(10), math.log(10)])
    torch.testing.assert_close(found.diagonal(), expected.double(), rtol=0, atol=1e-7)
    assert float(found[0, 3]) == pytest.approx(0.0, abs=1e-12)
    assert float(found[1].max()) == pytest.approx(0.0, abs=1e-12)
    assert float(found[0, 4]) == pytest.approx(math.log(10), abs=1e-12)


def test_a_binary_channel_has_its_information() -> None:
    """A fair bit and its copy with a tenth of the bits flipped: ln 2 - H(0.1)."""
    bit = torch.arange(20) % 2
    noisy = torch.where(torch.arange(20) < 2, 1 - bit, bit)
    found = binned_mutual_information(torch.stack([bit, noisy]), 2)
    flipped = -0.1 * math.log(0.1) - 0.9 * math.log(0.9)
    assert float(found[0, 1]) == pytest.approx(math.log(2) - flipped, abs=1e-12)


def test_counts_that_bfloat16_would_round_are_exact(path: str) -> None:
    codes = torch.tensor([[0] * 4097 + [1] * 300, [0] * 257 + [1] * 4140])
    counts = joint_histograms(codes, 2)[0, 1]
    assert counts.tolist() == [[257, 3840], [0, 300]]


def test_without_int8_products_the_counts_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = drawn(6, 400, 4)
    whole = joint_histograms(codes, 4)

    def refuse(*_: Tensor) -> Tensor:
        raise RuntimeError("self.size(0) needs to be greater than 16")

    device = torch.device("cpu")
    monkeypatch.setattr(torch, "_int_mm", refuse)
    take("int8", monkeypatch)
    assert joint_histograms(codes, 4).equal(whole)
    monkeypatch.undo()
    monkeypatch.delattr(torch, "_int_mm")
    histograms._fastest.cache_clear()
    assert histograms._fastest(device)[0] == torch.float32
    assert joint_histograms(codes, 4).equal(whole)
    histograms._fastest.cache_clear()


def test_many_bins_are_counted_and_few_are_multiplied(monkeypatch: pytest.MonkeyPatch) -> None:
    counted, multiplied = [], []
    for name, seen in (("_counted", counted), ("_multiplied", multiplied)):
        plain = getattr(histograms, name)

        def record(*arguments: object, seen: list = seen, plain: object = plain) -> Tensor:
            seen.append(arguments)
            return plain(*arguments)

        monkeypatch.setattr(histograms, name, record)
    joint_histograms(drawn(2, 1000, 2), 2)
    assert len(multiplied) == 1 and not counted
    joint_histograms(drawn(2, 1000, 250), 250)
    assert len(multiplied) == 1 and counted


def test_codes_are_left_as_they_were() -> None:
    codes = drawn(4, 60, 6)
    kept = codes.clone()
    binned_mutual_information(codes, 6)
    assert codes.equal(kept)


@pytest.mark.parametrize(
    ("codes", "bins", "words"),
    [
        (torch.tensor([[0, 3]]), 3, "codes range from 0 to 3; with 3 bins they must be 0 to 2"),
        (torch.tensor([[-1, 2]]), 3, "codes range from -1 to 2"),
        (torch.tensor([[0.0, 1.0]]), 2, "codes must be integers .* got torch.float32"),
        (torch.tensor([0, 1]), 2, r"codes must be integers \[units, examples\]"),
        (torch.empty(0, 5, dtype=torch.long), 2, "at least one of each"),
        (torch.empty(5, 0, dtype=torch.long), 2, "at least one of each"),
        (torch.tensor([[0, 0]]), 1, "bins is 1; it must be a whole number, at least 2"),
        (torch.tensor([[0, 0]]), 2.0, "bins is 2.0; it must be a whole number"),
        ([[0, 0]], 2, "got list"),
        (np.zeros((2, 2)), 2, "got ndarray"),
        (torch.zeros(2, 2, device="meta").long(), 2, "got a meta tensor"),
    ],
)
def test_a_wrong_argument_gets_one_sentence(codes: Tensor, bins: int, words: str) -> None:
    for function in (joint_histograms, binned_mutual_information):
        with pytest.raises(ValueError, match=words):
            function(codes, bins)


@pytest.mark.parametrize(
    "kind", [np.uint8, np.int64, np.uint32, torch.uint16, torch.uint64, torch.int16]
)
def test_codes_may_be_integers_of_any_kind(kind: Any) -> None:
    codes = drawn(3, 50, 4)
    given = codes.to(kind) if isinstance(kind, torch.dtype) else codes.numpy().astype(kind)
    assert joint_histograms(given, 4).equal(joint_histograms(codes, 4))
    flags = codes > 1
    assert joint_histograms(flags, 2).equal(joint_histograms(flags.long(), 2))


def test_a_table_too_large_for_memory_is_refused() -> None:
    with pytest.raises(ValueError, match=r"would take 19\.1 GiB; use histogram_tiles"):
        joint_histograms(torch.zeros(512, 3, dtype=torch.uint8), 99)
