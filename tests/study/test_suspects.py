"""Groups from scores: the highest are suspected, test is kept, what that can't say is printed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import memviz as mv
from memviz.probes.examples import el2n, final_loss, scores_of_model

N = 80
VALUES = torch.randperm(N, generator=torch.Generator().manual_seed(0)).double()


def study(**more: Any) -> mv.Study:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    groups = {"train": range(60), "test": range(60, N)}
    return mv.Study(model, torch.randn(N, 4), torch.arange(N) % 3, groups, **more)


def scores(examples: Any = range(N), values: Any = VALUES) -> mv.Scores:
    return mv.Scores("loss", "nats", values, examples=examples)


def test_the_highest_are_suspected_and_test_is_kept() -> None:
    found = study().suspects(scores(), k=7)
    wanted = VALUES[:60].argsort(descending=True)
    assert found.group("memorized").tolist() == sorted(wanted[:7].tolist())
    assert found.group("clean").tolist() == sorted(wanted[7:].tolist())
    assert found.group("test").tolist() == list(range(60, N))
    lowest = study().suspects(scores(), k=7, clean="lowest")
    assert lowest.group("clean").tolist() == sorted(wanted[-7:].tolist())
    assert mv.sweep(found, "0:0", progress=False).lost("memorized").shape == (1,)


def test_the_order_of_the_scores_makes_no_difference() -> None:
    order = torch.randperm(N, generator=torch.Generator().manual_seed(5))
    ties = torch.zeros(N)
    for values in (VALUES, ties):
        one = study().suspects(scores(values=values), share=0.2)
        other = study().suspects(scores(order, values[order]), share=0.2)
        assert one.group("memorized").tolist() == other.group("memorized").tolist()
        assert len(one.group("memorized")) == 12
    assert "48 more at that same score" in repr(one)


def test_what_has_no_score_is_in_no_group() -> None:
    values = VALUES.clone()
    values[:10] = torch.nan
    found = study().suspects(scores(values=values), share=0.5)
    assert not torch.stack(list(found.groups.values())).any(0)[:10].any()
    assert len(found.group("memorized")) == 25


def test_it_says_where_the_groups_came_from_and_what_they_are_not() -> None:
    found = study(name="mine", summary="a net").suspects(scores(), k=7)
    lines = repr(found).splitlines()
    assert "7 memorized, 53 clean, 20 test" in lines[0] and len(lines) == 3
    assert lines[1].strip().startswith("memorized: the 7 of 60 with the highest loss (down to")
    assert "suspects, not findings" in lines[2]
    assert (
        found.summary.startswith("a net · memorized: the 7 of 60") and "suspects" in found.summary
    )
    assert ".suspects(" in mv.Session(found).to_code()
    assert replace(found, name="other").suspicion is found.suspicion
    assert replace(found, groups={"test": range(3)}).suspicion is None
    with pytest.raises(ValueError, match="give either k"):
        found.suspects(scores())


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "units": (
        {"scores": mv.Scores("x", "", [0.0], units=["0:1"]), "k": 1},
        "'x' is over units; give scores over examples",
    ),
    "both": ({"k": 3, "share": 0.1}, "give either k, how many examples to suspect, or share"),
    "all": (
        {"k": 60},
        "60 examples would be suspected, and 60 outside the group 'test' have a sco",
    ),
    "more than half": ({"k": 31, "clean": "lowest"}, "suspect from 1 to 30, so that others are"),
    "none": ({"k": 0}, "k is 0; give a whole number from 1"),
    "a share above 1": ({"share": 1.5}, "share is 1.5; give"),
    "outside": ({"scores": scores([0, N], [1.0, 2.0]), "k": 1}, "one outside the study, which has"),
    "twice": ({"scores": scores([0, 0], [1.0, 2.0]), "k": 1}, "names an example twice"),
    "another word": ({"k": 1, "clean": "best"}, "clean is 'best'; choose from rest, lowest"),
    "no scores": ({"scores": [1.0] * N, "k": 1}, "expected Scores"),
}


@pytest.mark.parametrize("which", REFUSED)
def test_what_gives_no_groups_is_refused(which: str) -> None:
    arguments, words = REFUSED[which]
    with pytest.raises((TypeError, ValueError), match=words):
        study().suspects(**{"scores": scores(), **arguments})


def test_scores_of_one_model_need_no_checkpoints() -> None:
    torch.manual_seed(1)
    own = study()
    found = scores_of_model(own, progress=False)
    names = [score.name for score in found]
    assert names[:2] == ["final loss", "GraNd"] and "prediction depth" in names and len(names) == 6
    assert all(np.array_equal(score.examples, np.arange(60)) for score in found)
    with torch.no_grad():
        logits = own.model(own.inputs)
    wanted = nn.functional.cross_entropy(logits, own.labels, reduction="none")[:60]
    assert np.allclose(found[0].values, wanted, atol=1e-6)
    other = {0: own.model.state_dict(), 3: nn.Sequential(*map(_noisy, own.model)).state_dict()}
    again = scores_of_model(replace(own, checkpoints=other), progress=False)
    for one, two in zip(found, again, strict=True):
        assert np.array_equal(one.values, two.values)  # checkpoints are not read
    assert not np.allclose(el2n(replace(own, checkpoints=other), range(60)).values, found[4].values)
    few = scores_of_model(own, [5, 3], progress=False)
    assert np.allclose(few[0].values, found[0].values[[5, 3]], atol=1e-6)


def _noisy(module: nn.Module) -> nn.Module:
    return (
        nn.Linear(module.in_features, module.out_features)
        if isinstance(module, nn.Linear)
        else module
    )


def test_what_does_not_fit_the_task_is_left_out() -> None:
    model = nn.Linear(4, 1).eval()
    numbers = mv.Study(
        model, torch.randn(N, 4), torch.randn(N), {"train": range(N)}, task=mv.Regression(0.1)
    )
    names = [score.name for score in scores_of_model(numbers, progress=False)]
    assert names == ["final loss", "GraNd", "input-loss curvature", "loss sensitivity"]
    tokens = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(8, 3)).eval()
    words = mv.Study(tokens, torch.randint(0, 9, (N, 2)), torch.arange(N) % 3, {"a": range(20)})
    names = [score.name for score in scores_of_model(words, progress=False)]
    assert names == ["final loss", "GraNd", "EL2N"]


def test_a_planted_wrong_label_is_suspected_by_the_loss() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(N, 4)
    labels = (inputs[:, 0] > 0).long()
    model = nn.Linear(4, 2).eval()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[-5.0, 0, 0, 0], [5.0, 0, 0, 0]]))
        model.bias.zero_()
    clear = (inputs[:60, 0].abs() > 0.5).nonzero()[:5, 0]
    labels[clear] = 1 - labels[clear]
    own = mv.Study(model, inputs, labels, {"train": range(60), "test": range(60, N)})
    assert (
        own.suspects(final_loss(own, range(N)), k=5).group("memorized").tolist() == clear.tolist()
    )


@pytest.mark.parametrize("wrong", ["the highest", ("a", "b"), np.ones(1)])
def test_a_suspicion_is_not_made_by_hand(wrong: Any) -> None:
    with pytest.raises(
        TypeError, match=r"suspicion is .*; leave it out: Study.suspects sets it\.$"
    ):
        study(suspicion=wrong)
