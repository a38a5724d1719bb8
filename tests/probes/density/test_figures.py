"""Figures of memorization in generative models show what they are given."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from memviz.probes.density import cross_fit, figures

N = 40


def fit(inputs: Tensor, chosen: Tensor, seed: int) -> dict[int, Tensor]:
    noise = torch.randn(N, generator=torch.Generator().manual_seed(seed)) - 20
    gain = torch.zeros(N).index_fill_(0, chosen[chosen < 3], 9.0)
    return {1: noise, 2: noise + gain}


@pytest.fixture(scope="module")
def fits():
    return cross_fit(torch.zeros(N), fit, folds=4, repeats=3, progress=False)


def test_quantiles_are_drawn_for_each_rate(fits):
    upper, lower = figures.against_epochs({0.1: fits, 0.2: fits}).axes
    table = fits.quantiles([0.95])
    assert upper.lines[0].get_ydata().tolist() == table["q.95"].tolist()
    assert upper.lines[1].get_ydata().tolist() == table["null q.95"].tolist()
    assert lower.lines[0].get_ydata().tolist() == table["held-out log p"].tolist()
    with pytest.raises(ValueError, match="give at least one"):
        figures.against_epochs({})


def test_the_histogram_marks_examples_and_the_sheet_has_the_highest_first(fits):
    scores = fits.memorization()
    assert set(scores.top(3, of="examples").tolist()) == {0, 1, 2}
    axes = figures.histogram(scores, {"planted": np.arange(3)}).axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()][-1] == "planted"
    panels = figures.extremes(np.zeros((N, 8, 8)), scores, 4).axes
    assert len(panels) == 12
    assert panels[8].get_xlabel() == f"{scores.values.max():.1f}"
    assert panels[0].get_xlabel() == f"{scores.values.min():.1f}"


def test_shares_of_high_m_and_ratios_are_drawn(fits):
    m = fits.memorization().values
    bars, points = figures.against_log_p(fits.in_training().numpy(), m, bins=5).axes
    assert sum(bar.get_height() for bar in bars.patches) == N
    assert points.lines[0].get_ydata().max() <= 1
    assert "correlation 1.00" in figures.against_ratio(m, m).axes[0].get_title(loc="left")
