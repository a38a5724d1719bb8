"""What the déjà vu explorer refuses and warns of, before its models run."""

import copy
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from memviz.data.caption_pairs import CaptionPairs
from memviz.data.scenes import draw_scenes
from memviz.models.clip import create_clip
from memviz.probes.deja_vu import Embedded
from memviz.probes.deja_vu.ablation import Retrieval

VISION = {"image_size": 16, "layers": 1, "width": 16, "head_width": 16, "patch_size": 16}
TEXT = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1}
CFG = {"embed_dim": 8, "vision_cfg": VISION, "text_cfg": TEXT}
SETS = draw_scenes(3, target=6, reference=6, public=8, held_out=7)
TARGET, REFERENCE = (create_clip(CFG, {"size": 16}, seed=seed) for seed in (1, 2))


def made(**changes):
    given = {"target": TARGET, "reference": REFERENCE, "training": SETS.target}
    return Retrieval(**{**given, "public": SETS.public, "held_out": SETS.held_out, **changes})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"target": "my/folder"},
            "target is 'my/folder'; expected a Clip: load one with memviz.models.clip.load_",
        ),
        ({"target": Path("my")}, "target is of type PosixPath; expected a Clip"),
        ({"target": TARGET.model}, "target is of type CLIP; expected a Clip"),
        ({"target": None}, "target is of type NoneType"),
        (
            {"reference": "x" * 200},
            "reference is '" + "x" * 60 + "…'; expected a Clip or an Embedded",
        ),
        (
            {"reference": REFERENCE.model},
            "reference is of type CLIP; expected a Clip or an Embedded",
        ),
        ({"training": SETS.target.captions}, "training is of type list; expected CaptionPairs("),
        ({"public": "photos"}, "public is 'photos'; expected CaptionPairs("),
        ({"held_out": (SETS.held_out,)}, "held_out is of type tuple; expected CaptionPairs("),
        ({"query": "a photo of a {}"}, "query is 'a photo of a {}'; expected a function"),
        ({"reference": TARGET}, "target and reference have equal weights"),
        ({"reference": copy.deepcopy(TARGET)}, "target and reference have equal weights"),
    ],
)
def test_another_kind_of_thing_gets_one_sentence(changes, words):
    with pytest.raises(ValueError, match=re.escape(words)) as told:
        made(**changes)
    assert "\n" not in str(told.value) and str(told.value).endswith(".")


def test_models_that_differ_in_one_weight_or_in_shape_are_two():
    other = copy.deepcopy(TARGET)
    with torch.no_grad():
        other.model.text_projection[0, 0] += 1
    smaller = create_clip({**CFG, "embed_dim": 4}, {"size": 16}, seed=1)
    for reference in (other, smaller, Embedded(torch.eye(6), torch.eye(8, 6), torch.eye(7, 6))):
        made(reference=reference)


def both(one, other):
    """The pairs of two sets in one."""
    return CaptionPairs(
        [*one.images, *other.images],
        [*one.captions, *other.captions],
        torch.cat([one.objects, other.objects]),
        one.class_names,
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"public": SETS.target}, "6 of the 6 training images are also public images; shared"),
        ({"held_out": SETS.target}, "6 of the 6 training images are also held-out images; shared"),
        ({"held_out": SETS.public}, "8 of the 8 held-out images are also public images; shared"),
        (
            {"public": both(SETS.public, SETS.held_out.subset(torch.arange(2)))},
            "2 of the 7 held-out images are also public images; shared",
        ),
        (
            {"held_out": SETS.target, "public": SETS.target.subset(torch.tensor([0, 3, 5]))},
            "6 of the 6 training images are also held-out images, "
            "3 of the 6 training images are also public images, "
            "3 of the 6 held-out images are also public images; shared",
        ),
    ],
)
def test_sets_that_share_images_are_told_once(changes, words):
    with pytest.warns(UserWarning, match="leave them out of one") as told:
        made(**changes)
    assert len(told) == 1 and str(told[0].message).startswith(words)
    assert told[0].filename == __file__  # where Retrieval was called


def test_a_picture_twice_in_one_set_is_no_matter():
    made(public=both(SETS.public, SETS.public))  # a warning would be an error


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": "folder"}, "images is of type str; give a list"),
        ({"captions": "a dog"}, "captions is of type str; give a list"),
        ({"captions": [3] * 6}, "a caption is of type int; give one str per picture"),
        ({"class_names": None}, "class_names is of type NoneType; give a list"),
        ({"objects": [[True]]}, "objects is of type list; give a bool tensor [6, 24]"),
        ({"named": np.ones((6, 24), bool)}, "named is of type ndarray; give a bool tensor"),
    ],
)
def test_what_is_no_list_of_pairs_gets_one_sentence(changes, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        replace(SETS.target, **changes)
