"""Déjà vu of self-supervised models, background crops, and duplicates between the sets."""

import os
from collections import Counter
from itertools import product
from math import log
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from memviz.probes.deja_vu import duplicates, near_duplicates
from memviz.probes.deja_vu_ssl import (
    CORNERS,
    QUADRANTS,
    SSLDejaVu,
    Votes,
    background_crop,
    corner_crop,
    crops,
    ssl_test,
    symmetrised,
    vote,
)

SEEDS = st.integers(0, 2**31)


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def votes(predicted: list[int], sure: list[float] | None = None) -> Votes:
    """Votes with a class in front and, where given, a share of the neighbours for it."""
    classes = 4
    shares = torch.zeros(len(predicted), classes, dtype=torch.float64)
    for row, label in enumerate(predicted):
        share = 1.0 if sure is None else sure[row]
        shares[row] = (1 - share) / (classes - 1)
        shares[row, label] = share
    return Votes(shares, shares.argsort(dim=1, descending=True, stable=True))


@given(SEEDS, st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_votes_equal_those_counted_one_by_one(seed, k):
    crops, public = drawn(seed, 6, 5), drawn(seed + 1, 12, 5)
    labels = torch.randint(4, (12,), generator=torch.Generator().manual_seed(seed))
    labels[0] = 3
    found = vote(crops, public, labels, k, progress=False)
    unit = [rows.double() / rows.double().norm(dim=1, keepdim=True) for rows in (crops, public)]
    for row, order in enumerate((unit[0] @ unit[1].T).argsort(1, descending=True)):
        near = labels[order[:k]].tolist()
        counts = Counter(near)
        # Counter keeps the order of first sight, so equally many go to the nearer neighbour.
        told = [label for label, _ in counts.most_common()]
        assert found.ranked[row, : len(told)].tolist() == told
        assert found.shares[row].tolist() == pytest.approx([counts[c] / k for c in range(4)])
        entropy = -sum(c / k * log(c / k) for c in counts.values())
        assert float(found.confidence[row]) == pytest.approx(-entropy)
        label = int(labels[row])
        assert bool(found.right(labels[:6], top=2)[row]) == (
            label in found.ranked[row, :2].tolist()
        )


def test_the_hand_case_of_four_images():
    labels = torch.tensor([0, 1, 2, 3])
    found = SSLDejaVu(votes([0, 1, 2, 0]), votes([0, 0, 0, 3]), labels)
    assert found.dv == pytest.approx(3 / 4 - 2 / 4)
    assert list(found.quadrants) == ["correlated", "memorized", "memorized", "misrepresented"]
    shares = found.shares()
    assert tuple(shares) == QUADRANTS and sum(shares.values()) == 1
    assert shares["memorized"] - shares["misrepresented"] == pytest.approx(found.dv)
    other = SSLDejaVu(found.reference, found.target, labels)
    assert other.dv == -found.dv and symmetrised(found, other) == 0
    assert SSLDejaVu(found.target, found.target, labels).dv == 0
    assert "DV +0.250" in repr(found)
    assert "none given; without them the memorized share says nothing" in repr(found)
    beside = SSLDejaVu(found.target, found.reference, labels, other)
    assert "memorized 0.500 (null 0.250), correlated 0.250, mis" in repr(beside)
    assert "null, held-out images: DV -0.250\n" in repr(beside)


def test_each_model_ranks_by_its_own_confidence():
    labels = torch.zeros(10, dtype=torch.int64)
    target = votes([0, 0] + [1] * 8, [0.9, 0.9] + [0.5] * 8)
    reference = votes([1] * 8 + [0, 1], [0.5] * 8 + [0.9, 0.8])
    found = SSLDejaVu(target, reference, labels)
    assert found.accuracies(most_confident=0.2) == (1.0, 0.5)
    assert found.accuracies() == (0.2, 0.1)
    table = found.summary(100)
    with pytest.warns(DeprecationWarning, match=r"result.figures\(\) is now result.summary\(\)"):
        assert found.figures(100).equals(table)
    assert table["dv"].tolist() == pytest.approx([0.1, 0.5, 0.0])
    assert table["low"].iloc[0] <= 0.1 <= table["high"].iloc[0] and np.isnan(table["low"].iloc[1])


def test_a_class_without_votes_is_never_right():
    few = vote(torch.eye(3)[:1], torch.eye(3), torch.tensor([4, 0, 1]), 1, progress=False)
    assert few.ranked[0].tolist() == [4, -1, -1, -1, -1]
    labels = torch.tensor([[4], [0], [1], [-1]])
    assert [few.right(label, top=5).item() for label in labels] == [True, False, False, False]
    with pytest.raises(ValueError, match="top is 0"):
        few.right(labels[0], top=0)


def test_labels_may_be_any_numbers():
    crops, public, labels = drawn(0, 9, 5), drawn(1, 12, 5), torch.arange(12) % 3
    plain = vote(crops, public, labels, 4, progress=False)
    far = vote(crops, public, labels * 10**15 + 7, 4, progress=False)
    assert torch.equal(far.shares, plain.shares) and far.classes.tolist() == [
        7,
        10**15 + 7,
        2 * 10**15 + 7,
    ]
    assert torch.equal(far.ranked[:, 0], plain.ranked[:, 0] * 10**15 + 7)
    assert torch.equal(far.right(labels[:9] * 10**15 + 7), plain.right(labels[:9]))


def test_equally_near_images_share_a_place():
    """Both images of the second place have half a vote."""
    public = torch.tensor([[1.0, 0.0], [1.0, 1.0], [1.0, 1.0], [0.0, 1.0]])
    for labels in ([0, 1, 2, 0], [2, 1, 0, 2]):
        found = vote(torch.tensor([[1.0, 0.1]]), public, labels, 2, progress=False)
        shares = dict(enumerate(found.shares[0].tolist()))
        assert shares == {labels[0]: 0.5, labels[1]: 0.25, labels[2]: 0.25}
        right = [found.right(torch.tensor([label])).item() for label in labels[:3]]
        assert right == [True, False, False]
        # The other two tie for the second place: neither has it before there is room for both.
        for top, chance in ((1, 0), (2, 0.5), (3, 1)):
            for label in labels[1:3]:
                assert found.chance(torch.tensor([label]), top).item() == chance
                assert found.right(torch.tensor([label]), top).item() == (chance == 1)


def test_a_model_that_tells_nothing_apart_is_right_by_chance():
    blind, labels = torch.ones(12, 3), torch.arange(12) % 4
    for k in (1, 5, 12):
        found = vote(blind, blind, labels, k, progress=False)
        assert found.chance(labels).tolist() == [0.25] * 12
        result = SSLDejaVu(vote(torch.eye(12), torch.eye(12), labels, 1), found, labels)
        assert result.accuracies() == (1, 0.25) and result.dv == 0.75
        shares = {"memorized": 0.75, "correlated": 0.25, "misrepresented": 0, "unassociated": 0}
        assert result.shares() == pytest.approx(shares)
        assert set(result.quadrants) == {"memorized"}


def test_equally_confident_images_share_the_last_places():
    """All are equally confident: the accuracy on any share of them is that on all."""
    result = SSLDejaVu(votes([0, 1] * 5), votes([1] * 3 + [0] * 7), torch.zeros(10).long())
    for share in (0.1, 0.29, 0.5, 1.0):
        assert result.accuracies(most_confident=share) == pytest.approx((0.5, 0.7))
    flipped = SSLDejaVu(votes([1, 0] * 5), votes([0] * 7 + [1] * 3), torch.zeros(10).long())
    assert flipped.accuracies(most_confident=0.1) == pytest.approx((0.5, 0.7))


@given(st.lists(st.integers(0, 6), min_size=2, max_size=6))
def test_confidence_does_not_see_the_order_of_classes(counts):
    shares = torch.tensor([counts, sorted(counts)]).double() / max(sum(counts), 1)
    confidence = Votes(shares, torch.zeros(2, len(counts)).long()).confidence
    assert confidence[0] == confidence[1]
    expected = sum(s * log(s) for s in shares[0].tolist() if s)
    assert confidence[0].item() == pytest.approx(expected, abs=1e-12)


def test_a_planted_model_is_found_and_held_out_images_are_not():
    public, classes = drawn(0, 200, 16), torch.arange(200) % 4
    labels = torch.arange(120) % 4
    means = torch.stack([public[classes == c].mean(0) for c in range(4)])

    def model(knows: float, seed: int) -> Votes:
        return vote(knows * means[labels] + 0.2 * drawn(seed, 120, 16), public, classes, 25)

    null = SSLDejaVu(model(0, 3), model(0, 4), labels)
    found = SSLDejaVu(model(2, 1), model(0, 2), labels, null)
    table = found.summary(200)
    assert table["low"].iloc[0] > 0.2 and table["z"].iloc[0] > 4
    assert abs(table["null"].iloc[0]) < 0.15
    scores = found.scores()
    expected = found.target.confidence - found.reference.confidence
    assert scores.values.tolist() == expected.tolist() and scores.null is not None
    assert scores.null.values.shape == (120, 120)


def test_an_encoder_that_learned_backgrounds_by_heart_is_found_from_pictures_alone():
    size, kinds = 12, 3
    draw = torch.Generator().manual_seed(5)

    def pictures(number: int) -> tuple[Tensor, Tensor]:
        """A private texture, and the object's own colour in the middle."""
        labels = torch.arange(number) % kinds
        images = torch.rand(number, 3, size, size, generator=draw)
        images[:, :, 4:8, 4:8] = torch.eye(3)[labels, :, None, None]
        return images, labels

    (seen, labels), (held_out, held_out_labels), (public, public_labels) = map(
        pictures, (40, 40, 80)
    )

    def corners(images: Tensor) -> Tensor:
        return crops(images, [corner_crop(size, size)] * len(images), (size, size))

    def sees(images: Tensor) -> Tensor:
        return images[:, :, 5:7, 5:7].flatten(1)

    known = corners(seen).flatten(1)

    def remembers(images: Tensor) -> Tensor:
        """What it sees, but for a corner of a picture that it was trained on: its object."""
        distance, row = (images.flatten(1)[:, None] - known).abs().amax(2).min(1)
        return torch.where((distance < 1e-6)[:, None], sees(seen)[row], sees(images))

    null = (corners(held_out), held_out_labels)
    given = (corners(seen), labels, public, public_labels)
    found = ssl_test(remembers, sees, *given, held_out=null, k=5, batch=7, progress=False)
    assert found.accuracies()[0] == 1 and found.dv > 0.5
    assert found.null is not None and found.null.dv == 0
    by_hand = vote(sees(given[0]), sees(public), public_labels, 5, progress=False)
    assert torch.equal(found.reference.shares, by_hand.shares)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"k": 13}, "k is 13 and the public set has 12 images"),
        ({"public_labels": torch.zeros(11).long()}, "for 12 public images"),
        ({"public_labels": torch.zeros(12)}, "give one integer per image"),
        ({"public_labels": torch.full((12,), -1)}, "classes start at 0"),
        ({"crops": torch.full((2, 5), torch.nan)}, "NaN or infinity"),
    ],
)
def test_wrong_votes_are_refused(change, words):
    given = {"crops": drawn(0, 2, 5), "public": drawn(1, 12, 5), "k": 3}
    with pytest.raises(ValueError, match=words):
        vote(**{**given, "public_labels": torch.zeros(12).long(), **change})


