"""Families of models: what is drawn, that trained ones are kept, and the measures' direction."""

from dataclasses import replace

import pandas as pd
import pytest
import torch

from memviz.demos.families import FAMILIES
from memviz.demos.families import __main__ as coloured_digits
from memviz.demos.families import _families as model_families

COLOURED, SHUFFLED, CIRCLES = FAMILIES.values()
HELD_OUT = slice(1200, None)


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """An empty cache, and families that train for one epoch."""
    monkeypatch.setenv("MEMVIZ_CACHE", str(tmp_path))
    for name, family in FAMILIES.items():
        monkeypatch.setitem(FAMILIES, name, replace(family, epochs=lambda _: 1))
    return tmp_path


@pytest.mark.parametrize("error", COLOURED.settings)
def test_colour_tells_the_label_but_for_its_error(error):
    made = COLOURED.draw(error, 0)
    colour = (made.inputs[:, 1].flatten(1).sum(1) > 0).long()
    assert (made.inputs.flatten(2).sum(2) > 0).sum(1).eq(1).all()  # one channel is empty
    agree = (colour == made.labels).float()
    # Four standard errors of a share among 1,200, and among 597.
    assert agree[:1200].mean().item() == pytest.approx(1 - error, abs=0.058)
    assert agree[HELD_OUT].mean().item() == pytest.approx(0.5, abs=0.082)
    flipped = (made.labels != made.true_labels).float().mean().item()
    assert flipped == pytest.approx(0.25, abs=0.041)
    alone = made.groups.get("memorized", torch.zeros(len(colour), dtype=torch.bool))
    neither = (made.labels != made.true_labels) & (made.labels != colour)
    neither[HELD_OUT] = False
    assert torch.equal(alone, neither)


def test_models_of_a_family_share_what_they_can():
    one, other = (COLOURED.draw(error, 0) for error in (0.5, 0.0))
    assert torch.equal(one.labels, other.labels)
    assert torch.equal(one.inputs[HELD_OUT], other.inputs[HELD_OUT])
    assert not torch.equal(one.labels, COLOURED.draw(0.5, 1).labels)


@pytest.mark.parametrize("share", SHUFFLED.settings)
def test_the_share_of_labels_is_drawn_anew(share):
    made = SHUFFLED.draw(share, 0)
    wrong = (made.labels != made.true_labels).float()
    assert wrong[:1200].mean().item() == pytest.approx(share * 0.9, abs=0.058)
    assert wrong[HELD_OUT].sum() == 0


def test_circles_have_a_cue():
    base, heuristic, shuffled = (CIRCLES.draw(setting, 0) for setting in CIRCLES.settings)
    for made, agreement in ((base, 0.5), (heuristic, 1.0)):
        shown = made.inputs[:1500, 2].abs() > 2
        assert shown.float().mean().item() == pytest.approx(0.75, abs=0.045)
        agree = (made.inputs[:1500, 2] > 0) == (made.labels[:1500] == 1)
        assert agree[shown].float().mean().item() == pytest.approx(agreement, abs=0.06)
    assert torch.equal(base.inputs[1500:], heuristic.inputs[1500:])
    assert torch.equal(base.inputs[1500:], shuffled.inputs[90:])
    assert len(shuffled.labels) == 1090 and "memorized" in shuffled.groups


def test_trained_models_are_kept(quick, monkeypatch, capsys):
    first = model_families.load("circles", seed=5)
    assert "Training 3 models" in capsys.readouterr().out
    monkeypatch.setattr(model_families, "_fit", None)  # nothing is trained again
    again = model_families.load("circles", seed=5)
    assert capsys.readouterr().out == ""
    for setting, study in first.items():
        weights = again[setting].model.state_dict()
        assert all(torch.equal(weights[k], v) for k, v in study.model.state_dict().items())


def test_a_damaged_file_is_trained_again(quick):
    model_families.load("circles", seed=5)
    damaged = next(quick.glob("circles-base*"))
    damaged.write_bytes(damaged.read_bytes()[:-9])
    with pytest.warns(UserWarning, match="Cached files are not used"):
        found = model_families.load("circles", seed=5)
    assert list(found) == ["base", "heuristic", "shuffled"]


def test_a_training_can_be_repeated(quick):
    one = model_families._fit("circles", "base", 0)
    two = model_families._fit("circles", "base", 0)
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.fixture(scope="module")
def trained():
    """Both ends of two families, trained for a fifth of the time."""
    found = {}
    for name, family in (("coloured", COLOURED), ("shuffled", SHUFFLED)):
        ends = {}
        for setting in (family.settings[0], family.settings[-1]):
            key = "coloured digits" if name == "coloured" else "shuffled digits"
            with pytest.MonkeyPatch.context() as patch:
                patch.setitem(FAMILIES, key, replace(family, epochs=lambda _: 40))
                state = model_families._fit(key, setting, 0)
            ends[setting] = model_families._study(key, setting, 0, state)
        found[name] = coloured_digits.measures(ends, estimators=["binned"], progress=False)
    return found


def test_a_heuristic_makes_units_alike(trained):
    honest, cue = (trained["coloured"].loc[error] for error in (0.5, 0.0))
    assert cue["pairs binned"] > honest["pairs binned"] + 0.1
    assert honest["pairs binned"] > honest["null pairs binned"]
    for edges in ("global", "layer", "unit"):
        assert cue[f"entropy {edges}"] < honest[f"entropy {edges}"]


def test_single_examples_make_units_differ(trained):
    clean, random = (trained["shuffled"].loc[share] for share in (0.0, 1.0))
    assert random["pairs binned"] < clean["pairs binned"] - 0.05


def test_rankings_have_the_sign_of_the_hypotheses():
    table = pd.DataFrame(
        {
            "test accuracy": [0.64, 0.6, 0.5],
            "pairs binned": [0.2, 0.3, 0.7],
            "entropy global": [3.0, 2.5, 2.6],
        }
    )
    assert coloured_digits.rankings(table, "coloured digits") == pytest.approx(
        {"pairs binned": 1, "entropy global": 1 / 3}
    )
    assert coloured_digits.rankings(table, "shuffled digits")["pairs binned"] == -1


def test_the_command_prints_every_measure(quick, capsys):
    coloured_digits.main(["--seeds", "7", "--families", "circles"])
    printed = capsys.readouterr().out
    for words in ("test accuracy", "entropy unit", "pairs ksg", "heuristic"):
        assert words in printed


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: model_families.load("squares"), "no family 'squares'; choose from coloured"),
        (lambda: model_families.load("circles", -1), "seed must be a whole number from 0"),
    ],
)
def test_bad_input_gets_one_sentence(call, words):
    with pytest.raises(ValueError, match=words):
        call()
