"""Utility: average precision counted by hand, planted and random features, and bad input."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from memviz.probes.deja_vu import by_chance, linear_probe, zero_shot


def drawn(seed: int, n: int = 30, kinds: int = 4, features: int = 5) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(n, features, generator=generator, dtype=torch.float64)
    queries = torch.randn(kinds, features, generator=generator, dtype=torch.float64)
    return queries, images, torch.rand(n, kinds, generator=generator) < 0.3


def slow(queries: Tensor, images: Tensor, objects: Tensor, least: int) -> float:
    """At each picture that shows the kind: the share of those up to it that do; then the means."""
    found = []
    for kind, query in enumerate(queries):
        if int(objects[:, kind].sum()) < least:
            continue
        near = [float(query @ image / (query.norm() * image.norm())) for image in images]
        order = sorted(range(len(images)), key=lambda i: -near[i])
        right, shares = 0, []
        for place, image in enumerate(order, 1):
            if objects[image, kind]:
                right += 1
                shares.append(right / place)
        found.append(sum(shares) / len(shares))
    return sum(found) / len(found)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 200), st.integers(1, 5))
def test_zero_shot_by_hand(seed: int, least: int):
    queries, images, objects = drawn(seed)
    expected = slow(queries, images, objects, least)
    assert zero_shot(queries, images, objects, least=least) == pytest.approx(expected, rel=1e-5)
    assert zero_shot(3 * queries, images / 7, objects, least=least) == pytest.approx(expected)


def test_a_query_of_the_objects_finds_them_all():
    _, _, objects = drawn(0)
    found = objects.float() + 0.01
    queries = torch.eye(4)
    # Of two objects each: every picture with the kind is nearer than any without.
    pairs = torch.tensor([[0, 1], [1, 2], [2, 3], [3, 0]])
    two = torch.zeros(4, 4, dtype=torch.bool).scatter(1, pairs, True)
    assert zero_shot(queries, two.float(), two) == 1
    assert zero_shot(queries, -found, objects) < zero_shot(queries, found, objects)


def test_a_linear_probe_finds_what_is_planted_and_nothing_else():
    generator = torch.Generator().manual_seed(3)
    objects = torch.rand(300, 3, generator=generator) < 0.3
    turn = torch.linalg.qr(torch.randn(6, 6, generator=generator)).Q
    noise = torch.randn(300, 3, generator=generator)
    planted = torch.cat([5.0 * objects, noise], 1) @ turn
    random = torch.randn(300, 6, generator=generator)
    first, last = slice(0, 200), slice(200, 300)
    split = lambda rows: (rows[first], objects[first], rows[last], objects[last])  # noqa: E731
    assert linear_probe(*split(planted)) == 1
    # The average precision of a random order is about the share: .3, with error sqrt(.3/30/3)/2.
    assert abs(linear_probe(*split(random)) - by_chance(objects[last])) < 0.15


def test_rare_kinds_are_left_out_and_chance_is_their_share():
    objects = torch.zeros(10, 3, dtype=torch.bool)
    objects[:6, 0], objects[:2, 1], objects[:, 2] = True, True, True
    features = torch.arange(10, 0, -1.0)[:, None]
    # Column 1 is too rare, column 2 has nothing to be told from.
    assert linear_probe(-features, objects, features, objects, least=3) < 1
    assert linear_probe(features, objects, features, objects, least=3) == 1
    assert by_chance(objects, least=3) == pytest.approx(0.8)


def test_faults():
    queries, images, objects = drawn(0)
    with pytest.raises(ValueError, match="give one query per kind"):
        zero_shot(queries[:2], images, objects)
    with pytest.raises(ValueError, match="30 images and 5 rows of objects"):
        zero_shot(queries, images, objects[:5])
    with pytest.raises(ValueError, match="lower least"):
        zero_shot(queries, images, objects, least=31)
    with pytest.raises(ValueError, match="the same for both sets of images"):
        linear_probe(images, objects, images[:, :2], objects)
    with pytest.raises(ValueError, match="lower least"):
        linear_probe(images, objects, images, objects, least=16)
    with pytest.raises(ValueError, match="row 3 of images is NaN"):
        bad = images.clone()
        bad[3] = torch.nan
        zero_shot(queries, bad, objects)
