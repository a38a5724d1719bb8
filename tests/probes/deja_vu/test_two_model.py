"""Déjà vu: closed forms, slow versions, bad input, and a null that finds nothing."""

from collections import Counter
from dataclasses import replace
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from memviz.engine.search import Neighbours
from memviz.probes.deja_vu import (
    DejaVu,
    Embedded,
    embedded_by,
    gaps,
    neighbour_changes,
    predict,
    predicted_objects,
    retest,
    two_model_test,
)
from memviz.statistics import sign_test

SEEDS = st.integers(0, 2**31)


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


def found_neighbours(ids: Tensor) -> Neighbours:
    return Neighbours(ids, torch.zeros(ids.shape), "cosine", "float32")


# Slow versions, written from the definitions with sets and counters.


def slow_objects(ids: list[int], public: Tensor, top: int | None) -> list[set[int]]:
    """Every set of objects that can be kept, one for each choice among those that tie."""
    seen = [o for i in ids for o in range(public.shape[1]) if public[i, o]]
    if top is None:
        return [set(seen)]
    counts = Counter(seen)
    place = {o: next(p for p, i in enumerate(ids) if public[i, o]) for o in counts}
    ranks = {o: (-counts[o], place[o]) for o in counts}
    last = sorted(ranks.values())[:top][-1] if ranks else None
    sure = {o for o in ranks if ranks[o] < last}
    tied = [o for o in ranks if ranks[o] == last]
    return [sure | set(some) for some in combinations(tied, min(top - len(sure), len(tied)))]


def slow_brute(captions: Tensor, public: Tensor, k: int) -> list[list[int]]:
    a, b = (rows.double() / rows.double().norm(dim=1, keepdim=True) for rows in (captions, public))
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").argsort(1)[:, :k].tolist()


@given(SEEDS, st.integers(1, 7), st.sampled_from([None, 1, 2, 3, 50]))
@settings(max_examples=60, deadline=None)
def test_predicted_objects_equal_those_counted_one_by_one(seed, k, top):
    public = masks(seed, 12, 6, 0.35)
    ids = torch.randint(12, (8, k), generator=torch.Generator().manual_seed(seed))
    found = predicted_objects(ids, public, top)
    for row, shares in zip(ids.tolist(), found, strict=True):
        choices = slow_objects(row, public, top)
        slow = [np.mean([o in choice for choice in choices]) for o in range(6)]
        assert shares.tolist() == pytest.approx(slow)


@given(SEEDS, st.sampled_from([None, 2]))
@settings(max_examples=20, deadline=None)
def test_the_whole_test_equals_a_slow_one(seed, top):
    n, m, k = 15, 20, 4
    target = Embedded(drawn(seed, n, 6), drawn(seed + 1, m, 6))
    reference = Embedded(drawn(seed + 2, n, 5), drawn(seed + 3, m, 5))
    own, public = masks(seed, n, 7), masks(seed + 1, m, 7)
    own[0], own[1] = True, False
    found = two_model_test(target, reference, own, public, k=k, top=top)
    rows, signs = [], []
    for i in range(n):
        truth = set(own[i].nonzero()[:, 0].tolist())
        if not truth:
            continue
        both = []
        for side in (target, reference):
            guesses = slow_objects(slow_brute(side.captions, side.public, k)[i], public, top)
            right = Fraction(sum(len(truth & guess) for guess in guesses), len(guesses))
            both.append((right / max(len(guesses[0]), 1), right / len(truth)))
        (p_a, r_a), (p_b, r_b) = both
        signs.append(((p_a > p_b) - (p_a < p_b), (r_a > r_b) - (r_a < r_b), float(r_a - r_b)))
        rows.append((i, p_a, r_a, p_b, r_b))
    assert [found.ppg, found.prg, found.aucg] == pytest.approx(np.mean(signs, axis=0).tolist())
    table = found.frame.loc[[row[0] for row in rows]]
    names = ["target_precision", "target_recall", "reference_precision", "reference_recall"]
    assert table[names].to_numpy() == pytest.approx(np.array(rows)[:, 1:].astype(float))
    assert found.scored.tolist() == [row[0] for row in rows] and 1 not in found.scored