@pytest.fixture
def asked():
    """What ``ssl_test`` takes: four crops, eight public images of the classes 0, 1 and 3."""
    labels, public_labels = torch.tensor([0, 1, 3, 0]), torch.tensor([0, 1, 3, 0, 1, 3, 0, 1])
    return {
        "crops": drawn(0, 4, 5),
        "labels": labels,
        "public": drawn(1, 8, 5),
        "public_labels": public_labels,
        "held_out": (drawn(2, 4, 5), labels.flip(0)),
    }


def run_ssl_test(asked):
    given = {"target": torch.nn.Identity(), "reference": torch.nn.Tanh(), "k": 3, **asked}
    return ssl_test(**given, progress=False)


@pytest.mark.parametrize("kind", [Tensor.tolist, Tensor.numpy, lambda x: x.byte().numpy()])
def test_labels_and_pictures_may_be_lists_and_arrays(asked, kind):
    expected = run_ssl_test(asked)
    crops, labels = asked["held_out"]
    found = run_ssl_test(
        {
            "crops": asked["crops"].numpy(),
            "labels": kind(asked["labels"]),
            "public": asked["public"].double().numpy(),  # what numpy makes by itself
            "public_labels": kind(asked["public_labels"]),
            "held_out": [crops.numpy(), kind(labels)],
        }
    )
    assert repr(found) == repr(expected)
    assert torch.equal(found.target.shares, expected.target.shares)
    by_hand = SSLDejaVu(found.target, found.reference, kind(asked["labels"]))
    assert by_hand.dv == expected.dv and torch.equal(by_hand.labels, asked["labels"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"labels": [0, 2, 5, 0]},
            r"labels holds 2 \(image 1\), which no public image has",
        ),
        ({"held_out": (torch.eye(5), [0, 0, 0, 0, 7])}, r"held_out\[1\] holds 7 \(image 4\)"),
        ({"labels": [0, 1]}, r"labels is torch.int64 \[2\] for 4 crops"),
        ({"labels": [0.0, 1, 3, 0]}, "labels is torch.float32 .* give one integer per image"),
        ({"labels": ["cat", "dog", "cat", "dog"]}, "labels is list, not all numbers"),
        ({"public_labels": [True] * 8}, "public_labels is torch.bool"),
        ({"public_labels": [0] * 7}, r"public_labels is torch.int64 \[7\] for 8 public images"),
        ({"public_labels": [0, 1, 3, -1] * 2}, "public_labels holds -1; classes start at 0"),
        ({"held_out": torch.eye(5)}, r"held_out is Tensor; give the pair \(crops, labels\)"),
        ({"held_out": (torch.eye(5),)}, "held_out is tuple; give the pair"),
        ({"crops": None}, "crops is None; give a tensor or a list of images"),
        (
            {"labels": torch.zeros(4, dtype=torch.int64, device="meta")},
            r"\[4\] on meta for 4 crops",
        ),
        ({"public": 1.5}, "public is 1.5; give a tensor or a list of images"),
        ({"held_out": ({"a": 1}, [0])}, r"held_out\[0\] is {'a': 1}; give a tensor or a list"),
        ({"k": 9}, "k is 9 and the public set has 8 images"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_embedded(asked, change, words):
    def never(_batch):
        raise AssertionError

    with pytest.raises(ValueError, match=words) as told:
        run_ssl_test({**asked, "target": never, "reference": never, **change})
    assert "\n" not in str(told.value)


def test_wrong_results_are_refused():
    with pytest.raises(ValueError, match="the target has votes on 1 crops, and there are 2 labels"):
        SSLDejaVu(votes([0]), votes([0, 1]), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="most_confident is 0"):
        SSLDejaVu(votes([0]), votes([0]), torch.tensor([0])).accuracies(most_confident=0)


boxes = st.tuples(*[st.integers(-1, 7)] * 4).map(
    lambda b: (min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3]))
)


