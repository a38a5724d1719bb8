"""All constructions on the same digits: every one fits, and few say anything of the others.

python -m memviz.demos.memorizers [--json] [--seeds 0 1 2]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

import numpy as np
import pandas as pd

from ._recipe import compare, pair, verified, yun_2500


def main(argv: Sequence[str] | None = None) -> None:
    """Print tables, or one JSON object: means over the seeds."""
    parser = argparse.ArgumentParser("python -m memviz.demos.memorizers")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    given = parser.parse_args(argv)
    tables, pairs, checked, broken, errors, units = [], [], 0, 0, [], []
    for seed in given.seeds:
        tables.append(compare(seed))
        memorizer, of_two = pair(seed=seed)
        pairs.append(of_two)
        found = verified(memorizer, seed, progress=not given.json)
        checked, broken = checked + found.checked, broken + found.broken
        wide = yun_2500(seed)
        errors.append(wide.error())
        units.append(wide.units)
    mean, of_two = _mean(tables), _mean(pairs)
    if given.json:
        columns = ("train", "test", "random_train", "random_test")
        ten = {name: mean[name].to_dict() for name in columns}
        two = {name: {"yu": float(of_two[name]["yu"])} for name in ("train", "test")}
        print(
            json.dumps(
                {
                    "seeds": given.seeds,
                    "yun_error_2500": float(np.mean(errors)),
                    "yun_units_2500": float(np.mean(units)),
                    "train": ten["train"] | two["train"],
                    "test": ten["test"] | two["test"],
                    "random_train": ten["random_train"],
                    "random_test": ten["random_test"],
                    "trained_on_the_pair": float(of_two["test"]["trained"]),
                    "certificates_checked": checked,
                    "certificates_broken": broken,
                }
            )
        )
        return
    print(f"ten digits, means of seeds {given.seeds}\n{mean.round(3).to_string()}\n")
    print(f"3 against 8\n{of_two.round(3).to_string()}\n")
    print(f"{checked:,} places on the edges of balls: {broken} certificates broken")
    print(f"2,500 points in {units[0]} hard-tanh units: largest error {np.mean(errors):.1e}")


def _mean(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    mean: pd.DataFrame = pd.concat(tables).groupby(level=0, sort=False).mean()
    return mean


if __name__ == "__main__":
    main()
