"""The table holds what each score says; AUROC and correlations equal slow ones; figures draw."""

from pathlib import Path

import matplotlib.style
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score
from torch import nn

import memviz as mv
from memviz.probes.examples import (
    agreement,
    auroc,
    example_table,
    rank_correlations,
    subsampled_memorization,
)
from memviz.probes.examples import figures as plots
from memviz.statistics import spearman
from memviz.training.subsets import SubsetTrainings

N = 60
ODD = r"$\frac{ <b>"


@pytest.fixture
def study() -> mv.Study:
    true = torch.arange(N) % 3
    labels = true.clone()
    labels[:6] = (true[:6] + 1) % 3
    groups = {"memorized": range(6), "clean": range(6, 50), "test": range(50, N)}
    return mv.Study(nn.Linear(2, 3).eval(), torch.zeros(N, 2), labels, groups, true_labels=true)


def score(name: str, values: np.ndarray, examples: np.ndarray | None = None) -> mv.Scores:
    examples = np.arange(len(values)) if examples is None else examples
    null = mv.Null("shuffled", np.zeros((3, len(values))))
    return mv.Scores(name, "nats", values, examples=examples, source="here", null=null)


def trainings() -> SubsetTrainings:
    generator = torch.Generator().manual_seed(0)
    inside = torch.rand(40, 50, generator=generator) < 0.7
    correct = torch.ones(40, N, dtype=torch.bool)
    correct[:, :6] = inside[:, :6]
    return SubsetTrainings(torch.arange(50), inside, correct)


def test_one_row_an_example_with_what_is_known(study: mv.Study, tmp_path: Path) -> None:
    known = subsampled_memorization(trainings())
    later = score("loss", np.arange(5.0), np.array([52, 3, 0, 10, 59]))
    frame = example_table(study, [known, later])
    assert frame.index.tolist() == [*range(50), 52, 59]
    assert list(frame) == [
        *("given label", "true label", "group", "memorization"),
        *("memorization, standard error", "loss"),
    ]
    assert frame.loc[0].tolist()[:3] == [1, 0, "memorized"]
    assert frame.loc[52, "group"] == "test"
    assert frame.loc[[52, 3, 0, 10, 59], "loss"].tolist() == [0, 1, 2, 3, 4]
    assert frame["loss"].isna().sum() == len(frame) - 5
    assert frame.loc[:5, "memorization"].tolist() == [1] * 6
    assert frame.attrs["loss"] == {
        "measure": "nats",
        "higher": "more memorized",
        "source": "here",
        "null": "shuffled",
    }
    frame.to_parquet(tmp_path / "a.parquet")
    frame.to_csv(tmp_path / "a.csv")
    again = pd.read_parquet(tmp_path / "a.parquet")
    pd.testing.assert_frame_equal(again, frame)
    assert again.attrs == frame.attrs
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "a.csv", index_col=0), frame, check_dtype=False
    )


def test_without_true_labels_there_is_no_such_column(study: mv.Study) -> None:
    study.true_labels = None
    assert "true label" not in example_table(study, [score("loss", np.arange(3.0))])
    tables = rank_correlations(study, [score("loss", np.arange(60.0))])
    assert list(tables) == ["all examples", "clean examples"]
    with pytest.raises(ValueError, match="no true_labels"):
        agreement(study, [score("loss", np.arange(3.0))])
    study.groups = {"test": torch.ones(N, dtype=torch.bool)}
    assert list(rank_correlations(study, [score("loss", np.arange(60.0))])) == ["all examples"]


VALUES = st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=25)


@given(VALUES)
def test_auroc_counts_pairs(rows: list[tuple[int, bool]]) -> None:
    values, planted = np.array([v for v, _ in rows], float), np.array([p for _, p in rows])
    wins = [
        1.0 if a > b else 0.5 if a == b else 0.0 for a, p in rows for b, q in rows if p and not q
    ]
    found = auroc(values, planted)
    if not wins:
        assert np.isnan(found)
        return
    assert found == pytest.approx(np.mean(wins))
    assert found == pytest.approx(roc_auc_score(planted, values))
    assert auroc(-values, planted) == pytest.approx(1 - found)
    with_unknown = np.append(values, np.nan), np.append(planted, True)
    assert auroc(*with_unknown) == pytest.approx(found)


