"""The curve of déjà vu against ablated units: it draws the curve's own numbers."""

from pathlib import Path

import numpy as np
import pytest

from memviz.probes.deja_vu.ablation import MEASURES, GapCurve
from memviz.probes.deja_vu.figures import gap_curve

ODD = r"$\frac{ <img src=x> _a_"


def made_up(held_out: bool = True, draws: int = 20) -> GapCurve:
    rng = np.random.default_rng(0)
    chosen, random = rng.random((4, 7)), rng.random((draws, 4, 7))
    if not held_out:
        chosen[:, 3:6] = np.nan
        random[:, :, 3:6] = np.nan
    return GapCurve([0, 4, 64, 1024], chosen, random, ODD)


def lines(axes):
    return {str(line.get_label()).split(",")[0]: line.get_ydata() for line in axes.lines}


@pytest.mark.parametrize(("panel", "name"), [(0, "PPG"), (1, "AUCG"), (2, "utility")])
def test_lines_and_band_are_the_curves(panel, name, tmp_path: Path):
    curve = made_up()
    figure = gap_curve(curve)
    axes, column = figure.axes[panel], MEASURES.index(name)
    assert axes.get_title(loc="left") == name
    drawn = lines(axes)
    assert np.array_equal(drawn["highest units"], curve.chosen[:, column])
    assert drawn["random units"] == pytest.approx(curve.random[:, :, column].mean(0))
    if name != "utility":
        expected = curve.chosen[:, MEASURES.index(f"held-out {name}")]
        assert np.array_equal(drawn["highest units: held-out pairs"], expected)
    corners = axes.collections[0].get_paths()[0].vertices
    for place in range(4):
        heights = corners[corners[:, 0] == place, 1]
        inside = np.percentile(curve.random[:, place, column], [2.5, 97.5])
        assert [heights.min(), heights.max()] == pytest.approx(inside)
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0", "4", "64", "1,024"]
    figure.savefig(tmp_path / "figure.svg")


def test_nothing_is_cut_off_the_utility():
    assert gap_curve(made_up()).axes[2].get_ylim()[0] == 0


def test_the_name_is_text(tmp_path: Path):
    figure = gap_curve(made_up())
    assert figure.get_suptitle() == f"by {ODD}"
    figure.savefig(tmp_path / "figure.svg")
    assert "<img" not in (tmp_path / "figure.svg").read_text()


def test_without_held_out_pairs_and_with_one_draw():
    figure = gap_curve(made_up(held_out=False, draws=1))
    told = [text.get_text() for text in figure.legends[0].get_texts()]
    assert told == ["random units, mean of 1 draw", "highest units"]
