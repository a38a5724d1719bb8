"""The still picture draws names as text, and crosses where units are ablated."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import memviz as mv
from memviz.widgets.workbench._still import picture


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
