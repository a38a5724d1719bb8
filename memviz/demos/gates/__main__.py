"""Figures of both gate networks over three seeds.

python -m memviz.demos.gates [--json] [--seeds 0 1 2]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

import pandas as pd

from ._measures import ablation, margins, ranking, record
from ._recipe import SHIPPED_SEEDS, VARIANTS, curves, design, load


def main(argv: Sequence[str] | None = None) -> None:
    """Print tables, or one JSON object: means over the seeds."""
    parser = argparse.ArgumentParser("python -m memviz.demos.gates")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SHIPPED_SEEDS))
    given = parser.parse_args(argv)
    if given.json:
        mean = pd.DataFrame([record(seed, progress=False) for seed in given.seeds]).mean()
        found: dict[str, object] = {"seeds": given.seeds}
        for name, value in mean.items():
            part, _, group = str(name).partition(" ")
            if group:
                found.setdefault(part, {})[group] = value  # type: ignore[index]
            else:
                found[part] = value
        print(json.dumps(found))
        return
    for seed in given.seeds:
        print(f"seed {seed}\n")
        for variant in VARIANTS:
            print(f"design, {variant}: share of the test digits right")
            _, table = design(seed, variant)
            print(_side_by_side(table[table.group == "test"], "given"), "\n")
        study = load(seed)
        print(f"{study.summary}\nshare predicted as the given and as the true label, hard")
        hard = curves(seed)
        hard = hard[(hard.reading == "hard") & hard.epoch.isin((1, 5, 10, 50, 100, 200, 500, 1000))]
        print(hard.pivot(index="step", columns="group", values=["given", "true"]).round(3), "\n")
        print(f"median vote margins: {margins(study)}\n")
        print(ablation(study, ranking(study), seed=seed).round(3).to_string(index=False), "\n")


def _side_by_side(table: pd.DataFrame, value: str) -> str:
    return str(table.pivot(index="step", columns="reading", values=value).round(3))


if __name__ == "__main__":
    main()
