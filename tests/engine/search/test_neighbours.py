"""The k nearest rows against a float64 brute force, where rounding could mislead."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from memviz.engine.search import Measure, Screen, Search, nearest, product
from memviz.engine.search import _neighbours as neighbours
from memviz.engine.search import _screen as neighbour_screen
from memviz.engine.search import _search as neighbour_search
from memviz.engine.search import _ties as neighbour_ties

MEASURES: tuple[Measure, ...] = ("cosine", "euclidean", "dot")
SCREENS = (True, False)


def table(queries: Tensor, index: Tensor, measure: str) -> Tensor:
    """All values in float64, more is nearer."""
    q, v = queries.double()[:, None], index.double()[None]
    if measure == "euclidean":
        return -(q - v).square().sum(-1).sqrt()
    dots = (q * v).sum(-1)
    return dots / (q.norm(dim=-1) * v.norm(dim=-1)) if measure == "cosine" else dots


def brute_force(queries: Tensor, index: Tensor, k: int, measure: str) -> tuple[Tensor, Tensor]:
    values, ids = table(queries, index, measure).sort(dim=1, descending=True, stable=True)
    return ids[:, :k], values[:, :k]


def check(queries: Tensor, index: Tensor, k: int, measure: Measure, screen: bool) -> None:
    """Ids are those of the brute force; where they differ, the values tie to float64's rounding."""
    found = nearest(queries, index, k, measure=measure, screen=screen, progress=False)
    ids, values = brute_force(queries, index, k, measure)
    mine = table(queries, index, measure).gather(1, found.ids)
    lengths = queries.double().norm(dim=1)[:, None] * index.double().norm(dim=1).max()
    size = {"cosine": torch.ones(1), "dot": lengths, "euclidean": lengths.sqrt()}[measure]
    swapped = found.ids != ids
    assert bool((((mine - values).abs() <= 1e-12 * size) | ~swapped).all())
    assert all(len(set(row)) == k for row in found.ids.tolist())
    sign = -1 if measure == "euclidean" else 1
    torch.testing.assert_close(
        found.values, sign * values, rtol=1e-12, atol=float(1e-12 * size.max())
    )


def normal(n: int, features: int, seed: int = 0) -> Tensor:
    return torch.randn(n, features, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    # So that small cases, too, have many steps, several tiles and a settlement on the way.
    monkeypatch.setattr(neighbour_search, "_STEP", 64)
    monkeypatch.setattr(neighbour_search, "_ENTRIES", 64 * 16)
    monkeypatch.setattr(neighbour_search, "_KEPT", 2000)


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(
    ("queries", "rows", "features", "k"),
    [(50, 1000, 48, 10), (1, 1, 1, 1), (3, 9, 2, 9), (20, 500, 33, 300), (40, 777, 5, 1)],
)
def test_ids_are_those_of_a_brute_force(
    queries: int, rows: int, features: int, k: int, measure: Measure, screen: bool
) -> None:
    check(normal(queries, features), normal(rows, features, seed=1), k, measure, screen)


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ties_for_the_last_place_are_all_rows_as_near(
    measure: Measure, screen: bool, dtype: torch.dtype
) -> None:
    rows = normal(9, 6).to(dtype)
    kinds = torch.randint(9, (150,), generator=torch.Generator().manual_seed(0))
    kinds[:9], queries = torch.arange(9), normal(12, 6, seed=1).to(dtype)
    searched = nearest(queries, rows[kinds], 60, measure=measure, screen=screen, ties=True)
    order = table(queries, rows, measure).argsort(1, descending=True)
    for k in (1, 7, 60):
        direct = nearest(queries, rows[kinds], k, measure=measure, screen=screen, ties=True)
        expected = []
        for query in range(len(queries)):
            before = 0
            for kind in order[query].tolist():
                copies = (kinds == kind).nonzero()[:, 0].tolist()
                if before < k < before + len(copies):
                    expected += [(query, row) for row in copies]
                before += len(copies)
        for found in (direct, searched.first(k)):
            assert found.tied is not None and len(found.ids[0]) == k
            assert list(map(tuple, found.tied.T.tolist())) == expected
    assert nearest(queries, rows[kinds], 3, measure=measure).tied is None


def test_too_many_ties_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbour_ties, "_MOST", 50)
    with pytest.raises(ValueError, match="the embeddings are nearly all equal; check the model"):
        nearest(torch.ones(9, 2), torch.ones(8, 2), 3, ties=True)
    assert nearest(torch.ones(9, 2), torch.ones(8, 2), 8, ties=True).tied.shape == (2, 0)  # type: ignore[union-attr]


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("measure", MEASURES)
def test_values_far_closer_than_bfloat16_are_told_apart(measure: Measure, screen: bool) -> None:
    """Rows that differ in the last bits of float32 round to the same bfloat16 row."""
    base = normal(1, 24)
    index = (base + 1e-6 * normal(400, 24, seed=1)).float()
    assert len(index.bfloat16().unique(dim=0)) < 200
    check(base + 0.1 * normal(30, 24, seed=2), index, 10, measure, screen)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("measure", MEASURES)
