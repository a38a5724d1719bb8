"""Memorization against utility: the points are the means, the band is the null, names are text."""

from pathlib import Path

import pandas as pd
import pytest

from memviz.probes.deja_vu.figures import mitigation

ODD = r"$\frac{ <img src=x> _a_"


def table() -> pd.DataFrame:
    rows = [
        (
            direction,
            setting,
            seed,
            base - 0.1 * place + 0.01 * seed,
            0.5 + 0.02 * place,
            0.05 * seed,
        )
        for direction, base in (("masking", 0.4), (ODD, 0.3))
        for place, setting in enumerate((0.9, 0.0, 0.5))
        for seed in (-1, 0, 1)
    ]
    return pd.DataFrame(
        rows, columns=["direction", "setting", "seed", "PPG", "utility", "null PPG"]
    )


def test_points_are_means_in_the_order_given(tmp_path: Path):
    figure = mitigation(table())
    (axes,) = figure.axes
    lines = {line.get_label(): line for line in axes.lines if len(line.get_xdata()) == 3}
    assert list(lines) == ["masking", ODD]
    assert list(lines["masking"].get_ydata()) == pytest.approx([0.4, 0.3, 0.2])
    assert list(lines["masking"].get_xdata()) == pytest.approx([0.5, 0.52, 0.54])
    assert [text.get_text() for text in axes.texts][:3] == ["0.9", "0.0", "0.5"]
    (band,) = axes.patches
    assert (band.get_y(), band.get_y() + band.get_height()) == pytest.approx((-0.05, 0.05))
    figure.savefig(tmp_path / "figure.svg")
    assert "<img" not in (tmp_path / "figure.svg").read_text()


def test_crosses_reach_from_lowest_to_highest():
    (axes,) = mitigation(table()).axes
    segments = [tuple(s[:, 1]) for lines in axes.collections for s in lines.get_segments()]
    assert any(sorted(segment) == pytest.approx([0.39, 0.41]) for segment in segments)


def test_a_panel_a_utility_and_no_band_without_a_null():
    rows = table().drop(columns="null PPG").assign(probe=0.7)
    figure = mitigation(rows, utilities=("utility", "probe"))
    assert [axes.get_xlabel().split(" (")[0] for axes in figure.axes] == ["utility", "probe"]
    assert not any(axes.patches for axes in figure.axes)


def test_faults():
    with pytest.raises(ValueError, match="no column 'AUCG'"):
        mitigation(table(), "AUCG")
    with pytest.raises(ValueError, match="table is empty"):
        mitigation(table()[:0])
