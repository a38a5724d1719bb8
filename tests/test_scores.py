"""Scores: a table with its null, the highest rows, and files."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import memviz as mv

UNITS = tuple(mv.Unit("fc", k) for k in range(4))
VALUES = np.array([0.5, np.nan, 2.0, -1.0])


def scores(**more: object) -> mv.Scores:
    arguments = {"name": "demo", "measure": "logits", "values": VALUES, "units": UNITS} | more
    return mv.Scores(**arguments)  # type: ignore[arg-type]


NULL = mv.Null("drawn at random", np.linspace(-1, 1, 400).reshape(100, 4))


def test_order_leaves_out_what_is_not_known() -> None:
    assert scores().order().tolist() == [2, 0, 3]
    assert scores().top(2) == mv.UnitSet.parse("fc:0,2")
    assert scores().top(0) == mv.UnitSet()
    over = scores(units=None, examples=np.array([10, 20, 30, 40]))
    assert over.top(2).tolist() == [30, 10]
    assert scores().top(2, "units") == scores().top(2) and over.top(1, "examples").tolist() == [30]
    with pytest.raises(ValueError, match="these scores are over examples, not over units"):
        over.top(1, "units")


def test_ties_keep_their_order() -> None:
    assert scores(values=np.array([1.0, 2.0, 2.0, 1.0])).order().tolist() == [1, 2, 0, 3]


@pytest.mark.parametrize("k", [-1, 4, 100])
def test_k_has_its_limits(k: int) -> None:
    with pytest.raises(ValueError, match=f"k is {k}; these scores have 3 rows to choose from"):
        scores().top(k)


@pytest.mark.parametrize("which", [{"units": None}, {"examples": np.arange(4)}])
def test_over_units_or_over_examples(which: dict[str, object]) -> None:
    with pytest.raises(
        ValueError, match="over units or over examples, and .* were given; give exactly one of them"
    ):
        scores(**which)


def test_one_value_a_row() -> None:
    with pytest.raises(
        ValueError, match=r"values has shape \(3,\) for 4 rows; give one value per row"
    ):
        scores(values=np.zeros(3))


def test_the_null() -> None:
    low, high = NULL.interval
    assert low == pytest.approx(np.percentile(NULL.values, 2.5, axis=0))
    assert high == pytest.approx(np.percentile(NULL.values, 97.5, axis=0))
    assert NULL.mean == pytest.approx(NULL.values.mean(0))
    frame = scores(null=NULL).frame
    assert frame.null_low.to_numpy() == pytest.approx(low)
    assert frame.null_mean.to_numpy() == pytest.approx(NULL.mean)


def test_the_frame() -> None:
    frame = scores(exact=np.array([True, False, True, True]), source="a paper, 3").frame
    assert list(frame.columns) == ["layer", "unit", "value", "exact"]
    assert frame.unit.tolist() == [0, 1, 2, 3] and frame.exact.tolist() == [True, False, True, True]
    assert frame.attrs == {"name": "demo", "measure": "logits", "source": "a paper, 3"}
    over = scores(units=None, examples=np.array([7, 8, 9, 10])).frame
    assert over.example.tolist() == [7, 8, 9, 10] and over.exact.all()


def test_files(tmp_path: Path) -> None:
    found = scores(null=NULL, source="a paper, 3")
    found.to_csv(tmp_path / "scores.csv")
    found.to_parquet(tmp_path / "scores.parquet")
    for again in (
        pd.read_csv(tmp_path / "scores.csv"),
        pd.read_parquet(tmp_path / "scores.parquet"),
    ):
        assert list(again.columns) == list(found.frame.columns)
        assert again.value.to_numpy() == pytest.approx(found.values, nan_ok=True)
    assert pd.read_parquet(tmp_path / "scores.parquet").attrs["source"] == "a paper, 3"


def test_in_words() -> None:
    text = repr(scores(null=NULL, exact=np.array([True, True, False, True]), source="a paper, 3"))
    assert "demo of 4 units, in logits; higher: more memorized" in text
    assert "estimate" in next(line for line in text.splitlines() if "fc:2" in line)
    assert "null: drawn at random" in text and "source: a paper, 3" in text
    assert "null: none is defined" in repr(scores())


def test_a_null_of_one_value_is_told_once() -> None:
    one = mv.Null("held out", np.array([[0.1061, -0.5, 0.25, 2.0]]))
    same = mv.Null("held out", np.full((3, 4), 0.1))
    low, high = (end[2] for end in NULL.interval)
    several = f"null {low:.4f} to {high:.4f}"
    for null, words in ((one, "null 0.2500"), (same, "null 0.1000"), (NULL, several)):
        text = repr(scores(null=null))
        line = next(line for line in text.splitlines() if "fc:2" in line)
        assert line.endswith(f"  {words}")
        assert f"<td>{words}</td>" in scores(null=null)._repr_html_()


def test_words_of_others_stay_text() -> None:
    bad = "<img src=x onerror=alert(1)>"
    null = mv.Null(bad, NULL.values)
    html = scores(
        name=bad,
        measure=bad,
        higher=bad,
        source=bad,
        null=null,
        units=(mv.Unit(bad, 0), *UNITS[1:]),
    )._repr_html_()
    assert "<img" not in html and html.count("&lt;img") >= 5
