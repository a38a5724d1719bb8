"""The digits with example-tied dropout: what memorizes can be taken out, and the rest is better."""

import pytest
import torch

import memviz as mv
from memviz.demos import example_tied
from memviz.demos.digits import _study as digits
from memviz.demos.example_tied import accuracies, load
from memviz.training.example_tied_dropout import set_mode


def test_memory_is_dropped_and_the_test_accuracy_is_not():
    found = [accuracies(seed) for seed in (0, 1, 2)]

    def mean(mode, group):
        return sum(seed[mode][group] for seed in found) / 3

    assert mean("own", "memorized") >= 0.99
    assert mean("dropped", "memorized") <= 0.05
    assert mean("dropped", "test") >= mean("plain network", "test")
    assert mean("dropped", "clean") > 0.97
    # The null: another example's channels don't hold this one.
    assert mean("another's", "memorized") <= 0.05


def test_the_study_is_that_of_the_digits_with_ids():
    study, plain = load(1), digits.examples(1)
    assert torch.equal(study.inputs["example_ids"], torch.arange(1797))
    assert torch.equal(study.labels, plain.labels)
    assert {k: int(v.sum()) for k, v in study.groups.items()} == {
        "memorized": 120, "clean": 1080, "test": 597,
    }  # fmt: skip
    assert study.images.shape == (1797, 8, 8)


def test_the_engine_sees_the_memory_come_and_go():
    study = load(0)
    examples = study.group("memorized")[:40]
    shares = {}
    for mode in ("own", "dropped"):
        set_mode(study.model, mode)
        effects = mv.sweep(study, "conv4:0-1", examples, progress=False)
        shares[mode] = (effects.margin > 0).float().mean().item()
    assert shares["own"] == 1.0
    assert shares["dropped"] < 0.1


def test_another_seed_is_trained_once_and_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MEMVIZ_CACHE", str(tmp_path))
    monkeypatch.setattr(digits, "EPOCHS", 1)
    first = load(7, mode="own")
    assert "Training the digits with example-tied dropout for seed 7" in capsys.readouterr().out
    second = load(7, mode="own")
    assert capsys.readouterr().out == ""
    batch = first.batch(torch.arange(50))
    with torch.no_grad():
        assert torch.equal(first.model(**batch).argmax(1), second.model(**batch).argmax(1))
    with pytest.raises(ValueError, match="mode is 'drop'"):
        load(7, mode="drop")
    assert example_tied.SHIPPED_SEEDS == (0, 1, 2)
