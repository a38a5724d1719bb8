"""The truths that come with memviz are true: exact ablation of what was planted says so."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch

import memviz as mv
from memviz.demos import example_tied
from memviz.demos.contest import __main__ as demo
from memviz.demos.contest import _truths as contest_truths
from memviz.probes.contest import Truth, contest
from memviz.probes.contest.localizers import exact_ablation


def drops(truth: Truth) -> dict[str, float]:
    groups = mv.readout(truth.study, truth.planted, random_draws=0).groups
    return {name: group.before.accuracy - group.after.accuracy for name, group in groups.items()}


@pytest.mark.parametrize("name", ["constructed, hard-tanh", "constructed, ReLU"])
@pytest.mark.parametrize("seed", [0, 1])
def test_planted_owners_hold_their_images_and_no_others(name: str, seed: int) -> None:
    truth = contest_truths.TRUTHS[name](seed)
    effect = drops(truth)
    assert effect["clean"] == 0
    # One class is left of two random ones.
    assert 0.3 < effect["memorized"] < 0.7
    assert int(truth.study.groups["memorized"].sum()) == 4 * 24


def test_all_memorization_channels_are_the_dropped_ones() -> None:
    truth = contest_truths.TRUTHS["example-tied, all"](0)
    assert truth.named == 259
    effect = drops(truth)
    assert effect["memorized"] > 0.9 and effect["clean"] < 0.05
    # Zeroing them is what the demo's own mode does.
    dropped = example_tied.load(0, mode="dropped")
    with torch.no_grad(), mv.ablate(truth.study, truth.planted):
        mine = truth.study.model(truth.study.batch(torch.arange(50)))
    with torch.no_grad():
        theirs = dropped.model(**dropped.batch(torch.arange(50)))
    assert torch.allclose(mine, theirs, atol=1e-4)


def test_one_images_channels_hold_it_and_no_clean_image() -> None:
    truth = contest_truths.TRUTHS["example-tied, one image"](0)
    effect = drops(truth)
    assert effect["memorized"] == 1 and effect["clean"] < 0.02


def test_ids_that_images_carry_stay_right_on_the_way_to_zero() -> None:
    study = contest_truths._with_own_channels(0)
    tied = example_tied.load(0, mode="own")
    some = torch.tensor([0, 7, 1199, 1796])
    inputs = study.batch(some)
    assert isinstance(inputs, torch.Tensor)
    with torch.no_grad():
        for share in (1.0, 0.37, 1e-3):
            images, ids = share * inputs[:, :1], tied.batch(some)["example_ids"]
            expected = tied.model(images=images, example_ids=ids)
            assert torch.allclose(study.model(share * inputs), expected, atol=1e-5)


def test_nothing_is_planted_in_the_ordinary_network() -> None:
    truth = contest_truths.TRUTHS["digits"](0)
    assert len(mv.UnitSet.of(truth.planted)) == 0 and truth.named == 16
    assert truth.study.group("memorized").shape == (120,)


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Words of the progress bars that were made."""
    made: list[str] = []

    def slow(items: Sequence[Any], words: str) -> Sequence[Any]:
        made.append(words)
        return items

    monkeypatch.setattr(contest_truths, "slow", slow)
    return made


@pytest.mark.slow
def test_injected_units_hold_their_images_and_nothing_else(bars: list[str]) -> None:
    truth = contest_truths.TRUTHS["injected, one image a unit"](0)
    assert bars == ["planting units"]
    effect = drops(truth)
    assert effect["memorized"] == 1 and effect["clean"] == 0 and abs(effect["test"]) < 0.01
    found = mv.sweep(truth.study, truth.planted, progress=False)
    right = found.lost("memorized")
    assert right.sum() == 8 and (right == 1).all()


@pytest.mark.slow
def test_trained_units_alone_hold_their_images(bars: list[str]) -> None:
    truth = contest_truths.TRUTHS["injected, trained"](0)
    assert bars == ["training units"]
    effect = drops(truth)
    assert effect["memorized"] > 0.9 and effect["clean"] < 0.02
    plain = mv.demo("digits").model.state_dict()
    for layer, indices in mv.UnitSet.of(truth.planted).layers.items():
        others = [i for i in range(len(plain[f"{layer}.weight"])) if i not in indices]
        mine = truth.study.model.state_dict()[f"{layer}.weight"]
        # Into other units of the layer, only what comes out of planted units may have changed.
        changed = (mine != plain[f"{layer}.weight"])[others].flatten(2 if mine.dim() > 2 else 1)
        assert changed.float().mean() < 0.5


def test_an_unknown_truth_gets_one_sentence() -> None:
    with pytest.raises(ValueError, match="there is no truth 'planted'; choose from injected"):
        next(demo.truths(names=["planted"]))


def test_the_command_prints_every_table(
    capsys: pytest.CaptureFixture[str], tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    def few(truths: object, **given: object) -> object:
        return contest(truths, {"exact": exact_ablation}, **given)  # type: ignore[arg-type]

    monkeypatch.setattr(demo, "contest", few)
    demo.main(["--seeds", "0", "--truths", "constructed, ReLU", "--folder", str(tmp_path)])
    printed = capsys.readouterr().out
    for words in ("that were named", "clean examples lost", "exact", "8 of 48", "contest.csv"):
        assert words in printed
    from pathlib import Path

    folder = Path(str(tmp_path))
    assert {p.name for p in folder.iterdir()} == {
        "contest.csv",
        "contest.png",
        "contest-curves.png",
    }
