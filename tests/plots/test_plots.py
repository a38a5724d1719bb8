"""Figures: they build, estimates look different, and nobody's text is taken for markup."""

import io
from pathlib import Path

import matplotlib.colors
import matplotlib.style
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import nn

import memviz as mv
from memviz import plots
from memviz.engine.sets import AblationCurve
from memviz.engine.sweep import Effects
from memviz.plots import style

UNITS = tuple(mv.Unit("fc", k) for k in range(5))
VALUES = np.array([0.1, 0.9, np.nan, 0.5, -0.2])
NULL = mv.Null("drawn at random", np.random.default_rng(0).normal(size=(50, 5)))
ODD = [r"$\frac{", r"$\frac{$", "a$b$c", "<img src=x onerror=alert(1)>", "\\alpha_{", "$", "名前"]


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
    figure = mv.Scores("demo", "logits", VALUES, units=UNITS, null=NULL).plot(k=3)
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
    figure = mv.Scores("demo", "logits", VALUES, units=UNITS, exact=exact).plot()
    bars = list(figure.axes[0].containers[0])
    assert [bool(bar.get_hatch()) for bar in bars] == [True, False, False, False]
    clear, filled = (matplotlib.colors.to_rgba(bar.get_facecolor())[3] for bar in bars[:2])
    assert clear == 0 and filled == 1


def test_scores_of_examples_and_of_nothing(tmp_path: Path) -> None:
    scores = mv.Scores("demo", "logits", VALUES, examples=np.array([10, 20, 30, 40, 50]))
    labels = scores.plot().axes[0].get_xticklabels()
    assert [label.get_text() for label in labels] == ["20", "40", "10", "50"]
    unknown = mv.Scores("demo", "logits", np.full(5, np.nan), units=UNITS, null=NULL)
    written(unknown.plot(), tmp_path)


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.filterwarnings("ignore:Glyph:UserWarning")
def test_odd_names_are_drawn_as_they_are(odd: str, tmp_path: Path) -> None:
    units = (mv.Unit(odd, 0), *UNITS[1:])
    null = mv.Null(odd, NULL.values)
    scores = mv.Scores(odd, odd, VALUES, units=units, null=null)
    assert "<img" not in written(scores.plot(), tmp_path)
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


def effects_of(table: np.ndarray, groups: dict[str, range]) -> Effects:
    """Effects with a given margin change, on as many units of two layers."""
    units, count = table.shape
    model = nn.Sequential(nn.Linear(2, 3)).eval()
    study = mv.Study(model, torch.zeros(count, 2), torch.zeros(count), groups)
    names = [mv.Unit("a$b$c" if k % 2 else "fc", k) for k in range(units)]
    outputs = torch.zeros(count, 3)
    found = Effects.empty(study, tuple(names), torch.arange(count), "zero", "replay", outputs)
    found.margin_change = torch.tensor(table, dtype=torch.float32)
    found.loss_change, found.done[:] = -found.margin_change, True
    return found


def planted_blocks() -> tuple[Effects, np.ndarray, np.ndarray]:
    """Three kinds of units for three kinds of examples, shuffled; what kind each is."""
    rng = np.random.default_rng(0)
    kind_of_unit, kind_of_example = rng.permutation(30) % 3, rng.permutation(48) % 3
    table = -1.0 * (kind_of_unit[:, None] == kind_of_example) + 0.05 * rng.normal(size=(30, 48))
    groups = {"memorized": range(10), "clean": range(10, 40), "$odd": range(40, 46)}
    return effects_of(table, groups), kind_of_unit, kind_of_example


def places(axes: Axes, along: int) -> list[list[int]]:
    """Places of the marks in each lane."""
    return [
        [int(path.vertices[:, along].mean().round()) for path in lane.get_paths()]
        for lane in axes.collections
    ]


def test_the_atlas_puts_planted_blocks_together(tmp_path: Path) -> None:
    effects, kind_of_unit, kind_of_example = planted_blocks()
    figure = effects.atlas()
    heat = next(axes for axes in figure.axes if axes.images)
    rows = [label.get_text() for label in figure.axes[5].get_yticklabels()]
    columns = [int(label.get_text()) for label in heat.get_xticklabels()]
    units = [int(text.split(":")[1]) for text in rows]
    for kinds, order in ((kind_of_unit, units), (kind_of_example, columns)):
        assert sorted(order) == list(range(len(kinds)))
        assert (np.diff(kinds[order]) != 0).sum() == 2  # each kind stands in one piece
    cells = np.asarray(heat.images[0].get_array())
    wanted = -effects.margin_change.numpy()[units][:, columns]
    assert cells == pytest.approx(wanted)
    by_example, by_unit = figure.axes[2].patches[0], figure.axes[6].patches[0]
    assert by_example.get_data().values == pytest.approx(wanted.mean(0))
    assert by_unit.get_data().values == pytest.approx(wanted.mean(1))
    limit = heat.images[0].get_clim()
    assert limit[0] == -limit[1]
    text = written(figure, tmp_path)
    assert "a$b$c" in text and "logits of margin lost" in text


def test_the_atlas_says_which_group_and_layer_each_is_in() -> None:
    effects, _, _ = planted_blocks()
    figure = effects.atlas()
    heat = next(axes for axes in figure.axes if axes.images)
    columns = np.array([int(label.get_text()) for label in heat.get_xticklabels()])
    groups, layers = figure.axes[3], figure.axes[5]
    names = [label.get_text() for label in groups.get_yticklabels()]
    assert names == ["memorized · 10", "clean · 30", "$odd · 6"]
    wanted = [range(10), range(10, 40), range(40, 46)]
    for found, members in zip(places(groups, 0), wanted, strict=True):
        assert sorted(columns[found]) == list(members)
    units = [label.get_text() for label in layers.get_yticklabels()]
    assert [label.get_text() for label in layers.texts] == ["fc · 15", "a$b$c · 15"]
    for found, name in zip(places(layers, 1), ["fc", "a$b$c"], strict=True):
        assert found == [k for k, unit in enumerate(units) if unit.startswith(name + ":")]


