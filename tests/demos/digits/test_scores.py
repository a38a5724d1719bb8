"""What ships of the digits' scores: whole, as the recipe says, and the same measured again."""

from pathlib import Path

import numpy as np
import pytest
import torch

import memviz as mv
from memviz.demos.digits import read_scores, write_scores
from memviz.demos.digits import scores as digit_scores
from memviz.demos.digits.scores import MLP_RECIPE, NETWORKS, TRAININGS
from memviz.probes.examples import auroc, el2n, loss_sensitivity, split_half, tracin
from memviz.statistics import spearman
from memviz.training.subsets import SubsetTrainings, train_subsets

NAMES = {
    *("memorization", "cumulative sample loss", "area under the margin", "learning time"),
    *("forgetting events", "second-split forgetting", "input-loss curvature", "loss sensitivity"),
    *("EL2N", "GraNd", "TracIn self-influence", "prediction depth"),
}


@pytest.fixture(scope="module")
def trainings() -> SubsetTrainings:
    return digit_scores.trainings()


@pytest.fixture(scope="module")
def shipped() -> dict[str, dict[str, mv.Scores]]:
    return {
        network: {one.name: one for one in digit_scores.scores(network)} for network in NETWORKS
    }


def test_wrong_labels_are_memorized_and_clean_ones_are_not(
    digits: mv.Study, trainings: SubsetTrainings, shipped: dict
) -> None:
    wrong = digits.groups["memorized"][:1200].numpy()
    values = shipped["convnet"]["memorization"].values
    assert values[wrong].mean() > 0.9
    assert values[~wrong].mean() < 0.2
    assert shipped["convnet"]["memorization"].standard_error.max() < 0.07
    null = shipped["convnet"]["memorization"].null
    assert abs(null.mean.mean()) < 0.01
    clean = torch.from_numpy(~wrong)
    assert split_half(trainings.inside, trainings.correct_inside).mean() > 0.85
    assert split_half(trainings.inside, trainings.correct_inside, clean).mean() > 0.8
    assert trainings.correct_inside[trainings.inside].double().mean() > 0.999  # interpolated


@pytest.mark.parametrize("network", NETWORKS)
def test_every_score_ships_with_its_null_and_finds_wrong_labels(
    digits: mv.Study, shipped: dict, network: str
) -> None:
    assert set(shipped[network]) == NAMES
    wrong = digits.groups["memorized"][:1200].numpy()
    for one in shipped[network].values():
        assert one.examples.tolist() == list(range(1200))
        assert not np.isnan(one.values).any()
        assert one.source
        assert one.null is not None
        assert one.null.mean.shape == (1200,)
        assert auroc(one.values, wrong) > 0.8
        assert auroc(-one.values, wrong) < 0.2


def test_scores_of_the_shipped_checkpoints_are_the_same_again(
    digits: mv.Study, shipped: dict
) -> None:
    some = torch.arange(0, 1200, 6)
    for again in (
        loss_sensitivity(digits, some, progress=False),
        el2n(digits, some, progress=False),
    ):
        before = shipped["convnet"][again.name].values[some]
        # Convolutions round by processor and by batch.
        assert again.values == pytest.approx(before, rel=0.02, abs=1e-4)


def test_subsets_trained_again_agree(digits: mv.Study, trainings: SubsetTrainings) -> None:
    again = train_subsets(digits, MLP_RECIPE, trainings=2, progress=False)
    assert torch.equal(again.examples, trainings.examples)
    assert torch.equal(again.inside, trainings.inside[:2])
    assert len(trainings) == TRAININGS
    # Rounding differs by processor and grows in training; most predictions stay.
    for one, other in zip(again.correct, trainings.correct[:2], strict=True):
        assert (one == other).double().mean() > 0.97


def test_captum_agrees_on_the_digits(digits: mv.Study) -> None:
    few = torch.arange(4)
    ours = tracin(digits, 0.1, few, epochs=[60], progress=False)
    captum = tracin(digits, 0.1, few, epochs=[60], engine="captum", progress=False)
    assert captum.values == pytest.approx(ours.values, rel=1e-3)


def test_memorization_agrees_more_with_scores_of_its_own_learner(shipped: dict) -> None:
    known = shipped["mlp"]["memorization"].values
    for name in ("cumulative sample loss", "loss sensitivity", "GraNd"):
        of_mlp, of_convnet = (shipped[network][name].values for network in ("mlp", "convnet"))
        assert spearman(known, of_mlp) > spearman(known, of_convnet) > 0.3


def test_scores_are_written_and_read(tmp_path: Path) -> None:
    null = mv.Null("drawn", np.arange(6.0).reshape(2, 3))
    same = mv.Null("one for all", np.broadcast_to(np.arange(4.0)[:, None], (4, 3)))
    scores = [
        mv.Scores("a", "nats", np.array([1.0, np.nan, 3.0]), examples=np.array([4, 2, 9])),
        mv.Scores("b", "x", np.arange(3.0), examples=np.array([4, 2, 9]), null=null, source="here"),
        mv.Scores("c", "x", np.arange(3.0), examples=np.array([0, 1, 2]), null=same, higher="up"),
    ]
    path = tmp_path / "scores.safetensors"
    write_scores(scores, path, "mine")
    for one, other in zip(scores, read_scores(path, "mine"), strict=True):
        for key in ("name", "measure", "source", "higher"):
            assert getattr(one, key) == getattr(other, key)
        assert one.examples.tolist() == other.examples.tolist()
        assert one.values == pytest.approx(other.values, nan_ok=True)
        assert (one.null is None) == (other.null is None)
        if one.null is not None:
            assert one.null.words == other.null.words
            assert one.null.values == pytest.approx(other.null.values)
    with pytest.raises(ValueError, match="holds scores of 'mine', not of 'yours'"):
        read_scores(path, "yours")
    with pytest.raises(ValueError, match="'a' was given twice"):
        write_scores([scores[0], scores[0]], path)
    units = mv.Scores("effect", "logits", np.ones(1), units=(mv.Unit("fc", 0),))
    with pytest.raises(ValueError, match="'effect' is over units"):
        write_scores([units], path)


def test_altered_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in digit_scores.SHIPPED.iterdir():
        assert file.stat().st_size < 300_000
        data = bytearray(file.read_bytes())
        data[-9] ^= 1
        (tmp_path / file.name).write_bytes(data)
    monkeypatch.setattr(digit_scores, "SHIPPED", tmp_path)
    for network in NETWORKS:
        with pytest.raises(ValueError, match="was altered after it was written"):
            digit_scores.scores(network)
    with pytest.raises(ValueError, match="was altered after it was written"):
        digit_scores.trainings()


def test_the_command_prints_what_ships(capsys: pytest.CaptureFixture[str]) -> None:
    digit_scores.main(["--shipped"])
    printed = capsys.readouterr().out
    for words in ("mean memorization, wrong labels", "split-half", "convnet", "mlp", *NAMES):
        assert words in printed
