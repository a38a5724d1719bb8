"""Scores: a table with its null, the highest rows, and files."""

from importlib import import_module
from inspect import unwrap
from pathlib import Path
from pkgutil import walk_packages
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

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
    with pytest.raises(ValueError, match="these scores are over examples, not over 'units'"):
        over.top(1, "units")


def test_ties_are_ordered_by_unit() -> None:
    assert scores(values=np.array([1.0, 2.0, 2.0, 1.0])).order().tolist() == [1, 2, 0, 3]
    units = ("conv10:0", "conv2:5", "conv2:11", "a:7")
    assert scores(units=units, values=np.zeros(4)).order().tolist() == [3, 1, 2, 0]


@given(st.permutations(range(12)), st.lists(st.integers(0, 2), min_size=12, max_size=12))
def test_the_order_of_rows_makes_no_difference(order: list[int], values: list[int]) -> None:
    rows = np.array(order)
    for over in (
        {"examples": np.arange(12) * 3, "units": None},
        {"units": [mv.Unit(f"l{k % 3}.{k % 11}", k) for k in range(12)]},
    ):
        shuffled = {
            key: None if column is None else [column[row] for row in rows]
            for key, column in over.items()
        }
        plain = scores(**over, values=values)
        mixed = scores(**shuffled, values=np.array(values, float)[rows])
        assert (rows[mixed.order()] == plain.order()).all()
        assert all(np.array_equal(mixed.top(k), plain.top(k)) for k in range(13))  # type: ignore[arg-type]


ROWS = [0.5, float("nan"), 2.0, -1.0]


@pytest.mark.parametrize(
    "values",
    [
        *(ROWS, tuple(ROWS), torch.tensor(ROWS), torch.tensor(ROWS, dtype=torch.bfloat16)),
        *(torch.tensor(ROWS, requires_grad=True), pd.Series(ROWS, index=list("abcd"))),
        *(np.array(ROWS, np.float32), [np.float32(v) for v in ROWS]),
    ],
)
@pytest.mark.parametrize(
    "examples",
    [
        *(
            [7, 8, 9, 30],
            range(7, 11),
            torch.tensor([7, 8, 9, 10]),
            np.arange(7, 11, dtype=np.uint8),
        ),
        *(pd.Series([7, 8, 9, 10]), np.arange(40) % 10 == 7, [False, True] * 4),
        torch.tensor([1, 2, 3, 4], dtype=torch.int16),
    ],
)
def test_columns_of_every_kind(values: Any, examples: Any) -> None:
    made = scores(values=values, units=None, examples=examples, exact=[True, True, False, True])
    assert made.values == pytest.approx(ROWS, nan_ok=True) and made.values.dtype.kind == "f"
    assert made.examples is not None and made.examples.dtype.kind == "i"
    assert made.top(2).tolist() == made.examples[[0, 3]].tolist() and "demo of 4" in repr(made)


def test_whole_numbers_and_texts_of_units() -> None:
    made = scores(values=[3, 1, 2, 0], units=["fc:0", "fc:1", '"my layer":2', mv.Unit("fc", 3)])
    assert made.top(2) == mv.UnitSet.parse('fc:0 "my layer":2')
    made = scores(values=[3, 1], units="fc:0,1", null=mv.Null("two draws", [[1, 2], [3, 4]]))  # type: ignore[arg-type]
    assert made.null is not None and made.null.mean.tolist() == [2, 3]
    assert len(scores(values=[], units=None, examples=[])) == 0


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"values": ["a"] * 4}, "values holds str, not numbers; give numbers, one per row"),
        ({"values": 3.0}, "values is 3.0, not numbers"),
        ({"values": None}, "values is None, not numbers"),
        ({"values": np.zeros((4, 1))}, r"values has shape \(4, 1\) for 4 rows"),
        ({"examples": [0.5] * 4}, "examples is torch.float64 of shape .4,.; give indices"),
        ({"examples": [[0, 1], [2, 3]]}, "examples is torch.int64 of shape .2, 2."),
        ({"examples": [0, 1, 2, -1]}, "examples names -1; indices are counted from 0"),
        ({"examples": "0123"}, "examples is '0123', not numbers; give indices"),
        ({"units": [1, 2, 3, 4]}, "expected units, got 1; give text"),
        ({"units": ["fc", "a", "b", "c"]}, "'fc' is not a set of units"),
        ({"exact": [1, 0, 1, 1]}, "exact is int64 of shape .4,.; give True or False per row"),
        ({"exact": [True]}, "exact is bool of shape .1,.; give True or False"),
        ({"null": [0.0] * 4}, "the null is .*; give mv.Null.words, values., or leave it out"),
        ({"units": torch.tensor(3)}, "expected units, got 3; give text"),
        ({"null": mv.Null("short", np.zeros((3, 2)))}, "the null has 2 columns for 4 rows"),
    ],
)
def test_wrong_columns(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=words):
        scores(**({"units": None} | wrong if "examples" in wrong else wrong))


def test_a_null_is_a_table() -> None:
    with pytest.raises(ValueError, match=r"the values of the null have shape \(2,\); give one row"):
        mv.Null("flat", [0.0, 1.0])  # type: ignore[arg-type]


@pytest.mark.parametrize("k", [1.5, "1", None, True, [1]])
def test_k_is_a_whole_number(k: Any) -> None:
    for ask in (scores().top, scores().plot):
        with pytest.raises(ValueError, match="k is .*; give a whole number"):
            ask(k)
    with pytest.raises(ValueError, match="k is 0; plot at least 1 row"):
        scores().plot(0)
    assert scores().top(np.int64(1)) == mv.UnitSet.parse("fc:2")  # type: ignore[call-overload]


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


def test_a_compressed_table(tmp_path: Path) -> None:
    scores().to_csv(tmp_path / "scores.csv.gz")
    assert (tmp_path / "scores.csv.gz").read_bytes()[:2] == b"\x1f\x8b"
    assert len(pd.read_csv(tmp_path / "scores.csv.gz")) == 4


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_failed_export_keeps_the_old_file(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"scores.{kind}"
    write = getattr(scores(), f"to_{kind}")
    write(path)
    before = path.read_bytes()

    def fail(self: pd.DataFrame, part: Path, **_: Any) -> None:
        part.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, f"to_{kind}", fail)
    with pytest.raises(OSError, match=f"scores.{kind}' can't be written: No space left on device"):
        write(path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    with pytest.raises(FileNotFoundError, match="there is no folder .* make it first"):
        write(tmp_path / "none" / "scores")
    with pytest.raises(ValueError, match="is a folder, not a file; name a file"):
        write(tmp_path)


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


def test_no_kind_of_scores_shows_its_tables_in_full() -> None:
    for module in walk_packages(mv.__path__, "memviz."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    kinds: list[type[mv.Scores]] = [mv.Scores]
    for kind in kinds:
        kinds += kind.__subclasses__()
        if kind.__module__.startswith("memviz"):  # what dataclass writes lists every field
            assert unwrap(kind.__repr__).__code__.co_filename != "<string>", kind
    assert len(kinds) > 5