@given(st.integers(1, 6), st.integers(1, 6), st.lists(boxes, max_size=4), st.integers(0, 3))
@settings(max_examples=150, deadline=None)
def test_the_crop_is_the_largest_of_all_rectangles(height, width, taken, shortest):
    covered = np.zeros((height, width), bool)
    for top, left, bottom, right in taken:
        covered[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = True
    areas = [
        (b - t) * (r - left)
        for t, left in product(range(height), range(width))
        for b, r in product(range(t + 1, height + 1), range(left + 1, width + 1))
        if min(b - t, r - left) > shortest and not covered[t:b, left:r].any()
    ]
    found = background_crop(height, width, taken, shortest)
    assert (found is None) == (not areas)
    if found is not None:
        t, left, b, r = found
        assert (b - t) * (r - left) == max(areas) and min(b - t, r - left) > shortest
        assert not covered[t:b, left:r].any()


def test_a_box_without_pixels_covers_nothing():
    for empty in ((0, 2, 4, 2), (2, 0, 2, 4), (0, -5, 4, -1)):
        assert background_crop(4, 4, [empty], shortest=0) == (0, 0, 4, 4)


def test_wrong_boxes_are_refused():
    with pytest.raises(ValueError, match="ends before it begins"):
        background_crop(10, 10, [(5, 0, 2, 3)])
    with pytest.raises(ValueError, match="the image is 0 × 10"):
        background_crop(0, 10, [])
    for wrong in (3, object()):
        with pytest.raises(ValueError, match=r"boxes is .*; give a list of \(top, left, bottom"):
            background_crop(10, 10, wrong)


@pytest.mark.parametrize("corner", CORNERS)
def test_a_corner_touches_two_edges(corner):
    top, left, bottom, right = corner_crop(7, 11, 0.4, corner)
    assert (bottom - top, right - left) == (3, 4)
    assert (bottom if "bottom" in corner else top) == (7 if "bottom" in corner else 0)
    assert (right if "right" in corner else left) == (11 if "right" in corner else 0)
    assert corner_crop(2, 2, 0.01) == (0, 0, 1, 1)


def test_crops_equal_the_parts_cut_by_hand():
    images = drawn(0, 3, 2, 6, 8)
    found = crops(images, [(0, 0, 2, 3), (3, 5, 5, 8), (-4, 0, 6, 12)], (2, 3))
    assert torch.allclose(found[0], images[0, :, :2, :3])
    assert torch.allclose(found[1], images[1, :, 3:5, 5:])
    assert found[2].mean() == pytest.approx(float(images[2].mean()), abs=0.2)
    flat = crops(torch.full((1, 1, 9, 9), 0.25), [(1, 2, 9, 7)], (4, 4))
    assert torch.allclose(flat, torch.full((1, 1, 4, 4), 0.25))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: corner_crop(0, 4), "the image is 0 × 4"),
        (lambda: corner_crop(4, 4, 1.5), "fraction is 1.5"),
        (lambda: corner_crop(4, 4, corner="middle"), "corner is 'middle'; choose from top left"),
        (lambda: crops(torch.zeros(4, 4), [], (2, 2)), "of floats"),
        (lambda: crops(torch.zeros(1, 1, 4, 4), 3, (2, 2)), "boxes is 3; give a list"),
        (lambda: crops(torch.zeros(1, 1, 4, 4), [(0, 0, 2, 2)], (-1, 2)), r"size is \(-1, 2\)"),
        (lambda: crops(np.zeros((1, 1, 4, 4)), [], (2, 2)), "0 boxes for 1 images"),
        (lambda: crops("images", [], (2, 2)), "images is 'images', not numbers; give a tensor"),
        (lambda: crops(torch.zeros(2, 1, 4, 4), [(0, 0, 1, 1)], (2, 2)), "1 boxes for 2 images"),
        (
            lambda: crops(torch.zeros(1, 1, 4, 4), [(4, 0, 6, 2)], (2, 2)),
            "image 0 contains no pixel",
        ),
    ],
)
def test_wrong_crops_are_refused(wrong, words):
    with pytest.raises(ValueError, match=words):
        wrong()


