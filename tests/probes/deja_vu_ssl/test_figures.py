"""The figure of quadrants: one result as bars, several over the epochs."""

from pathlib import Path

import pytest
import torch

from memviz.probes.deja_vu_ssl import SSLDejaVu, vote
from memviz.probes.deja_vu_ssl.figures import quadrants


def test_quadrants_as_bars_and_over_epochs(tmp_path: Path):
    generator = torch.Generator().manual_seed(0)
    public, labels = torch.randn(20, 4, generator=generator), torch.arange(20) % 3
    sides = [vote(torch.randn(20, 4, generator=generator), public, labels, 5) for _ in range(2)]
    result = SSLDejaVu(*sides, labels, SSLDejaVu(*sides, labels))
    (axes,) = result.plot().axes
    assert [bar.get_width() for bar in axes.patches] == list(result.shares().values())
    stacked = quadrants([result, result], epochs=[1, 50])
    assert len(stacked.axes[0].collections) == 4
    for figure in (result.plot(), stacked):
        figure.savefig(tmp_path / "figure.svg")
    with pytest.raises(ValueError, match="2 results for 1 epochs"):
        quadrants([result, result], epochs=[1])
    with pytest.raises(ValueError, match="no result to draw"):
        quadrants([])
