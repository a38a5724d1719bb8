"""Figures of localization: names of layers and groups are drawn as they are."""

from pathlib import Path

import numpy as np
import pytest

from memviz.probes.localization import GradientAccounting, Retraining, Rewinding

ODD = r"$\x$ <img src=x>"


@pytest.mark.parametrize("name", ["fc", ODD])
def test_odd_names_are_text(name: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    layers, groups = (name, "head"), (name, "clean")
    table = rng.random((2, 3, 2))
    results = [
        Rewinding(layers, (0, 1, 2), groups, table, table, table[0, 0], table[0]),
        Retraining({layer: rng.random((4, 2)) for layer in layers}, groups, {}, 0, name),
        GradientAccounting(
            layers, (0, 1, 2), *rng.random((3, 3, 2)), *rng.random((3, 5, 3, 2)), 0.1
        ),
    ]
    for result in results:
        figure = result.plot()
        figure.savefig(tmp_path / "figure.svg")
        text = (tmp_path / "figure.svg").read_text()
        assert "<img" not in text
        assert name.split()[0] in text
