"""Figures: they build, estimates look different, and nobody's text is taken for markup."""

from pathlib import Path

import matplotlib.colors
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

import memviz as mv
from memviz import plots
from memviz.engine.curve import AblationCurve

UNITS = tuple(mv.Unit("fc", k) for k in range(5))
VALUES = np.array([0.1, 0.9, np.nan, 0.5, -0.2])
NULL = mv.Null("drawn at random", np.random.default_rng(0).normal(size=(50, 5)))
ODD = [r"$\frac{", "a$b$c", "<img src=x onerror=alert(1)>", "\\alpha_{", "$", "名前"]


def written(figure: Figure, folder: Path) -> str:
    """Draw it for real, as a picture and as text."""
    figure.savefig(folder / "figure.png")
    figure.savefig(folder / "figure.svg")
    assert (folder / "figure.png").stat().st_size > 1000
    return (folder / "figure.svg").read_text()


def curve(name: str = "effect", groups: tuple[str, ...] = ("memorized", "clean")) -> AblationCurve:
    rng = np.random.default_rng(0)
    counts = [0, 1, 4]
    return AblationCurve(
        counts, list(groups), rng.random((3, len(groups))), rng.random((5, 3, len(groups))), name
    )


def test_the_highest_scores(tmp_path: Path) -> None:
    figure = plots.scores(mv.Scores("demo", "logits", VALUES, units=UNITS, null=NULL), k=3)
    (axes,) = figure.axes
    bars = axes.containers[0]
    assert [bar.get_height() for bar in bars] == [0.9, 0.5, 0.1]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["fc:1", "fc:3", "fc:0"]
    assert axes.get_title(loc="left") == "demo: the 3 highest"
    assert "drawn at random" in axes.get_legend().get_texts()[0].get_text()
    written(figure, tmp_path)


def test_the_nulls_interval_is_where_it_belongs() -> None:
    figure = mv.Scores("demo", "logits", VALUES, units=UNITS, null=NULL).plot(2)
    lines = figure.axes[0].collections[0].get_segments()
    low, high = NULL.interval
    for segment, row in zip(lines, [1, 3], strict=True):
        assert segment[:, 1] == pytest.approx([low[row], high[row]])


def test_estimates_are_hatched() -> None:
    exact = np.array([True, False, True, True, True])
    figure = plots.scores(mv.Scores("demo", "logits", VALUES, units=UNITS, exact=exact))
    bars = list(figure.axes[0].containers[0])
    assert [bool(bar.get_hatch()) for bar in bars] == [True, False, False, False]
    clear, filled = (matplotlib.colors.to_rgba(bar.get_facecolor())[3] for bar in bars[:2])
    assert clear == 0 and filled == 1


def test_scores_of_examples_and_of_nothing(tmp_path: Path) -> None:
    scores = mv.Scores("demo", "logits", VALUES, examples=np.array([10, 20, 30, 40, 50]))
    labels = plots.scores(scores).axes[0].get_xticklabels()
    assert [label.get_text() for label in labels] == ["20", "40", "10", "50"]
    unknown = mv.Scores("demo", "logits", np.full(5, np.nan), units=UNITS, null=NULL)
    written(plots.scores(unknown), tmp_path)


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.filterwarnings("ignore:Glyph:UserWarning")
def test_odd_names_are_drawn_as_they_are(odd: str, tmp_path: Path) -> None:
    units = (mv.Unit(odd, 0), *UNITS[1:])
    null = mv.Null(odd, NULL.values)
    scores = mv.Scores(odd, odd, VALUES, units=units, null=null)
    assert "<img" not in written(plots.scores(scores), tmp_path)
    assert "<img" not in written(plots.ablation_curve(curve(odd, (odd, "clean"))), tmp_path)


def test_an_ablation_curve(tmp_path: Path) -> None:
    one = curve()
    figure = plots.ablation_curve(one)
    (axes,) = figure.axes
    by_label = {line.get_label(): line for line in axes.lines}
    assert by_label["memorized"].get_ydata() == pytest.approx(one.chosen[:, 0])
    assert by_label["clean"].get_ydata() == pytest.approx(one.chosen[:, 1])
    dashed = [line for line in axes.lines if line.get_linestyle() == "--" and len(line.get_xdata())]
    assert dashed[0].get_ydata() == pytest.approx(one.random_mean[:, 0])
    assert {t.get_text() for t in axes.get_legend().get_texts()} >= {"as many random units"}
    written(figure, tmp_path)


def test_several_curves_are_averaged() -> None:
    one, two = curve(), curve()
    two.chosen = 1 - one.chosen
    figure = plots.ablation_curves([one, two])
    by_label = {line.get_label(): line for line in figure.axes[0].lines}
    assert by_label["clean"].get_ydata() == pytest.approx(np.full(3, 0.5))
    with pytest.raises(ValueError, match="the curves differ in counts or groups; draw them one by"):
        plots.ablation_curves([one, curve(groups=("memorized", "test"))])


@pytest.mark.parametrize("odd", ["fc", "a$b$c"])
def test_the_still_picture(odd: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential()
    model.add_module(odd, nn.Linear(4, 7))
    model.add_module("act", nn.ReLU())
    model.add_module("head", nn.Linear(7, 3))
    groups = {"memorized": range(2), "clean": range(2, 6), "$odd": range(6, 8)}
    study = mv.Study(model.eval(), torch.randn(8, 4), torch.arange(8) % 3, groups)
    scores = mv.sweep(study, progress=False).scores()
    layers = [layer for layer in mv.layers(study) if not layer.is_output]
    off = np.arange(7) == 2
    for units in (f"{odd}:2", ""):
        found = mv.readout(study, units, random_draws=2)
        figure = plots.picture(layers, scores.values, off, found)
        assert f"{odd} · 7" in figure.axes[0].get_title(loc="left")
        written(figure, tmp_path)
    crosses = figure.axes[0].lines[0].get_xydata()
    assert crosses.tolist() == [[2, 0]]
    written(plots.picture(layers, np.full(7, np.nan), off, found), tmp_path)
