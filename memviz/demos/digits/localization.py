"""The figures of localization on the digits: one stored table per experiment and seed."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from memviz.probes.localization import layer_retraining, layer_rewinding
from memviz.probes.localization.critical import Method, critical_units
from memviz.tensor_files import atomic_write

from .. import _weight_files as weight_files
from . import _accounting as demo
from . import _study as digits
from ._accounting import MINUTES, SHIPPED_SEEDS, prepare

if TYPE_CHECKING:
    import pandas as pd

Search = tuple[str, Method, int]  # the intervention, the method, examples of each group
SEARCHES: tuple[Search, ...] = (
    ("zero", "first-order", 40),
    ("filter", "first-order", 40),
    ("zero", "exact", 10),
)
_EPOCH = 5  # to rewind to: clean examples are learned by then, wrong labels are not


def print_all(seeds: Sequence[int]) -> None:
    """Measure what is not stored yet, and print every table: mean over the seeds, and range."""
    for weight_decay in (demo.ACCOUNTING_WEIGHT_DECAY, digits.WEIGHT_DECAY):
        tables = [demo.accounting(seed, weight_decay).by_layer for seed in seeds]
        _print(f"accounting, whole training, weight decay {weight_decay:g}", tables)
    for buffers in (False, True):
        rewound = [_rewinding(seed, buffers) for seed in seeds]
        what = "parameters and statistics" if buffers else "parameters"
        _print(f"rewinding of {what} to epoch {_EPOCH}: accuracy", rewound)
    _print(
        "retraining from epoch 0 on clean images alone, the rest frozen: accuracy",
        [_retraining(seed) for seed in seeds],
    )
    for search in SEARCHES:
        how, method, n = search
        _print(
            f"critical units, MLP of width {demo.WIDTH}, {how} ablation, {method} search, "
            f"{n} images per group",
            [_units(seed, search) for seed in seeds],
        )


def _rewinding(seed: int, buffers: bool) -> pd.DataFrame:
    frame = kept_table(
        f"rewinding-seed{seed}",
        lambda: layer_rewinding(demo.accounting_study(seed)).frame,
    )
    frame = frame[frame["epoch"] == _EPOCH]
    values = "with_buffers" if buffers else "parameters"
    return frame.pivot_table(index="layer", columns="group", values=values, sort=False)


def _retraining(seed: int) -> pd.DataFrame:
    def make() -> pd.DataFrame:
        return layer_retraining(demo.accounting_study(seed)).by_layer.reset_index()

    return kept_table(f"retraining-seed{seed}", make).set_index("layer")


def _units(seed: int, search: Search) -> pd.DataFrame:
    """For each group: median number of critical units, and mean accuracy without them."""
    how, method, n = search

    def make() -> pd.DataFrame:
        study = demo.wide_study(seed)
        critical = critical_units(study, how=how, method=method, per_group=n, cap=200, seed=seed)
        return critical.frame.drop(columns="units")

    frame = kept_table(f"units-{how}-{method}-seed{seed}", make)
    by_group = frame.groupby("group", sort=False)
    table = by_group[["count", "random"]].quantile(0.5, interpolation="nearest")
    table.columns = ["median units", "median in random order"]
    table["flipped"] = by_group["flipped"].mean()
    for name in ("retained clean", "retained memorized", "retained test"):
        table[name] = by_group[name].mean()
    return table


def kept_table(name: str, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """A table from the cache folder; if missing, it is made and written there atomically."""
    import pandas as pd

    path = weight_files.cache_folder() / f"{demo.RECIPE}-{name}.csv"
    if path.is_file():
        return pd.read_csv(path)
    table = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as part:
        table.to_csv(part, index=False)
    return table


def _print(title: str, tables: Sequence[pd.DataFrame]) -> None:
    values = np.stack([table.to_numpy(float) for table in tables])
    mean, low, high = values.mean(0), values.min(0), values.max(0)
    first = tables[0]
    width = max(len(str(name)) for name in first.index)
    print(f"\n{title}; mean of {len(tables)} seeds (lowest to highest)")
    for row, name in enumerate(first.index):
        cells = "  ".join(
            f"{column} {mean[row, k]:.3g} ({low[row, k]:.3g} to {high[row, k]:.3g})"
            for k, column in enumerate(first.columns)
        )
        print(f"  {name:<{width}}  {cells}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures, or train the shipped tables again."""
    parser = argparse.ArgumentParser(prog="python -m memviz.demos.digits.localization")
    parser.add_argument("action", nargs="?", choices=("show", "train"), default="show")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SHIPPED_SEEDS))
    given = parser.parse_args(arguments)
    if given.action == "train":
        prepare(given.seeds)
        return
    print(
        f"{len(given.seeds)} seeds: about {MINUTES} minutes each on one core; results stored in "
        f"{weight_files.cache_folder()} are reused."
    )
    print_all(given.seeds)


if __name__ == "__main__":
    main()