# Closed forms of the definitions.


def test_identical_models_have_no_gap_at_all():
    one = Embedded(drawn(0, 50, 6), drawn(1, 30, 6))
    same = Embedded(one.captions.clone(), one.public.clone())
    found = two_model_test(one, same, masks(0, 50, 8), masks(1, 30, 8), k=5)
    assert (found.ppg, found.prg, found.aucg) == (0.0, 0.0, 0.0)
    assert (found.summary(50)[["value", "low", "high", "z"]].to_numpy() == 0).all()
    assert np.nanmax(np.abs(found.frame["max_pred_gap"])) == 0


@given(SEEDS)
@settings(max_examples=15, deadline=None)
def test_swapped_models_change_the_sign(seed):
    found = random_test(seed)
    swapped = found.swapped
    assert (swapped.ppg, swapped.prg, swapped.aucg) == (-found.ppg, -found.prg, -found.aucg)
    assert swapped.null is not None and found.null is not None
    assert swapped.null.prg == -found.null.prg and swapped.names == ("reference", "target")


@pytest.mark.parametrize("top", [None, 4])
def test_the_oracle_of_label_vectors(top):
    kinds, size, named = 12, 4, 3
    generator = torch.Generator().manual_seed(0)
    own = torch.zeros(40, kinds, dtype=torch.bool)
    said = torch.zeros_like(own)
    ties = torch.zeros(40, kinds)
    for row in range(40):
        order = torch.randperm(kinds, generator=generator)
        own[row, order[:size]] = True
        told = 1 + row % named
        said[row, order[:told]] = True
        # What is named first, then what lies outside the picture: the tie that the oracle asks for.
        ties[row, order[size:]] = 0.1
    public = torch.eye(kinds)
    target = Embedded(own.float(), public)
    reference = Embedded(said.float() + ties, public)
    found = two_model_test(target, reference, own, public > 0, k=size, top=top)
    assert (found.ppg, found.prg) == (1.0, 1.0)
    assert found.aucg == pytest.approx(float((1 - said.sum(1) / size).mean()))
    assert found.target.recall.tolist() == found.target.precision.tolist() == [1.0] * 40
    assert found.reference.recall.tolist() == pytest.approx((said.sum(1) / size).tolist())
    assert found.summary(10).loc["PPG", "z"] == pytest.approx(40**0.5)


def test_the_hand_case_of_four_records():
    target = torch.tensor([1.0, 0.5, 0.5, 0.0])
    reference = torch.tensor([0.5, 0.5, 0.0, 0.5])
    values = gaps(target, reference, target, reference)
    assert values.mean(1).tolist() == [0.25, 0.25, 0.125]
    assert sign_test(values[1]) == pytest.approx(1 / 3**0.5)


@given(SEEDS)
@settings(max_examples=25, deadline=None)
def test_recall_never_falls_with_more_neighbours(seed):
    found = random_test(seed, k=8, top=None)
    recalls = torch.stack([found.at(k).target.recall[found.scored] for k in range(1, 9)])
    assert (recalls.diff(dim=0) >= 0).all()
    assert torch.equal(recalls[-1], found.target.recall[found.scored])


def test_fewer_neighbours_are_those_of_a_smaller_search():
    few, many = random_test(3, k=3, top=2), random_test(3, k=8, top=4)
    assert many.at(3, 2).frame.equals(few.frame)
    table = many.curve((1, 3), (None, 2))
    row = table[(table["k"] == 3) & (table["labels"] == "top 2 labels")].iloc[0]
    assert few.null is not None
    assert (row["PPG"], row["AUCG"], row["null PRG"]) == (few.ppg, few.aucg, few.null.prg)