def test_agreement_finds_what_was_planted(study: mv.Study) -> None:
    rng = np.random.default_rng(0)
    wrong = (study.labels != study.true_labels).numpy()
    # Ten standard deviations above, nothing, the reverse, and half of the examples only.
    good = score("good", rng.normal(size=N) + 10 * wrong)
    nothing = score("nothing", rng.normal(size=N))
    worst = score("worst", -good.values)
    some = score("some", good.values[::2], np.arange(0, N, 2))
    frame = agreement(study, [nothing, some, worst, good], reference="good")
    assert frame.loc[["good", "some", "worst"], "auroc"].tolist() == [1, 1, 0]
    assert frame["auroc"].is_monotonic_decreasing
    assert frame.loc["some", "examples"] == 30
    row = frame.loc["nothing"]
    assert row["null low"] <= row["auroc"] <= row["null high"]
    assert row["low"] < row["auroc"] < row["high"]
    assert 0.1 < row["null high"] - 0.5 < 0.35
    assert frame.loc["good", "rank correlation"] == pytest.approx(1)
    clean = spearmanr(good.values[~wrong], nothing.values[~wrong]).statistic
    assert row["clean rank correlation"] == pytest.approx(clean)
    given_mask = agreement(study, [good], torch.from_numpy(wrong))
    given_ids = agreement(study, [good], torch.from_numpy(wrong).nonzero()[:, 0])
    pd.testing.assert_frame_equal(given_mask, given_ids)
    pd.testing.assert_frame_equal(given_mask, agreement(study, [good]))


def test_rank_correlations_are_scipys_on_all_and_on_clean_ones(study: mv.Study) -> None:
    rng = np.random.default_rng(0)
    wrong = (study.labels != study.true_labels).numpy()
    # Wrong labels lift both scores; on the clean ones they disagree.
    base = rng.normal(size=N)
    one, two = score("one", base + 20 * wrong), score("two", -base + 20 * wrong)
    tables = rank_correlations(study, [one, two])
    expected = spearmanr(one.values, two.values).statistic
    assert tables["all examples"].loc["one", "two"] == pytest.approx(expected)
    assert tables["clean examples"].loc["one", "two"] == pytest.approx(-1)
    assert spearman(one.values, np.ones(N)) != spearman(one.values, np.ones(N))  # NaN: no ranks


def test_bad_scores_get_one_sentence(study: mv.Study) -> None:
    loss = score("loss", np.arange(3.0))
    with pytest.raises(ValueError, match="scores is empty"):
        example_table(study, [])
    with pytest.raises(ValueError, match="two scores have the name 'loss'"):
        example_table(study, [loss, loss])
    with pytest.raises(ValueError, match="contains an example twice or one outside"):
        example_table(study, [score("loss", np.arange(2.0), np.array([1, 1]))])
    with pytest.raises(ValueError, match="contains an example twice or one outside"):
        example_table(study, [score("loss", np.arange(1.0), np.array([N]))])
    units = mv.Scores("effect", "logits", np.ones(1), units=(mv.Unit("fc", 0),))
    with pytest.raises(ValueError, match="'effect' is over units"):
        example_table(study, [units])
    with pytest.raises(ValueError, match="'effect' is over units"):
        plots.distribution(units, study)
    with pytest.raises(ValueError, match="reference 'depth' is not among the scores"):
        agreement(study, [loss], reference="depth")
    with pytest.raises(ValueError, match="planted is torch.float32"):
        agreement(study, [loss], torch.rand(N))
    with pytest.raises(ValueError, match="no table to draw"):
        plots.rank_correlations({})


@pytest.mark.parametrize("look", ["default", "dark_background"])
def test_figures_draw(study: mv.Study, tmp_path: Path, look: str) -> None:
    rng = np.random.default_rng(0)
    scores = [score(name, rng.normal(size=N)) for name in ("one", ODD, "three")]
    scores.append(score("constant", np.ones(N)))  # has no ranks
    tables = rank_correlations(study, scores)
    with matplotlib.style.context(look):
        figures = [
            plots.rank_correlations(tables),
            plots.agreement(agreement(study, scores[:3])),
            plots.distribution(scores[1], study),
        ]
        for number, figure in enumerate(figures):
            figure.savefig(tmp_path / f"{number}.png")
            figure.savefig(tmp_path / f"{number}.svg")
    texts = [text.get_text() for text in figures[0].axes[0].texts]
    assert len(texts) == 9  # none where there is no correlation
    assert texts[0] == "1.00"
    assert texts[1] == plots._short(tables["all examples"].iloc[0, 1])
    assert [axes.get_title(loc="left") for axes in figures[0].axes[:2]] == list(tables)
    maps = {"default": "vlag", "dark_background": "icefire"}
    assert figures[0].axes[0].collections[0].get_cmap().name == maps[look]
    assert len(figures[2].axes) == 3


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, ".50"), (-0.25, "-.25"), (1.0, "1.00"), (np.nan, "–"), (0.0, ".00")]
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert plots._short(value) == text
