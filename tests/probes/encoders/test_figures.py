"""Figures of encoders: lines are what was found, and nobody's text is taken for markup."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from memviz.probes.encoders import figures as plots
from memviz.probes.encoders.experiments import Pruning
from memviz.probes.encoders.layers import LayerMem, Point
from memviz.scores import Scores
from memviz.units import Unit

ODD = r"$\frac{ <img src=x> _a_"


def drawn(figure: Figure) -> Figure:
    figure.canvas.draw()
    return figure


def layers(pairs: int) -> LayerMem:
    generator = np.random.default_rng(0)
    path = (Point(ODD, "conv", 0), Point("b", "conv", 1, ODD), Point("b+", "join", 2, "b"))
    values = {name: generator.normal(size=(pairs, 3)) for name in ("S_S", "S_C", "S_I", "S_E")}
    return LayerMem(path, values, {name: abs(v) for name, v in values.items()})


@pytest.mark.parametrize("pairs", [1, 3])
def test_layer_mem_draws_means_and_gaps(pairs: int) -> None:
    found = layers(pairs)
    levels, gaps = drawn(found.plot()).axes
    assert len(levels.containers) == 4 and len(gaps.containers) == 3
    candidates = levels.containers[1].lines[0].get_ydata()
    np.testing.assert_allclose(candidates, found.mean("S_C"))
    np.testing.assert_allclose(gaps.containers[0].lines[0].get_ydata(), found.gap("S_S").mean(0))
    opened = [line for line in levels.lines if line.get_markerfacecolor() == "white"]
    assert [line.get_xdata().tolist() for line in opened] == [[2]] * 4  # the join
    assert [text.get_text() for text in levels.get_xticklabels()] == [ODD, "b", "b+"]


def test_units_against_classes_leaves_dead_units_out() -> None:
    units = (Unit(ODD, 0), Unit(ODD, 1), Unit("b", 0))
    one = Scores("UnitMem", "", np.array([0.1, np.nan, 0.3]), units=units)
    other = Scores("ClassMem", "", np.array([0.5, np.nan, 0.7]), units=units)
    axes = drawn(plots.unit_against_class(one, other, title=ODD)).axes[0]
    marks = [line for line in axes.lines if line.get_marker() not in ("None", "")]
    np.testing.assert_allclose(marks[0].get_xdata(), [0.5, np.nan])
    np.testing.assert_allclose(marks[1].get_ydata(), [0.3])
    assert axes.get_xlabel() == "ClassMem" and axes.get_ylabel() == "UnitMem"
    with pytest.raises(ValueError, match="over other units"):
        plots.unit_against_class(one, Scores("x", "", np.ones(1), units=units[:1]))


def test_pruning_starts_at_the_whole_network() -> None:
    rows = [(0.0, "none", 0.9, 0.9, 0.9), (0.1, "top", 0.5, 0.5, 0.5),
            (0.1, "random", 0.7, 0.6, 0.8), (0.1, "low", 0.85, 0.85, 0.85)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["share", "choice", "accuracy", "least", "largest"])
    axes = drawn(Pruning(ODD, table).plot()).axes[0]
    found = {c.get_label(): c.lines[0].get_ydata().tolist() for c in axes.containers}
    assert found == {"top": [0.9, 0.5], "random": [0.9, 0.7], "low": [0.9, 0.85]}