def test_equal_rows_come_by_lowest_id(
    measure: Measure, screen: bool, known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not known:  # equal rows that the sample did not show
        monkeypatch.setattr(neighbours, "_first_of_equal", lambda index, k: None)
    rows, order = normal(40, 17), torch.randperm(400, generator=torch.Generator().manual_seed(3))
    index = rows.repeat(10, 1)[order]
    queries = rows[:20]
    found = nearest(queries, index, 25, measure=measure, screen=screen)
    truth = table(queries, rows, measure)
    for query in range(len(queries)):
        # Rows by value, the ten copies of each by id.
        best = truth[query].argsort(descending=True)[:3]
        copies = [torch.nonzero(order % 40 == row)[:, 0] for row in best]
        assert found.ids[query].tolist() == torch.cat(copies)[:25].tolist()


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(1, 60), st.data())
@settings(max_examples=60, deadline=None)
def test_only_rows_behind_k_equal_ones_are_left_out(
    kinds: list[int], k: int, data: st.DataObject
) -> None:
    index = normal(4, 3, seed=5)[torch.tensor(kinds)]
    kept = neighbours._first_of_equal(index, k)
    expected = [row for row, kind in enumerate(kinds) if kinds[:row].count(kind) < k]
    assert kept is None or kept.tolist() == expected
    k = data.draw(st.integers(1, len(kinds)))
    check(normal(3, 3, seed=6), index, k, "cosine", False)
    ids, _ = brute_force(normal(3, 3, seed=6), index, k, "dot")
    assert nearest(normal(3, 3, seed=6), index, k, measure="dot").ids.tolist() == ids.tolist()


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("measure", MEASURES)
def test_one_row_repeated_stays_within_memory(
    measure: Measure, screen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = []

    def count(search: Search, *arguments: Any) -> None:
        held.append(search._held())
        scan(search, *arguments)

    scan = Search._scan
    monkeypatch.setattr(Search, "_scan", count)
    monkeypatch.setattr(neighbours, "_first_of_equal", lambda index, k: None)
    index = normal(1, 8).repeat(700, 1)
    found = nearest(normal(20, 8, seed=1), index, 5, measure=measure, screen=screen)
    assert found.ids.tolist() == [[0, 1, 2, 3, 4]] * 20
    assert 1000 < max(held) <= 2000 + 64 * 20  # what may be kept, and one step's pairs


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("exponents", [(-15, 15), (-18, -12), (12, 18)])
def test_norms_of_very_different_size(
    exponents: tuple[int, int], measure: Measure, screen: bool
) -> None:
    low, high = exponents
    scales = 10 ** torch.linspace(low, high, 300, dtype=torch.float64)[:, None]
    index = (normal(300, 12).double() * scales).float()
    queries = (normal(30, 12, seed=1).double() * scales[::10].flip(0)).float()
    check(queries, index, 7, measure, screen)


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("scale", [1e-40, 1e-30, 1e30])
def test_denormal_and_huge_rows(scale: float, measure: Measure, screen: bool) -> None:
    index = (normal(200, 10).double() * scale).float()
    queries = (normal(15, 10, seed=1).double() * scale).float()
    found = nearest(queries, index, 6, measure=measure, screen=screen)
    assert found.ids.equal(brute_force(queries, index, 6, measure)[0])


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("measure", MEASURES)
def test_a_query_that_is_a_row_of_the_index(measure: Measure, screen: bool) -> None:
    index = normalize(normal(500, 32))
    found = nearest(index[::5], index, 3, measure=measure, screen=screen)
    assert found.ids[:, 0].tolist() == list(range(0, 500, 5))
    # A row of length 1 in float32 is not quite of length 1.
    squares = index[::5].double().square().sum(1)
    best = {"cosine": torch.ones(100), "euclidean": torch.zeros(100), "dot": squares}[measure]
    torch.testing.assert_close(found.values[:, 0], best.double(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("measure", MEASURES)
def test_rows_far_from_the_origin(measure: Measure, screen: bool) -> None:
    """Distances of 1 between rows of length 1000: all of bfloat16's digits are the shift's."""
    shift = 1000 * normal(1, 16)
    check(normal(20, 16) + shift, normal(600, 16, seed=1) + shift, 5, measure, screen)


@pytest.mark.parametrize("measure", MEASURES)
def test_rows_that_come_ever_nearer(measure: Measure) -> None:
    """The worst order: every step rules out what the last one found."""
    index = normal(900, 6)
    query = normal(1, 6, seed=1)
    order = table(query, index, measure)[0].argsort()
    check(query.repeat(20, 1) + 1e-3 * normal(20, 6), index[order], 4, measure, True)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(MEASURES),
    st.booleans(),
    st.integers(1, 30),
    st.integers(1, 150),
    st.integers(1, 20),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 1e-4, 1e-2, 1.0]),
    st.data(),
)
def test_any_clusters(
    measure: Measure,
    screen: bool,
    queries: int,
    rows: int,
    features: int,
    seed: int,
    spread: float,
    data: st.DataObject,
) -> None:
    k = data.draw(st.integers(1, rows))
    centres = normal(3, features, seed)
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (queries + rows,), generator=generator)
    vectors = centres[labels] + spread * torch.randn(queries + rows, features, generator=generator)
    check(vectors[:queries], vectors[queries:], k, measure, screen)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(MEASURES),
    st.sampled_from([torch.bfloat16, torch.float32]),
    st.sampled_from([torch.float32, torch.float64]),
    st.integers(1, 64),
    st.integers(0, 2**32 - 1),
    st.floats(-8, 8),
    st.floats(0, 100),
)
def test_no_score_is_further_off_than_the_bound(
    measure: Measure,
    low: torch.dtype,
    given_in: torch.dtype,
    features: int,
    seed: int,
    power: float,
    shift: float,
) -> None:
    queries = normal(9, features, seed).to(given_in) / 3 + shift
    index = 10**power * (normal(70, features, seed + 1).to(given_in) / 3 + shift)
    largest = float(torch.cat([queries, index]).abs().max())
    screen = Screen(index[:20], largest, measure)
    rounded = screen.queries(queries, low), screen.index(index, low)
    scores = product(rounded[1].low, rounded[0].low).T.double()
    exact = meant(screen, queries, index)
    error = screen.error(rounded[0].size[:, :, None], rounded[1].size[:, None]).double()
    last = scores.abs() * torch.finfo(low).eps / 2
    assert bool(((scores - exact).abs() <= error + last).all())
    columns = table(queries, index, measure).T
    least = torch.stack([screen.at_least(queries, column) for column in columns], 1).double()
    assert bool((least <= exact).all())
    torch.testing.assert_close(least, exact, rtol=1e-6, atol=1e-8 * features)


