"""Figures of capacity draw what the tables say, and refuse other tables."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from memviz.probes.capacity import figures, units_by_points


def lines(figure) -> dict[str, object]:
    return {line.get_label(): line for line in figure.axes[0].get_lines()}


def test_each_line_says_what_it_is_and_is_drawn_so():
    counts = units_by_points([10, 100, 1000], 10)
    columns = ["points", "units", "train", "reached", "label"]
    trained = [(10, 10, 1.0, True, "measured"), (1000, 512, 0.9, False, "measured")]
    drawn = lines(figures.units_needed(counts, pd.DataFrame(trained, columns=columns)))
    assert len(drawn) == 8 + 2
    for label, line in drawn.items():
        if label.startswith(("trained", "measured")):
            assert line.get_linestyle() == "None"
            continue
        expected = "--" if "necessary" in label else "-" if "theorem" in label else ":"
        assert line.get_linestyle() == expected
    zhang = next(line for label, line in drawn.items() if label.startswith("Zhang"))
    assert list(zhang.get_ydata()) == [10, 100, 1000]
    axes = figures.units_needed(counts).axes[0]
    assert axes.get_xscale() == axes.get_yscale() == "log"


def test_precision_marks_where_signs_flip():
    table = pd.DataFrame(
        {"float64": [1e-9, 1e-7], "float32": [0.1, 2.4], "largest_weight": [1e4, 1e8]}
        | {"signs": [1.0, 0.97]},
        index=[100, 2500],
    )
    words = [text.get_text() for text in figures.precision_lost(table).axes[0].texts]
    assert "0.970 right" in words and not any(word.startswith("1.000") for word in words)


def test_accuracies_show_the_null_and_the_covered_share():
    table = pd.DataFrame(
        {"train": [1.0, 1.0], "test": [0.5, 0.9], "random_test": [0.5, 0.49]}, index=["yun", "yu"]
    )
    drawn = lines(figures.accuracies(table, covered=0.7))
    assert list(drawn["test, labels shuffled"].get_xdata()) == [0.5, 0.49]
    ticks = figures.accuracies(table).axes[0].get_yticklabels()
    assert [tick.get_text() for tick in ticks] == ["Yun, hard-tanh", "certified"]
    mark = drawn["covered by certified balls"]
    assert (list(mark.get_xdata()), list(mark.get_ydata())) == ([0.7], [1])
    assert "covered by certified balls" not in lines(figures.accuracies(table[:1], covered=0.7))


@pytest.mark.parametrize(
    ("draw", "sentence"),
    [
        (lambda: figures.units_needed(3), "counts lacks method, points, units, label; give"),
        (lambda: figures.precision_lost(pd.DataFrame({"float64": [1.0]})), "lacks float32"),
        (lambda: figures.accuracies(pd.DataFrame({"train": [], "test": []})), "has no rows"),
        (
            lambda: figures.by_first_width(pd.DataFrame(), 2),
            "table of memviz.probes.capacity.width",
        ),
        (lambda: figures.clusters_met(None), "table lacks test, covered"),
    ],
)
def test_another_table_gets_one_sentence(draw, sentence: str):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        draw()