def test_what_is_planted_is_found_and_the_null_finds_nothing():
    n, m, kinds = 400, 300, 12
    own, held = masks(0, n, kinds, 0.25), masks(1, n, kinds, 0.25)
    public = masks(2, m, kinds, 0.25)
    public[:, 0] |= ~public.any(1)
    spread = drawn(3, kinds, 24)
    images = public.float() @ spread

    def embedded(seed: int, knows: float) -> Embedded:
        noisy = own.float() @ spread * knows + 6 * drawn(seed, n, 24)
        return Embedded(noisy, images, 6 * drawn(seed + 1, n, 24))

    found = two_model_test(
        embedded(5, 1.0), embedded(9, 0.0), own, public, held_out_objects=held, k=10, top=5
    )
    table = found.summary(300)
    assert (table["value"] > 0.1).all() and (table["low"] > 0).all() and (table["z"] > 4).all()
    assert (table["null low"] < 0).all() and (table["null high"] > 0).all()
    assert (table["beyond low"] > 0).all()
    first = found.most_memorized("crct_pred", (0.01, 1.0))
    assert first["recall_gap"].iloc[0] > 2 * first["recall_gap"].iloc[1] > 0


def test_the_null_of_random_models_is_a_coin():
    z = []
    for seed in range(0, 300, 10):
        found = random_test(seed, n=200)
        assert found.null is not None
        z += [sign_test(found.null._gaps[row]) for row in (0, 1)]
    # 30 models, two nearly normal values each: their mean scatters by less than 0.2.
    assert abs(np.mean(z)) < 0.6 and np.std(z) < 1.4


# What is not plain.


def test_images_without_objects_are_counted_and_not_scored():
    own = torch.tensor([[1, 1], [0, 0], [0, 1]]).bool()
    one, public = Embedded(torch.eye(3), torch.eye(3)), own.clone()
    found = two_model_test(one, Embedded(torch.eye(3).flip(0), torch.eye(3)), own, public, k=1)
    assert found.scored.tolist() == [0, 2] and found.prg == 0.5
    assert (
        found.frame.loc[1, ["target_recall", "target_f", "max_pred_gap", "min_dist"]].isna().all()
    )
    assert "1 more pairs have images without objects and are not scored" in repr(found)
    with pytest.raises(ValueError, match="none of the images shows an object"):
        two_model_test(one, Embedded(torch.eye(3), torch.eye(3)), own & False, public, k=1)


def test_nothing_predicted_is_precision_and_recall_0():
    found = predict(
        found_neighbours(torch.tensor([[1]])),
        torch.tensor([[True, False]]),
        torch.tensor([[True, True], [False, False]]),
    )
    assert found.predicted.tolist() == [0]
    assert (found.precision.item(), found.recall.item(), found.f.item()) == (0, 0, 0)


def test_f_is_the_harmonic_mean():
    found = random_test(5).target
    p, r = found.precision, found.recall
    both = (p > 0) & (r > 0)
    assert both.any()
    torch.testing.assert_close(found.f[both], (2 * p * r / (p + r))[both])


@given(SEEDS)
@settings(max_examples=25, deadline=None)
def test_changes_of_neighbours_equal_those_looked_up(seed):
    generator = torch.Generator().manual_seed(seed)
    before, after = (
        torch.stack([torch.randperm(9, generator=generator)[:k] for _ in range(4)]) for k in (3, 5)
    )
    came_from, lost = neighbour_changes(before, after)
    for row, (old, new) in enumerate(zip(before.tolist(), after.tolist(), strict=True)):
        assert came_from[row].tolist() == [old.index(i) if i in old else -1 for i in new]
        assert lost[row].tolist() == [i not in new for i in old]
    with pytest.raises(ValueError, match="give both of the same captions"):
        neighbour_changes(before[:1], after)


def test_labels_that_equally_many_show_go_to_the_nearer_neighbour():
    public = torch.tensor([[0, 0, 1, 1], [1, 0, 0, 0], [0, 1, 1, 0]]).bool()
    ids = torch.tensor([[1, 0, 2]])
    assert [predicted_objects(ids, public, top)[0].int().tolist() for top in (1, 2, 3)] == [
        [0, 0, 1, 0],
        [1, 0, 1, 0],
        [1, 0, 1, 1],
    ]