def meant(screen: Screen, queries: Tensor, index: Tensor) -> Tensor:
    """The scores without any rounding, by their definition."""
    q, v, shift = queries.double(), index.double(), screen.shift.double()
    if screen.measure == "cosine":
        return normalize(q, eps=0.0) @ (normalize(v, eps=0.0) - shift).T
    v = v * screen.scale - shift
    if screen.measure == "euclidean":
        return (q * screen.scale - shift) @ v.T - v.square().sum(1) / 2
    peaks = q.abs().amax(1, keepdim=True)
    return q / 2.0 ** (peaks.log2().floor() + 1) @ v.T


def test_the_screen_gives_way_to_float32_where_it_tells_too_little_apart() -> None:
    centres = normal(5, 24)
    index = centres.repeat(400, 1) + 1e-4 * normal(2000, 24, seed=1)
    queries = centres.repeat(10, 1) + 1e-4 * normal(50, 24, seed=2)
    found = nearest(queries, index, 3, screen=True)
    assert found.engine == "bfloat16, then float32"
    assert found.ids.equal(nearest(queries, index, 3, screen=False).ids)


@pytest.mark.parametrize("pays", [True, False])
def test_the_screen_is_used_where_it_pays(pays: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "bfloat16_pays", lambda _device: pays)
    queries, index = normal(5, 8), normal(100, 8, seed=1)
    assert nearest(queries, index, 2).engine == "float32"  # too small to matter
    monkeypatch.setattr(neighbours, "_WORTH", 1)
    assert nearest(queries, index, 2).engine == ("bfloat16" if pays else "float32")


