"""Figures of déjà vu: they draw what was found, and nobody's text is taken for markup."""

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from memviz.probes.deja_vu import DejaVu, Embedded, two_model_test
from memviz.probes.deja_vu import figures as plots
from memviz.probes.deja_vu.figures import OTHER, OWN, neighbours

ODD = r"$\frac{ <img src=x> _a_"


def result(held_out: bool = True, name: str = "target") -> DejaVu:
    generator = torch.Generator().manual_seed(0)

    def rows(n: int) -> torch.Tensor:
        return torch.randn(n, 6, generator=generator)

    def masks(n: int) -> torch.Tensor:
        return torch.rand(n, 5, generator=generator) < 0.4

    sides = [
        Embedded(rows(40), rows(30), rows(40) if held_out else None, words)
        for words in (name, "reference")
    ]
    shown = masks(40) if held_out else None
    return two_model_test(*sides, masks(40), masks(30), held_out_objects=shown, k=5, top=3)


def written(figure: Figure, folder: Path) -> str:
    figure.savefig(folder / "figure.svg")
    return (folder / "figure.svg").read_text()


def test_the_curves_are_those_of_the_recalls(tmp_path: Path):
    found = result()
    curves, bars = found.plot().axes
    for line, side in zip(curves.lines, (found.target, found.reference), strict=True):
        t, share = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
        recall = side.recall[found.scored].numpy()
        assert np.trapezoid(share, t) == pytest.approx(recall.mean())
        inside = (t[:-1] + t[1:]) / 2
        steps = np.diff(t) > 0
        expected = [(recall >= x).mean() for x in inside[steps]]
        assert share[:-1][steps] == pytest.approx(expected)
    assert f"AUCG {found.aucg:+.3f}" in curves.get_title(loc="left")
    pairs, null = bars.lines[:2]
    assert list(pairs.get_xdata()) == [found.ppg, found.prg, found.aucg]
    assert found.null is not None and null.get_xdata()[0] == found.null.ppg
    written(found.plot(), tmp_path)


def test_names_are_text(tmp_path: Path):
    figure = plots.gaps(result(held_out=False, name=ODD), draws=20)
    assert figure.axes[0].get_legend().get_texts()[0].get_text() == ODD
    assert len(figure.axes[1].get_legend().get_texts()) == 1
    assert "<img" not in written(figure, tmp_path)


def test_a_sorting_and_its_null(tmp_path: Path):
    found = result()
    tables = {by: found.most_memorized(by, (0.1, 0.5, 1)) for by in ("min_dist", "crct_pred")}
    (axes,) = plots.most_memorized(tables, "f_gap").axes
    assert list(axes.lines[0].get_ydata()) == tables["min_dist"]["f_gap"].tolist()
    assert list(axes.lines[1].get_ydata()) == tables["min_dist"]["null_f_gap"].tolist()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["min_dist", "crct_pred"]
    written(plots.most_memorized(tables), tmp_path)
    with pytest.raises(ValueError, match="no table to draw"):
        plots.most_memorized({})


def test_a_panel_for_each_number_of_labels(tmp_path: Path):
    table = result().curve((1, 3, 5), (None, 2))
    figure = plots.curve(table)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["all labels", "top 2 labels"]
    assert list(figure.axes[1].lines[0].get_ydata()) == table["PPG"].tolist()[3:]
    written(figure, tmp_path)


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 3)])
def test_neighbours_carry_colour_and_mark(shape, tmp_path: Path):
    found = result()
    row = int(found.order("recall_gap")[0])
    public = np.random.default_rng(0).random((30, *shape))
    names = [f"{ODD} {i}" for i in range(5)]
    figure = neighbours(found, row, public[0], public, names, caption=ODD, shown=3)
    panels = np.reshape(np.array(figure.axes, dtype=object), (4, 4))
    assert figure.get_suptitle() == ODD
    for line, side in enumerate((found.target, found.reference)):
        for place in range(3):
            image = int(side.neighbours.ids[row, place])
            told = [(t.get_text()[0], t.get_color()) for t in panels[2 * line + 1, place + 1].texts]
            own = found.objects[row][found.public_objects[image]].tolist()
            assert told == [("●", OWN[0]) if mine else ("○", OTHER[0]) for mine in own]
    assert "<img" not in written(figure, tmp_path)