def test_many_pairs_go_through_in_steps(monkeypatch):
    whole = random_test(6, n=50)
    monkeypatch.setattr("memviz.probes.deja_vu._objects._BLOCK", 20)
    assert random_test(6, n=50).frame.equals(whole.frame)


def test_ids_of_any_kind_stand_in_the_table():
    named = [("coco", i) for i in range(60)]
    assert random_test(ids=named).frame["id"].tolist() == named
    assert random_test(ids=[f"p{i}" for i in range(60)]).frame["id"].iloc[-1] == "p59"
    assert random_test(ids=torch.arange(60) + 5).frame["id"].tolist() == list(range(5, 65))
    assert random_test(ids=[1, "b", *range(58)]).frame["id"].tolist()[:2] == [1, "b"]
    with pytest.raises(ValueError, match="there are 2 ids for 60 pairs"):
        random_test(ids=[1, 2])
    for number in (np.array(3), torch.tensor(3)):
        with pytest.raises(ValueError, match="ids is a single number; give one name per pair"):
            random_test(ids=number)


def test_the_text_says_all_that_is_needed():
    said = repr(random_test(7))
    for part in ("60" if "60 pairs" in said else "pairs", "PPG", "PRG", "AUCG", "null:", "source:"):
        assert part in said
    assert "target against reference: 6 neighbours, top 5 labels" in said
    assert "mean precision" in repr(random_test(7).target)


def test_a_text_encoder_is_a_reference_with_its_own_space():
    words = nn.EmbeddingBag(20, 5)
    texts = torch.randint(20, (30, 4), generator=torch.Generator().manual_seed(0))
    public_texts = torch.randint(20, (25, 4), generator=torch.Generator().manual_seed(1))
    reference = embedded_by(words, texts, words, public_texts, texts[:10], name="text", batch=7)
    with torch.no_grad():
        torch.testing.assert_close(reference.captions, words(texts))
    target = Embedded(drawn(0, 30, 8), drawn(1, 25, 8), drawn(2, 10, 8), "CLIP")
    found = two_model_test(
        target, reference, masks(0, 30, 6), masks(1, 25, 6), held_out_objects=masks(2, 10, 6), k=3
    )
    assert "CLIP against text" in repr(found) and found.null is not None


def test_another_target_meets_the_same_reference():
    n, m = 30, 25
    sides = [
        Embedded(*(drawn(10 * i + j, r, 6) for j, r in enumerate((n, m, n)))) for i in range(3)
    ]
    shown = masks(0, n, 7), masks(1, m, 7)
    more = {"held_out_objects": masks(2, n, 7), "k": 4, "top": 3}
    found = two_model_test(sides[0], sides[1], *shown, **more)
    again = retest(found, replace(sides[2], name="ablated"))
    whole = two_model_test(sides[2], sides[1], *shown, **more)
    assert again.frame.equals(whole.frame) and again.names == ("ablated", "reference")
    assert again.null is not None and whole.null is not None
    assert again.null.frame.equals(whole.null.frame)
    assert retest(found, sides[0]).frame.equals(found.frame)
    with pytest.raises(ValueError, match="target's held-out captions are NoneType"):
        retest(found, replace(sides[2], held_out=None))


def test_faiss_gives_the_same():
    faiss = pytest.importorskip("faiss")
    sides, searched = [], []
    for seed in (0, 1):
        captions, public = (
            nn.functional.normalize(drawn(seed + i, n, 8)) for i, n in ((0, 30), (5, 50))
        )
        index = faiss.IndexFlatIP(8)
        index.add(public.numpy())
        sides.append(Embedded(captions, public))
        searched.append(Embedded(captions, index))
    own, shown = masks(0, 30, 6), masks(1, 50, 6)
    one = two_model_test(*sides, own, shown, k=4).frame
    other = two_model_test(*searched, own, shown, k=4).frame
    assert one.drop(columns="min_dist").equals(other.drop(columns="min_dist"))
    with pytest.raises(ValueError, match="have 50 rows and public_objects 49"):
        two_model_test(*searched, own, shown[:49], k=4)