def test_whether_bfloat16_pays_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    neighbour_screen.bfloat16_pays.cache_clear()
    assert isinstance(neighbour_screen.bfloat16_pays(torch.device("cpu")), bool)

    def refuse(*_: Tensor) -> Tensor:
        raise RuntimeError("not implemented for 'BFloat16'")

    neighbour_screen.bfloat16_pays.cache_clear()
    monkeypatch.setattr(neighbour_screen, "product", refuse)
    assert neighbour_screen.bfloat16_pays(torch.device("cpu")) is False
    neighbour_screen.bfloat16_pays.cache_clear()


@pytest.mark.parametrize("setting", ["high", "medium"])
def test_float32_products_may_be_coarse(setting: str) -> None:
    """The user's setting lets float32 products round their inputs; the ids stay."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(setting)
    try:
        for measure in MEASURES:
            check(normal(20, 40), normal(300, 40, seed=1), 5, measure, False)
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_read_as_float32(dtype: torch.dtype) -> None:
    queries, index = normal(10, 8).to(dtype), normal(90, 8, seed=1).to(dtype)
    found = nearest(queries, index, 4)
    assert found.ids.equal(nearest(queries.float(), index.float(), 4).ids)
    assert found.ids.dtype == torch.int64 and found.values.dtype == torch.float64


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("spread", [1e-3, 1e-7, 1e-10])
def test_float64_rows_are_told_apart_in_float64(
    measure: Measure, screen: bool, spread: float
) -> None:
    """Rows that differ beyond float32's digits, which are all equal there."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(420, 24, generator=generator, dtype=torch.float64)
    index = normal(1, 24).double() + spread * noise[:400]
    queries = normal(1, 24).double() + spread * noise[400:]
    if measure == "euclidean":
        check(queries, index, 10, measure, screen)
    for one, other in ((queries, index), (queries.float(), index), (queries, index.float())):
        found = nearest(one, other, 10, measure=measure, screen=screen)
        values = table(one, other, measure)
        best = values.topk(10, dim=1).values
        mine = values.gather(1, found.ids)
        assert bool(((best - mine).abs() <= 1e-13 * best.abs().clamp(min=1e-3)).all())