def test_the_atlas_keeps_the_largest_and_says_so() -> None:
    effects, _, _ = planted_blocks()
    effects.margin_change[[3, 8]] = -3.0
    effects.margin_change[:, [2, 20, 21, 43, 47]] *= 10
    figure = effects.atlas(2, 8)
    heat = next(axes for axes in figure.axes if axes.images)
    columns = {int(label.get_text()) for label in heat.get_xticklabels()}
    assert {2, 20, 21, 43, 47} <= columns and len(columns) == 8
    inside = [sum(c in members for c in columns) for members in (range(10), range(10, 40))]
    assert inside == [2, 2]  # an equal share of each group, and of what is in none
    units = {label.get_text() for label in figure.axes[5].get_yticklabels()}
    assert units == {"a$b$c:3", "fc:8"}
    title = figure.get_suptitle()
    assert "2 of 30 units × 8 of 48 examples" in title and "groups in equal shares" in title
    assert "all 30 units × all 48 examples" in effects.atlas().get_suptitle()


def test_estimated_units_are_hatched_in_the_atlas() -> None:
    effects, _, _ = planted_blocks()
    effects.done[[4, 11]] = False  # still estimates
    effects.done[9], effects.margin_change[9] = False, torch.nan  # nothing known
    figure = effects.atlas()
    heat = next(axes for axes in figure.axes if axes.images)
    units = [label.get_text() for label in figure.axes[5].get_yticklabels()]
    hatched = [patch for patch in heat.patches if patch.get_hatch()]
    assert {units[round(p.get_y() + 0.5)] for p in hatched} == {"fc:4", "a$b$c:11"}
    assert len(units) == 29 and "a$b$c:9" not in units
    assert "29 of 30 units" in figure.get_suptitle()
    assert "2 units estimated (hatched)" in figure.get_suptitle()
    effects.engine = "estimate"
    assert "29 units estimated" in effects.atlas().get_suptitle()


@pytest.mark.parametrize("shape", [(1, 1), (700, 2)])
def test_an_atlas_of_any_size(shape: tuple[int, int], tmp_path: Path) -> None:
    table = np.random.default_rng(0).normal(size=shape)
    figure = effects_of(table, {"clean": range(shape[1])}).atlas(1000, 1000, on="loss")
    written(figure, tmp_path)
    assert "nats of loss gained" in figure.axes[-1].get_xlabel()


def test_an_atlas_of_units_that_do_nothing() -> None:
    figure = effects_of(np.zeros((5, 6)), {"clean": range(6)}).atlas()
    figure.draw_without_rendering()


def test_the_atlas_is_dark_where_figures_are() -> None:
    effects, _, _ = planted_blocks()
    middle = {}
    for name in ("default", "dark_background"):
        with matplotlib.style.context(name):
            image = next(a for a in effects.atlas().axes if a.images).images[0]
            middle[name] = sum(image.get_cmap()(0.5)[:3]) / 3
    assert middle["default"] > 0.95 and middle["dark_background"] < 0.1


def test_an_atlas_of_nothing() -> None:
    effects, _, _ = planted_blocks()
    with pytest.raises(ValueError, match="units is 0; give a whole number from 1"):
        effects.atlas(0, 5)
    with pytest.raises(ValueError, match="on is 'accuracy'"):
        effects.atlas(on="accuracy")
    effects.done[:], effects.margin_change[:] = False, torch.nan
    with pytest.raises(ValueError, match="no unit has values yet; let the sweep go on"):
        effects.atlas()


def test_in_a_notebook_a_figure_shows_on_either_theme(tmp_path: Path) -> None:
    """No ground, and no ink that a light or a dark page swallows; a file is as it was."""
    figure = style.figure(3, 2)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#D55E00")
    axes.set(title="title", xlabel="units")
    pixels = np.asarray(Image.open(io.BytesIO(figure._repr_png_())).convert("RGBA"))
    assert pixels[2, 2, 3] == 0 and (pixels[..., 3] == 0).mean() > 0.5
    ink = pixels[pixels[..., 3] == 255][:, :3].astype(int)
    assert len(ink) and ink.max(1).min() > 90  # nothing black
    assert style._INK not in written(figure, tmp_path).upper()
    assert figure.get_facecolor() == axes.get_facecolor() == (1, 1, 1, 1)


def test_a_legend_stands_at_the_right_of_its_plot_and_covers_no_data() -> None:
    for panels in (1, 2):
        figure = style.figure(4 * panels, 3)
        for axes in np.ravel(figure.subplots(1, panels)):
            axes.plot([0, 1], [0, 1], label="a rather long label of a line")
            axes.plot([0, 1], [1, 0], label="$b$")
            style.legend(axes)
        figure.draw_without_rendering()
        plots = [axes.get_window_extent() for axes in figure.axes]
        for axes in figure.axes:
            told = axes.get_legend()
            assert told is not None and told.get_texts()[1].get_text() == "$b$"
            box = told.get_window_extent()
            assert not any(box.overlaps(plot) for plot in plots)
            assert box.x1 <= figure.bbox.x1 and axes.get_window_extent().width > 150
