"""Measures of information on families of models: what memorizing does to entropy and redundancy.

    python -m memviz.demos.families

trains what is not stored yet (``memviz.demos.families``; a few minutes on one processor for three
seeds) and prints, for each family, the measures on held-out examples, mean and standard deviation
over the seeds, and how they rank the models. As in the paper, activations of the digit perceptrons
are read before the ReLU with 100 bins, those of the circles after it with 20; pairs are of all
hidden units.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from memviz.probes.information import Where, rank_models

from . import _families as model_families
from ._measures import measures

if TYPE_CHECKING:
    import pandas as pd

# Bins and place in the paper, where they are not 100 and before the ReLU.
_OTHERWISE: dict[str, tuple[int, Where]] = {"circles": (20, "after")}
# What the paper's hypotheses expect of the model with the better held-out accuracy.
_BETTER: dict[str, dict[str, Literal["high", "low"]]] = {
    "coloured digits": {"pairs": "low", "entropy": "high"},
    "shuffled digits": {"pairs": "high", "entropy": "low"},
}


def rankings(table: pd.DataFrame, family: str) -> dict[str, float]:
    """Kendall's τ of each measure with held-out accuracy, positive where the paper expects it."""
    better = _BETTER[family]
    accuracy = dict(table["test accuracy"])
    return {
        name: rank_models(dict(table[name]), accuracy, better[name.split()[0]]).tau
        for name in table.columns
        if name.split()[0] in better
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Train what is missing and print the tables."""
    import pandas as pd

    parser = argparse.ArgumentParser("python -m memviz.demos.families")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--families", nargs="+", default=list(model_families.FAMILIES))
    parser.add_argument("--jobs", type=int, help="parallel trainings, as in joblib (default: 1)")
    given = parser.parse_args(argv)
    for family in given.families:
        how = _OTHERWISE.get(family, (100, "before"))
        tables = [
            measures(model_families.load(family, seed, given.jobs), *how) for seed in given.seeds
        ]
        words = model_families.FAMILIES[family].words
        print(f"\n{family}, by {words}; {how[1]} the ReLU, {how[0]} bins; seeds {given.seeds}")
        print(_mean_and_spread(tables))
        if family not in _BETTER:
            continue
        taus = pd.DataFrame([rankings(table, family) for table in tables], given.seeds)
        taus.loc["means"] = rankings(pd.concat(tables).groupby(level=0).mean(), family)
        print(f"Kendall's tau with test accuracy over {len(tables[0])} models, by seed")
        print(taus.T.round(2).to_string())


def _mean_and_spread(tables: Sequence[pd.DataFrame]) -> str:
    """Measures as rows, models as columns."""
    values = np.stack([table.to_numpy() for table in tables])
    cells = [
        [f"{mean:.3f} ±{spread:.3f}" for mean, spread in zip(*row, strict=True)]
        for row in zip(values.mean(0).T, values.std(0).T, strict=True)
    ]
    frame = type(tables[0])(cells, index=tables[0].columns, columns=tables[0].index)
    return str(frame.to_string())


if __name__ == "__main__":
    main()