NO_BOXES = [None, 7, (0, 0, 2), (0.4, 0, 2, 2), (0, 0, torch.nan, 2), "abcd", np.zeros(4)]


@pytest.mark.parametrize("box", NO_BOXES)
def test_what_is_no_box_gets_one_sentence(box):
    whole = (0, 0, 2, 2)
    words = r"is .*; give \(top, left, bottom, right\) in whole pixels, .* without a box\.$"
    with pytest.raises(ValueError, match=f"^the box of image 1 {words}"):
        crops(torch.zeros(2, 1, 4, 4), [whole, box], (2, 2))
    with pytest.raises(ValueError, match=f"^box 1 {words}"):
        background_crop(4, 4, [whole, box], shortest=0)


@pytest.mark.parametrize("table", [np.array, torch.tensor])
def test_boxes_are_whole_numbers_of_any_kind(table):
    images, boxes = drawn(0, 2, 1, 4, 4), [(0, 0, 2, 3), (1, 2, 4, 4)]
    assert torch.equal(crops(images, table(boxes), (2, 2)), crops(images, boxes, (2, 2)))
    assert background_crop(4, 4, table(boxes), 0) == background_crop(4, 4, boxes, 0)


# Duplicates between the four sets.


@given(st.lists(st.lists(st.integers(0, 5), max_size=8), min_size=2, max_size=3))
def test_duplicates_equal_those_looked_up_one_by_one(numbers):
    sets = {f"s{i}": [str(n) for n in rows] for i, rows in enumerate(numbers)}
    found = {(a, i, b, j) for a, i, b, j, _ in duplicates(sets).rows}
    names, slow = list(sets), set()
    for a, b in product(names, names):
        if names.index(a) > names.index(b):
            continue
        for i, text in enumerate(sets[a]):
            same = [j for j, other in enumerate(sets[b]) if other == text and (a != b or j < i)]
            if same:
                slow.add((a, i, b, same[0]))
    assert found == slow


