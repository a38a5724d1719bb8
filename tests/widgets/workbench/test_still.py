"""The still picture draws names as text, and crosses where units are ablated."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import memviz as mv
from memviz.widgets.workbench._still import picture
from tests.support.widgets import small_study


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
        reading = mv.readout(study, units, random_draws=2)
        figure = picture(layers, scores.values, off, reading)
        assert f"{odd} · 7" in figure.axes[0].get_title(loc="left")
        figure.savefig(tmp_path / "figure.svg")
    crosses = figure.axes[0].lines[0].get_xydata()
    assert crosses.tolist() == [[2, 0]]
    picture(layers, np.full(7, np.nan), off, reading).savefig(tmp_path / "figure.svg")


def test_the_still_picture_shows_cells_random_units_and_a_row_of_examples(tmp_path: Path) -> None:
    study = small_study()
    session = mv.Session(study)
    with mv.workbench(session) as view:
        session.ablate("fc:0-2")
        view.controller.ready()
        figure = view._figure()
        assert figure is not None
        cells = np.asarray(figure.axes[0].images[0].get_array())
        assert cells[4, 4, 3] > 0  # before any score is known
        texts = [text.get_text() for text in figure.axes[-1].texts]
        assert len(texts) == len(figure.axes[-1].images) == 12
        assert all(text.startswith("given ") and "\nsays " in text for text in texts)
        change = mv.readout(study, "fc:0-2", random_draws=0).margin_change.abs()
        first = study.class_name(int(study.labels[int(change.argmax())]))
        assert texts[0].startswith(f"given {first}\n")
        figure.savefig(tmp_path / "figure.png")
