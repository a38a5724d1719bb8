"""Déjà vu: each wrong argument gets one sentence, and nothing outside is touched."""

import re

import numpy as np
import pytest
import torch

from memviz.engine.search import nearest
from memviz.probes.deja_vu import (
    DejaVu,
    Embedded,
    Predictions,
    embedded_by,
    predict,
    predicted_objects,
    two_model_test,
)

EYE, SHOWN = torch.eye(4), torch.eye(4) > 0
BAD = torch.tensor([0.0, torch.nan, 0.0, 1.0])
WRONG = [
    ({"k": 5}, "k is 5 and the public set has 4 images; use a k from 1 to 4"),
    ({"k": 0}, "k is 0"),
    ({"k": 1.5}, "k is 1.5; give a whole number"),
    ({"top": 0}, "top is 0; keep at least 1"),
    ({"captions": torch.stack([*EYE[:3], BAD])}, "row 3 of target's captions is NaN or infinite"),
    ({"captions": EYE * torch.tensor([1.0, 0, 1, 1])}, "row 1 of target's captions is zero"),
    ({"captions": EYE[0]}, "target's captions are [4]"),
    ({"captions": EYE.long()}, "give floats [rows, features]"),
    ({"captions": EYE[:0]}, "target's captions are empty"),
    ({"captions": EYE[:3]}, "there are 3 captions and 4 rows of objects"),
    (
        {"captions": torch.ones(4, 3)},
        "target's public embeddings have 4 features and its captions 3",
    ),
    ({"public": EYE * torch.inf}, "row 0 of target's public embeddings is NaN or infinite"),
    ({"public": EYE[:3]}, "target's public embeddings have 3 rows and public_objects 4"),
    ({"objects": EYE}, "objects is torch.float32 of shape [4, 4]"),
    ({"objects": [1]}, "objects is torch.int64 of shape"),
    ({"objects": SHOWN[:, :3]}, "objects has 3 kinds of object and public_objects 4"),
    ({"held_out": EYE}, "without held_out_objects"),
    ({"held_out_objects": SHOWN}, "target's held-out captions are NoneType"),
    ({"name": "reference"}, "both called 'reference'"),
]


@pytest.mark.parametrize(("changes", "words"), WRONG)
def test_a_wrong_argument_gets_one_sentence(changes, words):
    side = {"captions": EYE, "public": EYE, "held_out": None, "name": ""}
    mine = {key: changes.get(key, value) for key, value in side.items()}
    given = {"k": 1, "objects": SHOWN, **{k: v for k, v in changes.items() if k not in side}}
    with pytest.raises(ValueError, match=re.escape(words)):
        two_model_test(Embedded(**mine), Embedded(EYE, EYE), public_objects=SHOWN, **given)


def test_other_wrong_arguments():
    one, other = Embedded(EYE, EYE), Embedded(EYE.flip(0), EYE)
    found = two_model_test(one, other, SHOWN, SHOWN, k=2)
    for call, words in (
        (lambda: found.at(7), "k is 7, but 2 neighbours were searched"),
        (lambda: found.at(1.5), "k is 1.5, but 2 neighbours were searched"),
        (lambda: found.at(2, 1.5), "top is 1.5"),
        (lambda: found.order("size"), "pairs can't be sorted by 'size'"),
        (lambda: found.most_memorized(fractions=[0]), "fraction is 0; give one above 0"),
        (lambda: found.summary(1), "draws is 1"),
        (lambda: predicted_objects(torch.tensor([[4]]), SHOWN), "neighbour 4 is not one of the 4"),
        (
            lambda: predicted_objects(torch.tensor([[torch.nan]]), SHOWN),
            "neighbours is torch.float",
        ),
        (
            lambda: predicted_objects(torch.tensor([1]), SHOWN),
            r"neighbours is torch.int64 of shape",
        ),
        (
            lambda: embedded_by(EYE.matmul, {0}, EYE.matmul, EYE),
            r"to embed are \{0\}, which has no",
        ),
        (lambda: embedded_by(EYE.matmul, EYE.to("meta"), EYE.matmul, EYE), "on the meta device"),
        (lambda: embedded_by(EYE.matmul, EYE, EYE.matmul, None), "to embed are None, which has no"),
    ):
        with pytest.raises((ValueError, KeyError, TypeError), match=words):
            call()
    euclidean = nearest(EYE, EYE, 1, measure="euclidean")
    side = predict(euclidean, SHOWN, SHOWN)
    assert isinstance(side, Predictions)
    with pytest.raises(ValueError, match="min_dist needs cosines"):
        DejaVu(side, side, SHOWN, SHOWN, np.arange(4)).scores("min_dist")


def test_nothing_draws_from_the_global_generators():
    torch.manual_seed(0), np.random.seed(0)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
    one, other = Embedded(EYE, EYE, EYE), Embedded(EYE.flip(0), EYE, EYE)
    found = two_model_test(one, other, SHOWN, SHOWN, held_out_objects=SHOWN, k=2)
    with pytest.warns(DeprecationWarning, match=r"result.figures\(\) is now result.summary\(\)"):
        assert found.figures(5).equals(found.summary(5))
    found.summary(5), found.scores()
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002