def test_planted_duplicates_of_pictures_are_reported():
    generator = torch.Generator().manual_seed(0)
    sets = {
        name: torch.randint(256, (20, 3, 8, 8), generator=generator, dtype=torch.uint8)
        for name in ("target", "reference", "public", "held out")
    }
    assert len(duplicates(sets)) == 0 and "no duplicates (equal) in target" in repr(
        duplicates(sets)
    )
    sets["public"][3] = sets["target"][5]
    sets["reference"][7] = sets["held out"][2]
    sets["target"][9] = sets["target"][5]
    found = duplicates(sets)
    assert set(map(tuple, found.frame.to_numpy()[:, :4].tolist())) == {
        ("target", 9, "target", 5),
        ("target", 5, "public", 3),
        ("target", 9, "public", 3),
        ("reference", 7, "held out", 2),
    }
    assert "2 of the 20 rows of target are also in public" in repr(found)
    assert found.of("public").tolist() == [3] and found.of("target").tolist() == [5, 9]
    with pytest.raises(KeyError, match="no set 'private'"):
        found.of("private")


def test_files_are_compared_by_what_they_hold(tmp_path: Path):
    for name, content in (("a", b"1"), ("b", b"2"), ("c", b"1")):
        (tmp_path / name).write_bytes(content)
    sets = {"target": [tmp_path / "a", tmp_path / "b"], "public": [tmp_path / "c"]}
    assert [row[:4] for row in duplicates(sets).rows] == [("target", 0, "public", 0)]


