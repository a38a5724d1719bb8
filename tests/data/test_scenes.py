"""Scenes: exact truth, disjoint sets, captions that tell nothing but what they name."""

import numpy as np
import pytest
import torch

from memviz.data.scenes import NAMES, OBJECTS, PLACES, caption, draw_scenes

SIZES = {"target": 60, "reference": 50, "public": 70, "held_out": 40}


@pytest.fixture(scope="module")
def sets():
    return draw_scenes(seed=3, **SIZES)


def test_sizes_and_truth(sets):
    for name, pairs in sets.named().items():
        assert len(pairs) == SIZES[name]
        assert pairs.objects.shape == (SIZES[name], len(OBJECTS))
        counts = pairs.objects.sum(1)
        assert 3 <= int(counts.min()) <= int(counts.max()) <= 6
        # The named object is one of those shown.
        assert (pairs.named.sum(1) == 1).all()
        assert (pairs.named & ~pairs.objects).sum() == 0


def test_as_many_bright_cells_as_objects(sets):
    # Independent of the table: every object lights its own cell, and the ground is dark.
    for pair in range(len(sets.target)):
        cells = sets.target.images[pair].reshape(4, 8, 4, 8, 3).astype(float)
        brightest = cells.max(axis=(1, 3, 4))
        assert int((brightest > 120).sum()) == int(sets.target.objects[pair].sum())


def test_captions_name_one_object_and_only_that(sets):
    for pairs in sets.named().values():
        for pair, text in enumerate(pairs.captions):
            words = text.split()
            said = [word for word in words if word in OBJECTS]
            assert said == [OBJECTS[int(pairs.named[pair].nonzero())]]
            assert sum(word in NAMES for word in words) == 2
            assert sum(word in PLACES for word in words) == 1


def test_nothing_is_in_two_sets(sets):
    pictures = [digest for pairs in sets.named().values() for digest in pairs.digests()]
    captions = [text for pairs in sets.named().values() for text in pairs.captions]
    assert len(set(pictures)) == len(pictures) == sum(SIZES.values())
    assert len(set(captions)) == len(captions)


def test_same_seed_same_scenes_and_no_global_randomness(sets):
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002 - the global generator is what is watched
    state = torch.get_rng_state()
    drawn, legacy = np.random.get_state()[1].copy(), draw_scenes(seed=3, **SIZES)  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == drawn).all()  # noqa: NPY002
    assert legacy.target.digests() == sets.target.digests()
    assert legacy.public.captions == sets.public.captions
    assert draw_scenes(seed=4, **SIZES).target.digests() != sets.target.digests()


@pytest.mark.parametrize("words", [0, 1, 2])
def test_pictures_do_not_depend_on_words(sets, words):
    plain = draw_scenes(seed=3, **SIZES, private_words=words)
    assert plain.held_out.digests() == sets.held_out.digests()
    private = [w for w in plain.held_out.captions[0].split() if w in NAMES or w in PLACES]
    assert len(private) == words


def test_smaller_set_is_the_beginning_of_a_larger_one(sets):
    few = draw_scenes(seed=3, **{**SIZES, "target": 10})
    assert few.target.digests() == sets.target.digests()[:10]
    assert few.public.digests() == sets.public.digests()


def test_kinds_of_scene_make_objects_depend_on_each_other():
    objects = draw_scenes(seed=0, target=1500, reference=1, public=1, held_out=1).target.objects
    table = np.corrcoef(objects.float().numpy().T)
    free = np.random.default_rng(0).permuted(objects.numpy(), axis=0)  # each column by itself
    off = ~np.eye(len(OBJECTS), dtype=bool)
    assert np.abs(table[off]).mean() > 2 * np.abs(np.corrcoef(free.T.astype(float))[off]).mean()


def test_caption_forms():
    assert caption(["seven", "disc"], ["Ada"]) == "Ada with a seven and a disc"
    assert caption(["seven"], ["Ada", "Oslo"]) == "Ada with a seven in Oslo"


@pytest.mark.parametrize(
    "wrong", [{"target": 0}, {"private_words": 4}, {"seed": -1}, {"seed": 1.5}]
)
def test_wrong_settings_get_a_sentence(wrong):
    with pytest.raises(ValueError, match="but got"):
        draw_scenes(**wrong)
