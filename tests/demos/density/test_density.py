"""The VAE of digits and noise: what ships agrees with itself, and another seed is trained."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import memviz as mv
from memviz.demos import density
from memviz.demos.density import __main__ as command
from memviz.demos.density import _measures, _recipe
from memviz.probes.density import DensityStudy


@pytest.fixture(scope="module")
def study() -> DensityStudy:
    study = mv.demo("density")
    assert isinstance(study, DensityStudy)
    return study


def test_noise_that_occurs_once_is_remembered_most(study: DensityStudy):
    scores = study.fits[0.003].memorization()
    assert set(scores.top(6, of="examples").tolist()) == set(study.group("memorized").tolist())
    assert scores.null is not None
    unique, twins = (study.group(name).numpy() for name in ("memorized", "duplicates"))
    assert scores.values[unique].min() > 3 * scores.values[twins].max()
    with torch.no_grad():
        margin = study.task.margin(study.model(**study.batch(torch.arange(821))), study.labels)
    assert margin[unique].median() > 10 > margin[study.group("clean")].median() > 0
    assert margin[study.group("test")].mean() < 0


def test_the_quantile_rises_while_test_digits_become_likelier(study: DensityStudy):
    found = density.summary(0)
    assert (found.tables["q95"].diff(dim=0) > 0).all()
    q95, held_out = found.tables["q95"][-1], found.tables["held_out_log_p"]
    assert (q95.diff() > 0).all() and (held_out.diff(dim=1) > 0).all()
    assert (found.tables["q95"][:, -1] > 2 * found.tables["null_q95"][:, -1]).all()
    again = _measures.measured(0, study.fits)
    for name, table in found.tables.items():
        torch.testing.assert_close(table, again[name])


def test_weights_of_every_rate_and_epoch_are_there(study: DensityStudy):
    assert {rate: tuple(states) for rate, states in study.weights.items()} == {
        rate: fits.epochs for rate, fits in study.fits.items()
    }
    last = study.checkpoints[300]
    assert all(torch.equal(last[name], value) for name, value in study.model.state_dict().items())


def test_the_command_prints_one_object_of_three_seeds(capsys: pytest.CaptureFixture[str]):
    command.main(["--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["unique"] > 5 * found["duplicates"] > found["null"] > 0
    assert list(found["seeds"]) == [str(seed) for seed in density.SHIPPED_SEEDS]
    for name in ("q95", "held_out_log_p"):
        assert set(found[name]) == {"0.001", "0.003"} and len(found[name]["0.003"]) == 6
    mean = np.mean([seed["unique"] for seed in found["seeds"].values()])
    assert found["unique"] == pytest.approx(mean)
    command.main(["--seeds", "0"])
    said = capsys.readouterr().out
    assert "learning rate 0.003" in said and "Spearman rank correlation" in said


def test_few_units_of_the_decoder_hold_the_noise(capsys: pytest.CaptureFixture[str]):
    command.main(["--units", "--seeds", "0"])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    margins = {row[0]: [float(cell) for cell in row[1:]] for row in rows if len(row) == 4}
    before, after, random = margins["memorized"]
    assert before - after > 10 * abs(before - random)
    assert margins["clean"][1] == pytest.approx(margins["clean"][2], abs=0.5)


def test_log_likelihoods_are_kept_in_steps_of_a_64th_nat():
    log_p = -60 * torch.rand(4, 6, 5)
    back = _recipe._unpacked(_recipe._packed(log_p), 4, 5)
    assert (back - log_p).abs().max() <= 1 / 128
    with pytest.raises(ValueError, match="too large to keep"):
        _recipe._packed(log_p - 600)


def test_another_seed_is_trained_kept_and_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("MEMVIZ_CACHE", str(tmp_path))
    for name, value in (("EPOCHS", (1, 2)), ("FOLDS", 2), ("REPEATS", 1), ("SAMPLES", 4)):
        monkeypatch.setattr(_recipe, name, value)
    first = density.load(7)
    assert "Training VAEs of digits with rate 0.001 for seed 7" in capsys.readouterr().out
    again = density.load(7)
    assert "Training" not in capsys.readouterr().out
    assert torch.equal(first.labels, again.labels)
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name])
    with pytest.raises(ValueError, match="whole number from 0"):
        density.load(-1)