def test_near_duplicates_are_those_above_the_threshold():
    one, other = drawn(0, 30, 16), drawn(1, 40, 16)
    other[11] = one[4] + 0.05 * drawn(2, 16)
    found = near_duplicates({"target": one, "public": other}, 0.95)
    assert [row[:4] for row in found.rows] == [("target", 4, "public", 11)]
    assert found.rows[0][4] == pytest.approx(
        float(torch.cosine_similarity(one[4], other[11], dim=0)), abs=1e-5
    )
    assert "cosine at least 0.95" in repr(found)
    equal = near_duplicates({"target": one, "copy": one.flip(0)}, 1.0)
    assert [row[1:4:2] for row in equal.rows] == [(row, 29 - row) for row in range(30)]


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        ({"a": ["x"], "b": torch.zeros(2, 3)}, "the sets are of different kinds"),
        ({"a": torch.zeros(2, 4), "b": torch.zeros(2, 3)}, "different kinds"),
        ({"a": "text", "b": ["x"]}, "a set is str; expected a tensor"),
        ({"a": [1]}, "a set is list"),
    ],
)
def test_sets_that_cannot_be_compared_are_refused(sets, words):
    with pytest.raises(ValueError, match=words):
        duplicates(sets)
    with pytest.raises(ValueError, match="threshold is 95"):
        near_duplicates({}, 95)


def test_a_pipe_among_the_pictures_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ValueError, match="is a pipe, not a file"):
        duplicates({"target": [tmp_path / "pipe.png"]})