@given(st.integers(0, 2**32 - 1), st.sampled_from(MEASURES), st.booleans())
@settings(max_examples=20, deadline=None)
def test_float64_rows_of_any_size(seed: int, measure: Measure, screen: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    scales = 10 ** (8 * torch.rand(230, 1, generator=generator, dtype=torch.float64) - 4)
    rows = scales * torch.randn(230, 7, generator=generator, dtype=torch.float64)
    check(rows[:30], rows[30:], 6, measure, screen)


def test_arguments_are_left_as_they_were() -> None:
    queries, index = normal(10, 8).requires_grad_(), normal(90, 8, seed=1)
    kept = queries.detach().clone(), index.clone()
    for measure in MEASURES:
        found = nearest(queries, index, 4, measure=measure)
        assert not found.values.requires_grad
    assert queries.equal(kept[0]) and index.equal(kept[1])
    assert "10 queries × 4 by dot" in repr(found)


NAN = torch.tensor([[1.0, 2.0], [torch.nan, 0.0]])
GOOD = torch.ones(3, 2)


@pytest.mark.parametrize(
    ("queries", "index", "k", "measure", "words"),
    [
        (GOOD, GOOD, 4, "dot", "k is 4; the index has 3 rows"),
        (GOOD, GOOD, 0, "dot", "k is 0"),
        (GOOD, GOOD, 1.5, "dot", "k is 1.5; the index has 3 rows"),
        (GOOD, torch.ones(3, 5), 1, "dot", "queries have 2 features and the index 5"),
        (GOOD, NAN, 1, "dot", "row 1 of the index holds NaN"),
        (NAN, GOOD, 1, "dot", "row 1 of the queries holds NaN"),
        (GOOD, torch.full((2, 2), torch.inf), 1, "euclidean", "row 0 of the index holds"),
        (GOOD, torch.full((2, 2), 1e300, dtype=torch.float64), 1, "dot", "infinity as float32"),
        (GOOD, torch.tensor([[1.0, 0.0], [0.0, 0.0]]), 1, "cosine", "row 1 of the index is zero"),
        (GOOD, GOOD.long(), 1, "dot", "index must be floats"),
        (GOOD[0], GOOD, 1, "dot", r"queries must be floats \[rows, features\]"),
        (GOOD[:0], GOOD, 1, "dot", "at least one of each"),
        (GOOD.numpy(), GOOD, 1, "dot", "queries are ndarray; they must be a float tensor"),
        (GOOD, GOOD.numpy(), 1, "dot", "index is ndarray; it must be a float tensor"),
        (GOOD, GOOD, 1, "manhattan", "'manhattan' is not one of cosine, euclidean, dot"),
    ],
)
def test_a_wrong_argument_gets_one_sentence(
    queries: Tensor, index: Tensor, k: int, measure: Measure, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        nearest(queries, index, k, measure=measure)


def test_zero_rows_are_fine_but_for_cosine() -> None:
    index = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    found = nearest(torch.zeros(1, 2), index, 2, measure="euclidean")
    assert found.ids.tolist() == [[0, 1]] and found.values.tolist() == [[0.0, 5.0]]
    assert nearest(torch.zeros(1, 2), index, 2, measure="dot").ids.tolist() == [[0, 1]]


class Flat:
    """A FAISS index as far as the search asks: exact, in float32."""

    def __init__(self, rows: Tensor, metric: int, found: int | None = None) -> None:
        self.rows, self.metric_type, self.found = rows.numpy(), metric, found
        self.ntotal, self.d = rows.shape

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        scores = queries @ self.rows.T
        if self.metric_type == 1:
            scores = -((queries[:, None] - self.rows) ** 2).sum(-1)
        ids = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        values = np.take_along_axis(scores, ids, 1)
        if self.found is not None:
            ids[:, self.found :] = -1
        return (-values if self.metric_type == 1 else values), ids


def test_a_faiss_index_in_the_same_place() -> None:
    queries, index = normal(300, 12), normalize(normal(400, 12, seed=1))
    for measure in MEASURES:
        found = nearest(queries, Flat(index, int(measure == "euclidean")), 5, measure=measure)
        true = nearest(queries, index, 5, measure=measure)
        assert found.engine == "faiss" and found.ids.equal(true.ids)
        torch.testing.assert_close(found.values, true.values, rtol=1e-6, atol=1e-6)


def test_a_real_faiss_index() -> None:
    faiss = pytest.importorskip("faiss", reason="faiss-cpu is an optional peer")
    queries, index = normal(20, 12), normalize(normal(400, 12, seed=1))
    for measure in MEASURES:
        flat = (faiss.IndexFlatL2 if measure == "euclidean" else faiss.IndexFlatIP)(12)
        flat.add(index.numpy())
        found = nearest(queries, flat, 5, measure=measure)
        assert found.ids.equal(nearest(queries, index, 5, measure=measure).ids)


@pytest.mark.parametrize(
    ("index", "k", "measure", "words"),
    [
        (Flat(GOOD, 1), 1, "cosine", "not for cosine; build it with METRIC_INNER_PRODUCT"),
        (Flat(GOOD, 0), 1, "euclidean", "not for euclidean; build it with METRIC_L2"),
        (Flat(GOOD, 0), 4, "dot", "k is 4; the index has 3 rows"),
        (Flat(torch.ones(3, 5), 0), 1, "dot", "queries have 2 features and the index 5"),
        (Flat(GOOD, 0, found=1), 2, "dot", "found fewer than 2 rows"),
    ],
)
def test_a_faiss_index_that_does_not_fit(index: Flat, k: int, measure: Measure, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        nearest(GOOD, index, k, measure=measure)
